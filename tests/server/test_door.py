"""The door: who takes too long, how many come in at once, pages of others, and whose word is believed."""

import asyncio
import json
import socket

import httpx
import pytest

from limner.server import Service, connection
from limner.server.door import Door
from limner.server.metrics import Metrics
from limner.server.origins import Origins, checked_origin
from limner.server.painters import served
from limner.server.service import closing

PAGE = "https://page.example"


def door(app, *, at_once=8, arriving=60.0, hosts=()):
    return Door(
        app,
        keys=(),
        origins=Origins(hosts=hosts, public=None, allowed=()),
        at_once=at_once,
        body=10_000,
        arriving=arriving,
        carried=100_000,
        metrics=Metrics(),
    )


def scope(path):
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"host", b"x")],
        "client": ("::1", 1),
    }


async def empty(_, __, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


class Sent(list):
    async def __call__(self, message):
        self.append(message)

    @property
    def status(self):
        return self[0]["status"]

    @property
    def error(self):
        return json.loads(self[1]["body"])["error"]


def test_a_body_has_so_long_to_come_and_what_is_painted_as_long_as_it_likes():
    gone = {"type": "http.disconnect"}

    async def patient(_, receive, send):
        assert await receive() == {"type": "http.request", "body": b"{}"}
        assert await receive() == gone
        await empty(_, receive, send)

    async def ask():
        left = [{"type": "http.request", "body": b"{}"}, gone]

        async def receive():
            if len(left) == 1:
                await asyncio.sleep(0.3)
            return left.pop(0)

        sent = Sent()
        await door(patient, arriving=0.1)(scope("/v1/images/generations"), receive, sent)
        return sent.status

    assert asyncio.run(ask()) == 200


@pytest.mark.parametrize(
    ("path", "kind", "begun"),
    [
        ("generations", "application/json", b'{"prompt": '),
        ("edits", "multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; "),
    ],
)
def test_a_body_that_trickles_in_is_given_up(start, path, kind, begun):
    with start("dalle1", arriving=0.5) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            head = f"POST /v1/images/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
            slow.sendall(f"{head}Content-Length: 9000\r\n\r\n".encode() + begun)
            answer = b""
            while part := slow.recv(4096):
                answer += part
        top, _, said = answer.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 408 ")
        assert json.loads(said)["error"]["code"] == "body_too_slow"
        assert "was not whole after 0.5 s" in json.loads(said)["error"]["message"]
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_a_head_that_trickles_in_and_a_connection_that_asks_nothing_are_closed(start, monkeypatch):
    monkeypatch.setattr(connection, "HEAD", 0.5)
    with start("dalle1") as address:
        host, port = address.removeprefix("http://").split(":")
        whole = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        with socket.create_connection((host, int(port)), timeout=60) as idle:
            assert idle.recv(100) == b""
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            for _ in range(2):  # what is asked in time is answered, one request after the other
                slow.sendall(whole)
                answer = b""
                while not answer.endswith(b"}"):
                    answer += slow.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200 ")
            slow.sendall(b"GET /heal")
            assert slow.recv(100) == b""


def test_as_many_as_may_are_answered_at_once_and_the_rest_told_so():
    async def ask():
        begin, end = asyncio.Event(), asyncio.Event()

        async def slow(_, receive, send):
            begin.set()
            await end.wait()
            await empty(_, receive, send)

        async def receive():
            return {"type": "http.request", "body": b""}

        one = door(slow, at_once=1)
        first, more, alive, after = Sent(), Sent(), Sent(), Sent()
        waiting = asyncio.ensure_future(one(scope("/v1/models"), receive, first))
        await begin.wait()
        await one(scope("/v1/models"), receive, more)
        asking = asyncio.ensure_future(one(scope("/healthz"), receive, alive))
        end.set()
        await asyncio.gather(waiting, asking)
        await one(scope("/v1/models"), receive, after)
        assert [sent.status for sent in (first, more, alive, after)] == [200, 429, 200, 200]
        assert more.error["code"] == "rate_limit_exceeded"
        assert (b"retry-after", b"5") in more[0]["headers"]

    asyncio.run(ask())


def test_pages_of_others_ask_only_where_they_are_allowed(serve, painters):
    """Where any name may be asked by, as with a key: a page's own address is always its own."""
    service = Service(
        [served("dalle1", painters["dalle1"])], origins=(PAGE,), public="https://paint.example/x"
    )
    with serve(service) as address, httpx.Client(base_url=address) as http:
        for origin in (address, "https://paint.example", PAGE, PAGE.upper()):
            assert http.get("/v1/models", headers={"Origin": origin}).status_code == 200, origin
        for origin in (
            "https://evil.example",
            "https://page.example.evil",
            "http://page.example",
            "null",
            "",
        ):
            refused = http.get("/v1/models", headers={"Origin": origin})
            assert refused.status_code == 403, origin
            assert refused.json()["error"]["code"] == "wrong_origin"
            assert "access-control-allow-origin" not in refused.headers
        read = http.get("/v1/nothing", headers={"Origin": PAGE})
        assert read.headers["access-control-allow-origin"] == PAGE
        assert read.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in http.get("/v1/models").headers


def test_a_browser_that_asks_for_an_allowed_page_is_told_what_it_may_without_a_key(serve, painters):
    service = Service([served("dalle1", painters["dalle1"])], origins=(PAGE,), keys=("a-long-secret",))
    wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serve(service) as address, httpx.Client(base_url=address) as http:
        asked = http.options("/v1/images/generations", headers={"Origin": PAGE, **wants})
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-headers"] == "authorization"
        assert "POST" in asked.headers["access-control-allow-methods"]
        other = http.options("/v1/images/generations", headers={"Origin": "https://evil.example", **wants})
        assert other.status_code == 403
        locked = http.get("/v1/models", headers={"Origin": PAGE})
        assert locked.status_code == 401
        assert locked.headers["access-control-allow-origin"] == PAGE


def test_nothing_further_in_lets_pages_of_others_read():
    """As the studio's framework would have it of any page on localhost."""

    async def generous(_, __, send):
        origin = (b"Access-Control-Allow-Origin", b"http://localhost:3000")
        mine = [origin, (b"access-control-allow-credentials", b"true"), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": mine})
        await send({"type": "http.response.body"})

    async def receive():
        return {"type": "http.request", "body": b""}

    asked = scope("/studio/")
    asked["headers"] = [(b"host", b"localhost:8000"), (b"origin", b"http://localhost:3000")]
    sent = Sent()
    asyncio.run(door(generous, hosts=("localhost",))(asked, receive, sent))
    assert sent.status == 200
    assert [name.lower() for name, _ in sent[0]["headers"]] == [b"x-own"]


@pytest.mark.parametrize(
    "origin", ["page.example", "https://", "https://page.example/", "ftp://x", "*", "null"]
)
def test_what_is_no_origin_cannot_be_allowed(origin):
    with pytest.raises(ValueError, match=r"^allow_origin is "):
        checked_origin(origin)


def test_an_origin_is_compared_as_browsers_send_it():
    assert checked_origin("https://Page.Example:8443") == "https://page.example:8443"


@pytest.mark.parametrize(
    ("proxies", "known"), [((), "127.0.0.1"), (("127.0.0.0/8",), "192.0.2.7"), (("192.0.2.1",), "127.0.0.1")]
)
def test_who_asks_is_believed_of_named_proxies_alone(serve, painters, monkeypatch, proxies, known):
    service = Service([served("dalle1", painters["dalle1"])], proxies=proxies)
    callers = []

    def line_up(_painter, _order, *, caller):
        callers.append(caller)
        raise closing()

    monkeypatch.setattr(service, "line_up", line_up)
    with serve(service) as address:
        asked = {"prompt": "a pear"}
        forwarded = {"X-Forwarded-For": "192.0.2.7"}
        said = httpx.post(f"{address}/v1/images/generations", json=asked, headers=forwarded)
        assert said.status_code == 503
    assert callers == [known]
