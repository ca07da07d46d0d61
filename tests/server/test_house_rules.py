"""Keys, bounds, company and the end: what a server promises to all that ask at once."""

import asyncio
import base64
import io
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from limner.errors import LimnerError
from limner.pipelines import PaintSettings
from limner.server import Service, create_app
from limner.server.painters import served

JSON = {"Content-Type": "application/json"}
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


def test_a_stream_whose_client_is_gone_before_it_begins_is_not_painted(painters):
    """The body, then that nobody is there, while the head of the answer still waits."""
    service = Service([served("dalle2", painters["dalle2"])])
    app = create_app(service)

    async def ask():
        rest = [{"type": "http.request", "body": json.dumps({**LONG, "stream": True}).encode()}]

        async def receive():
            return rest.pop() if rest else {"type": "http.disconnect"}

        async def send(_):
            # As where a connection is full of what was answered before.
            await asyncio.sleep(0.1)

        head = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
        where = {"path": "/v1/images/generations", "raw_path": b"", "query_string": b"", "root_path": ""}
        asks = {"method": "POST", "scheme": "http", "headers": [(b"content-type", b"application/json")]}
        await app(
            {**head, **where, **asks, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}, receive, send
        )
        end = time.monotonic() + 60
        while service.painting.waiting + service.painting.working:
            assert time.monotonic() < end, "it is painted for nobody"
            await asyncio.sleep(0.02)

    try:
        asyncio.run(ask())
    finally:
        service.close()
        service.end()


def test_pages_of_others_do_not_reach_what_listens_to_this_machine_alone(serve, painters):
    """Neither by a name of theirs that leads here, nor by a form that a browser sends for them."""
    service = Service([served("dalle2", painters["dalle2"])], hosts=("localhost", "paint.example"))
    with serve(service) as address, httpx.Client(base_url=address) as http:
        port = address.rpartition(":")[2]
        for name in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", "paint.example", f"[::1]:{port}"):
            assert http.get("/v1/models", headers={"Host": name}).status_code == 200
        for name in (
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "[::1",
        ):
            refused = http.get("/v1/models", headers={"Host": name})
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "wrong_host"
        for page in ("http://localhost:3000", "https://paint.example", "http://127.0.0.1"):
            assert http.get("/v1/models", headers={"Origin": page}).status_code == 200
        for page in ("https://evil.example", "null"):
            asked = http.post("/v1/images/edits", headers={"Origin": page}, files={"image": b""})
            assert asked.status_code == 403


def test_which_names_a_server_answers_to():
    from limner.cli.serve import Serve

    assert Serve()._hosts(()) == ("localhost", "127.0.0.1")
    assert Serve(url="https://Paint.example/x")._hosts(()) == ("localhost", "127.0.0.1", "paint.example")
    assert Serve()._hosts((KEY,)) == Serve(host="0.0.0.0", no_key=True)._hosts(()) == ()


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

        def drip(head):
            yield head
            for _ in range(100):
                yield b" " * 1000

        plain = {"Content-Type": "application/json"}
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        # A form that is one as far as it goes: else it is refused as none, if its first bytes come alone.
        field = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
        for path, headers, head in (("generations", plain, b" "), ("edits", form, field)):
            unsaid = http.post(f"/v1/images/{path}", content=drip(head), headers=headers)
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
        odd = {**QUICK, "prompt": "a \x1b[31m 日本 pear " * 40}
        assert http.post("/v1/images/generations", json=odd).status_code == 200
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
    # Not even of what it could not read.
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    # Its gallery is gone as well.
    assert not list(tmp_path.glob("limner-gallery-*"))


