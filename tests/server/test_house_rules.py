"""Keys, bounds, company and the end: what a server promises to all that ask at once."""

import base64
import io
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from limner.pipelines import PaintSettings

SRC = Path(__file__).parents[2] / "src"
KEY = "sk-a-long-secret"
QUICK = {"prompt": "a pear", "size": "64x64", "steps": 2, "response_format": "b64_json"}
# Something that takes a while: until it is stopped, for whoever tests it does not wait.
LONG = {"prompt": "a pear", "size": "64x64", "steps": 1000, "n": 10}


def opened(b64):
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def gauge(http, name):
    (line,) = (one for one in http.get("/metrics").text.splitlines() if one.startswith(f"{name} "))
    return float(line.split()[-1])


def asking(address, body):
    """A connection on which pictures are waited for."""
    host, port = address.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    asks = socket.create_connection((host, int(port)))
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    asks.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return asks


def test_sixteen_at_once_each_get_their_own(start, painters):
    """In company a picture is what it is alone, but for the last bit of sums; its file says whose it is."""
    with start("dalle2") as address, httpx.Client(base_url=address, timeout=300) as http:

        def ask(number):
            prompt = ("a pear", "two fish", "a large green fish")[number % 3]
            body = {**QUICK, "prompt": prompt, "seed": 100 * number, "n": 1 + number % 2}
            answer = http.post("/v1/images/generations", json=body).json()
            return prompt, 100 * number, [opened(one["b64_json"]) for one in answer["data"]]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(16)))
        batches = http.get("/metrics").text
    for prompt, seed, pictures in answers:
        assert [(one.text["prompt"], one.text["seed"]) for one in pictures] == [
            (prompt, str(seed + number)) for number in range(len(pictures))
        ]
        alone = painters["dalle2"].paint(
            prompt, count=len(pictures), size=64, seed=seed, settings=PaintSettings(steps=2)
        )
        for one, expected in zip(pictures, alone, strict=True):
            apart = np.abs(np.asarray(one, int) - np.asarray(expected, int))
            assert apart.max() <= 1
            assert (apart > 0).mean() < 0.01
    (count,) = (line for line in batches.splitlines() if line.startswith("limner_batch_pictures_count"))
    # They were painted in fewer calls than there were requests.
    assert float(count.split()[-1]) < 16


def test_past_the_bound_is_told_when_to_come_again_and_leaving_frees_a_place(start):
    with start("dalle2", waiting=1) as address, httpx.Client(base_url=address, timeout=300) as http:
        first = asking(address, LONG)
        until(lambda: gauge(http, "limner_painting_requests") == 1)
        second = asking(address, LONG)
        until(lambda: gauge(http, "limner_waiting_requests") == 1)
        full = http.post("/v1/images/generations", json=QUICK)
        assert full.status_code == 429
        assert full.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(full.headers["retry-after"]) <= 60
        # It answers all else meanwhile.
        assert http.get("/v1/models").status_code == 200
        first.close()
        second.close()
        # Both are gone, so nobody's thousand steps are walked to the end.
        until(lambda: gauge(http, "limner_waiting_requests") + gauge(http, "limner_painting_requests") == 0)
        assert http.post("/v1/images/generations", json=QUICK).status_code == 200


