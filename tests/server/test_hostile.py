"""What nobody should send: every one is told, in the API's shape, what is wrong, and the server goes on."""

import base64
import io
import re
import socket
import struct
import zlib
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import limner

JSON = {"Content-Type": "application/json"}


def shape(answer, status, param=None):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] in ("invalid_request_error", "rate_limit_error", "server_error")
    assert error["message"]
    assert "\n" not in error["message"]
    # Neither a trace nor where limner lies.
    assert not re.search(r"Traceback|site-packages|\.py\b", answer.text)
    assert str(Path(limner.__file__).parent) not in answer.text
    assert error["param"] == param
    return error["message"]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A PNG of a few kilobytes that says it is as large as this, and is."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(width + 1)) for _ in range(min(height, 400))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def png(mode="RGBA", size=(16, 16), colour=0, kind="PNG"):
    packed = io.BytesIO()
    Image.new(mode, size, colour).save(packed, kind)
    return packed.getvalue()


BODIES = {
    "nothing": (b"", None),
    "no json": (b"{", None),
    "a list": (b"[]", None),
    "a word": (b'"a pear"', None),
    "null": (b"null", None),
    "deep": (b"[" * 100_000, None),
    "no prompt": (b"{}", "prompt"),
    "no words": (b'{"prompt": ""}', "prompt"),
    "spaces": (b'{"prompt": " \\n"}', "prompt"),
    "cleaned away": (b'{"prompt": "&nbsp;"}', "prompt"),
    "a number": (b'{"prompt": 5}', "prompt"),
    "several": (b'{"prompt": ["a", "b"]}', "prompt"),
    "too long": (b'{"prompt": "' + b"a" * 1001 + b'"}', "prompt"),
    "half a character": (b'{"prompt": "\\ud800"}', "prompt"),
    "none": (b'{"prompt": "a", "n": 0}', "n"),
    "eleven": (b'{"prompt": "a", "n": 11}', "n"),
    "less than none": (b'{"prompt": "a", "n": -1}', "n"),
    "n in quotes": (b'{"prompt": "a", "n": "2"}', "n"),
    "yes": (b'{"prompt": "a", "n": true}', "n"),
    "one and a half": (b'{"prompt": "a", "n": 1.5}', "n"),
    "huge n": (b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", None),
    "no size": (b'{"prompt": "a", "size": "large"}', "size"),
    "other size": (b'{"prompt": "a", "size": "1792x1024"}', "size"),
    "size of another script": ('{"prompt": "a", "size": "٦٤x٦٤"}'.encode(), "size"),
    "number for size": (b'{"prompt": "a", "size": 256}', "size"),
    "format": (b'{"prompt": "a", "response_format": "jpeg"}', "response_format"),
    "seed below": (b'{"prompt": "a", "seed": -1}', "seed"),
    "seed beyond": (b'{"prompt": "a", "seed": 9223372036854775808}', "seed"),
    "last seed goes beyond": (b'{"prompt": "a", "n": 2, "seed": 9223372036854775807}', "seed"),
    "nan": (b'{"prompt": "a", "guidance": NaN}', "guidance"),
    "infinite": (b'{"prompt": "a", "guidance": Infinity}', "guidance"),
    "guidance": (b'{"prompt": "a", "guidance": 1e9}', "guidance"),
    "no steps": (b'{"prompt": "a", "steps": 0}', "steps"),
    "many steps": (b'{"prompt": "a", "steps": 1001}', "steps"),
    "sketches without a stream": (b'{"prompt": "a", "partial_images": 1}', "partial_images"),
    "four sketches": (b'{"prompt": "a", "stream": true, "partial_images": 4}', "partial_images"),
    "stream": (b'{"prompt": "a", "stream": "yes"}', "stream"),
    "see-through": (b'{"prompt": "a", "background": "transparent"}', "background"),
    "jpeg": (b'{"prompt": "a", "output_format": "jpeg"}', "output_format"),
    "unknown": (b'{"prompt": "a", "sede": 5}', "sede"),
    "misspelt": (b'{"promt": "a"}', "promt"),
    "unknown and long": (b'{"prompt": "a", "' + b"x" * 9999 + b'": 5}', "x" * 40),
    "unknown and half": (b'{"prompt": "a", "\\ud800": 5}', None),
    "path for model": (b'{"prompt": "a", "model": "../../etc/passwd"}', "model"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_says_nothing_to_be_painted(http, name):
    body, param = BODIES[name]
    answer = http.post("/v1/images/generations", content=body, headers=JSON)
    if name == "unknown and half":
        assert answer.status_code == 400
        assert "error" in answer.json()
    else:
        shape(answer, 404 if name == "path for model" else 400, param)


def test_words_in_another_coat_are_no_json(http):
    answer = http.post(
        "/v1/images/generations", content=b'{"prompt": "a"}', headers={"Content-Type": "text/plain"}
    )
    shape(answer, 400)


FILES = {
    "no picture": b"GIF89a not a picture",
    "nothing": b"",
    "a gif": png(mode="P", kind="GIF"),
    "an icon": png(kind="ICO"),
    "a page": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "cut": png()[:40],
    "a bomb": bomb(60_000, 60_000),
    "a long bomb": bomb(20_000, 4),
    "more pixels than are taken": bomb(5000, 5000),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_file_that_is_no_picture(http, photo, name, field):
    files = {"image": photo[0], "mask": photo[1], field: FILES[name]}
    shape(http.post("/v1/images/edits", data={"prompt": "a"}, files=files), 400, field)


def test_masks_that_mark_nothing_or_everything_or_something_else(http, photo):
    def edit(mask):
        return http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": photo[0], "mask": mask})

    assert "16×16" in shape(edit(png()), 400, "mask")
    assert "nothing transparent" in shape(edit(png(size=(48, 48), colour="black")), 400, "mask")
    assert "throughout" in shape(edit(png(size=(48, 48), colour=(0, 0, 0, 0))), 400, "mask")
    answer = http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": photo[0]})
    assert "there is no mask" in shape(answer, 400, "image")


def test_forms_that_are_none(http, photo):
    image = {"image": photo[0]}
    shape(http.post("/v1/images/edits", json={"prompt": "a"}), 415)
    shape(http.post("/v1/images/variations", data={"n": "1"}), 415)
    shape(http.post("/v1/images/variations", files={"mask": photo[0]}), 400, "mask")
    shape(http.post("/v1/images/edits", files=image), 400, "prompt")
    shape(http.post("/v1/images/edits", data={"prompt": "a", "n": "two"}, files=image), 400, "n")
    shape(http.post("/v1/images/edits", data={"prompt": "a", "paint": "x"}, files=image), 400, "paint")
    two = [("image[]", photo[0]), ("image[]", photo[0])]
    assert "more than once" in shape(
        http.post("/v1/images/edits", data={"prompt": "a"}, files=two), 400, "image"
    )
    shape(http.post("/v1/images/edits", files={"image": photo[0], "prompt": b"a"}), 400, "prompt")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b"junk",
        b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
    ):
        assert http.post("/v1/images/variations", content=body, headers=broken).status_code == 400
    without = {"Content-Type": "multipart/form-data"}
    assert http.post("/v1/images/variations", content=b"a", headers=without).status_code == 400
    many = [(f"f{number}", (None, "x")) for number in range(100)]
    assert http.post("/v1/images/variations", files=many).status_code == 400


def test_embeddings_of_what_cannot_be_embedded(http):
    def embed(sent, **more):
        return http.post("/v1/embeddings", json={"input": sent, **more})

    for sent in (
        "",
        [],
        [""],
        ["a"] * 257,
        [1, 2, 3],
        [[1]],
        5,
        None,
        "data:text/plain;base64,YQ==",
        "data:,",
    ):
        shape(embed(sent), 400, "input")
    broken = base64.b64encode(b"no picture").decode()
    shape(embed(f"data:image/png;base64,{broken}"), 400, "input")
    shape(embed(f"data:image/png;base64,{base64.b64encode(bomb(60_000, 60_000)).decode()}"), 400, "input")
    # Each is small, and five of the largest that are taken are too much at once.
    large = f"data:image/png;base64,{base64.b64encode(png(mode='L', size=(4096, 4096))).decode()}"
    assert "pixels in all" in shape(embed([large] * 5), 400, "input")
    shape(embed("a", dimensions=3), 400, "dimensions")
    shape(embed("a", model="dalle2"), 404, "model")


@pytest.mark.parametrize(
    "path",
    [
        *("/pictures/../../../etc/passwd", "/pictures/..%2f..%2fetc%2fpasswd", "/pictures/%2e%2e/secret"),
        *("/pictures/....//secret", "/pictures/%00", "/pictures/", "/pictures", "/pictures/.png"),
        *("/pictures/C:%5Cboot.ini", "/pictures/%252e%252e%252fsecret", "/v1/models/..%2f..%2fetc"),
        *("/static/../secret", "//etc/passwd", "/v1", "/v1/images", "/nothing", "/pictures/" + "a" * 5000),
    ],
)
def test_paths_that_lead_elsewhere_lead_nowhere(address, path):
    """Sent as they are: a client that is less polite than ours does not tidy them up."""
    with httpx.Client() as http:
        request = http.build_request("GET", address)
        request.url = request.url.copy_with(raw_path=path.encode())
        shape(http.send(request), 404)


def test_what_is_not_for_a_method(http):
    shape(http.get("/v1/images/generations"), 405)
    shape(http.delete("/v1/models"), 405)


@pytest.mark.parametrize("host", [b"x:y", b"a b", b"//else", b"[::1", b"", b"\xff", b"x" * 3000])
def test_a_host_that_is_none_breaks_nothing(address, host):
    """Addresses of pictures begin with it."""
    name, port = address.removeprefix("http://").split(":")
    body = b'{"prompt": "a", "size": "64x64", "steps": 1}'
    with socket.create_connection((name, int(port)), timeout=120) as asks:
        asks.sendall(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        said = b"".join(iter(lambda: asks.recv(65536), b""))
    assert said.split()[1] in (b"200", b"400"), said[:300]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.dictionaries(
        st.sampled_from(
            ["prompt", "n", "size", "seed", "model", "stream", "response_format", "guidance", "x"]
        ),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
        min_size=1,
    )
)
def test_any_json_is_painted_or_refused_in_shape(http, body):
    """Property: nothing that is valid JSON makes the server fail. What would be painted is not."""
    import json

    sent = json.dumps({**body, "size": "7x7"})
    answer = http.post("/v1/images/generations", content=sent, headers=JSON)
    assert answer.status_code in (400, 404)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_what_is_well_is_still_served_after_all_that(http):
    answer = http.post("/v1/images/generations", json={"prompt": "a", "size": "64x64", "steps": 1})
    assert answer.status_code == 200