def test_one_key_that_fills_the_line_does_not_keep_another_out(start):
    """The greedy one's youngest goes, with 429, and the other's turn is the next."""
    keys = ("greedy-key", "modest-key")
    greedy, modest = ({"Authorization": f"Bearer {key}"} for key in keys)
    with (
        start("dalle2", keys=keys, waiting=3) as address,
        httpx.Client(base_url=address, timeout=300, headers=modest) as http,
        ThreadPoolExecutor(4) as pool,
    ):

        def ask(number):
            body = {**QUICK, "steps": 60 + number, "n": 4}
            return httpx.post(
                f"{address}/v1/images/generations", json=body, headers=greedy, timeout=300
            ), time.monotonic()

        asked = [pool.submit(ask, 0)]
        until(lambda: gauge(http, "limner_painting_requests") == 1)
        for number in range(1, 4):
            asked.append(pool.submit(ask, number))
            until(lambda number=number: gauge(http, "limner_waiting_requests") == number)
        answer, when = http.post("/v1/images/generations", json=QUICK), time.monotonic()
        assert answer.status_code == 200
        answers = [one.result() for one in asked]
    assert [one.status_code for one, _ in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[3][0].headers["retry-after"]) <= 60
    assert answers[3][0].json()["error"]["code"] == "rate_limit_exceeded"
    # At most one batch of the other's was painted before, and the second of those that waited was not.
    assert when < answers[2][1]


def test_all_bodies_together_have_a_bound(start):
    with (
        start("dalle2", body=10_000, carried=15_000) as address,
        httpx.Client(base_url=address, timeout=120) as http,
    ):
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        slow = socket.create_connection((host, int(port)))
        slow.sendall(f"{head}Content-Length: 9000\r\n\r\n".encode() + b" " * 8000)
        long = json.dumps({**QUICK, "user": "x" * 8000})

        def status():
            answer = http.post("/v1/images/generations", content=long, headers=JSON)
            if answer.status_code == 429:
                assert answer.json()["error"]["code"] == "rate_limit_exceeded"
                assert int(answer.headers["retry-after"]) > 0
            return answer.status_code

        until(lambda: status() == 429)
        assert http.get("/healthz").status_code == 200
        slow.close()
        until(lambda: status() == 200)


def test_what_fails_on_the_machine_is_told_to_its_log_alone(serve, painters, monkeypatch, caplog):
    """A full disk for addresses, and weights that are gone: both messages name paths."""

    def fails(*_, **__):
        raise LimnerError("/home/somebody/weights is gone")

    service = Service([served("dalle2", painters["dalle2"])])
    with serve(service) as address, httpx.Client(base_url=address, timeout=120) as http:
        body = {name: value for name, value in QUICK.items() if name != "response_format"}
        for owner, name in (
            (service.gallery, "add"),
            (service.painters[0], "paint"),
            (service.painters[0], "refuse"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fails)
                caplog.clear()
                answer = http.post("/v1/images/generations", json=body)
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "painter_failed"
                assert "retry-after" in answer.headers
                assert "somebody" not in answer.text
                assert "/home/somebody/weights is gone" in caplog.text
        with monkeypatch.context() as patch:
            patch.setattr(service.painters[0], "paint", fails)
            said = http.post("/v1/images/generations", json={**body, "stream": True})
            assert said.text.startswith("event: error")
            assert "somebody" not in said.text
        assert http.post("/v1/images/generations", json=body).status_code == 200


def test_killed_under_load_it_leaves_nothing_corrupt_and_begins_anew(command, lines, tmp_path):
    """SIGKILL while four ask: no answer is a 500 or somebody else's, and what lay there is whole or gone."""
    weights = ("--models", f"dalle2={lines['dalle2']}", "--device", "cpu")
    process, address = command(*weights)
    body = {"prompt": "a pear", "size": "64x64", "steps": 2}
    found, stop = [], threading.Event()

    def ask(who):
        turn = 0
        while not stop.is_set():
            turn += 1
            seed = 1000 * who + turn
            try:
                answer = httpx.post(
                    f"{address}/v1/images/generations", json={**body, "seed": seed}, timeout=60
                )
                picture = httpx.get(answer.json()["data"][0]["url"], timeout=60)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            right = picture.status_code == 404 or (
                Image.open(io.BytesIO(picture.content)).text["seed"] == str(seed)
            )
            found.append((answer.status_code, right))

    with ThreadPoolExecutor(4) as pool:
        try:
            asking_ = [pool.submit(ask, who) for who in range(4)]
            until(lambda: len(found) > 8)
            process.kill()
            process.wait()
            before = len(found)
            (left,) = tmp_path.glob("limner-gallery-*")
            for path in left.glob("*.png"):
                Image.open(path).load()
            command(*weights, "--port", address.rpartition(":")[2])
            until(lambda: len(found) > before + 8)
        finally:
            stop.set()
        for one in asking_:
            one.result()
    assert set(found) == {(200, True)}
    assert not left.exists()


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