def test_a_stream_that_is_left_is_painted_no_further(start):
    with start("dalle2") as address, httpx.Client(base_url=address, timeout=300) as http:
        with http.stream("POST", "/v1/images/generations", json={**LONG, "stream": True}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            until(lambda: gauge(http, "limner_painting_requests") == 1)
        until(lambda: gauge(http, "limner_painting_requests") == 0)


def test_without_the_key_nothing_but_the_door(start):
    with start("dalle2", keys=("another-key", KEY)) as address:
        with httpx.Client(base_url=address, timeout=120) as http:
            for headers in (
                {},
                {"Authorization": KEY},
                {"Authorization": f"Basic {KEY}"},
                {"Authorization": "Bearer"},
                {"Authorization": f"Bearer {KEY[:-1]}"},
                {"Authorization": f"Bearer {KEY}x"},
                {"Authorization": "Bearer schlüssel".encode("latin-1")},
                {"X-Api-Key": KEY},
            ):
                for method, path in (
                    ("POST", "/v1/images/generations"),
                    ("POST", "/v1/embeddings"),
                    ("GET", "/v1/models"),
                    ("GET", "/metrics"),
                    ("GET", "/nothing"),
                ):
                    answer = http.request(method, path, headers=headers, content=b"junk")
                    assert answer.status_code == 401
                    assert answer.json()["error"]["code"] == "invalid_api_key"
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert KEY not in answer.text
            assert http.get("/healthz").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{address}/v1", api_key="wrong").models.list()
        right = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY)
        made = right.images.generate(prompt="a pear", size="64x64", extra_body={"steps": 1})
        # Its name is the key to a picture.
        assert httpx.get(made.data[0].url).headers["content-type"] == "image/png"


def test_a_body_is_stopped_at_its_bound_whether_or_not_it_says_its_size(start):
    with start("dalle2", body=10_000) as address, httpx.Client(base_url=address) as http:
        said = http.post("/v1/images/generations", content=b"x" * 10_001)
        assert said.status_code == 413
        assert said.json()["error"]["code"] == "body_too_large"

        def drip():
            for _ in range(100):
                yield b" " * 1000

        plain = {"Content-Type": "application/json"}
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        for path, headers in (("generations", plain), ("edits", form)):
            unsaid = http.post(f"/v1/images/{path}", content=drip(), headers=headers)
            assert unsaid.status_code == 413
            assert "10,000 bytes" in unsaid.json()["error"]["message"]


def test_pictures_go_when_their_time_is_up(start):
    with start("dalle2", lifetime=0.5) as address, httpx.Client(base_url=address, timeout=120) as http:
        body = {key: value for key, value in QUICK.items() if key != "response_format"}
        url = http.post("/v1/images/generations", json=body).json()["data"][0]["url"]
        time.sleep(1)
        assert http.get(url).status_code == 404


def test_told_to_stop_it_finishes_what_it_paints_and_says_so_to_the_rest(command, lines, tmp_path):
    process, address = command("--models", f"mine={lines['dalle2']}", "--device", "cpu")
    with httpx.Client(base_url=address, timeout=300) as http, ThreadPoolExecutor(2) as pool:
        assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["mine", "clip"]
        painted = pool.submit(http.post, "/v1/images/generations", json={**QUICK, "steps": 300, "n": 8})
        until(lambda: gauge(http, "limner_painting_requests") == 1)
        waits = pool.submit(http.post, "/v1/images/generations", json={**QUICK, "steps": 3})
        until(lambda: gauge(http, "limner_waiting_requests") == 1)
        process.send_signal(signal.SIGTERM)
        refused = waits.result(120)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "server_stopping"
        assert "retry-after" in refused.headers
        assert len(painted.result(300).json()["data"]) == 8
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    # Its gallery is gone as well.
    assert not list(tmp_path.glob("limner-gallery-*"))


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_needs_no_key(name):
    from limner.cli.serve import Serve, loopback

    try:
        assert loopback(name)
    except AssertionError:
        if name in ("127.0.0.1", "127.1.2.3"):
            raise
        pytest.skip(f"{name} is not known here")
    assert Serve(host=name)._keys() == ()


def test_other_machines_do():
    from limner.cli.serve import Serve

    for host in ("0.0.0.0", "::", "192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(ValueError, match="there is no key: give --api-key, or --no-key"):
            Serve(host=host)._keys()
    assert Serve(host="0.0.0.0", no_key=True)._keys() == ()
    assert Serve(host="0.0.0.0", api_key=f"{KEY}, another-key")._keys() == (KEY, "another-key")


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(capsys):
    from limner.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert f"cannot listen at 127.0.0.1:{port}" in said.err
