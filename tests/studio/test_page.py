"""The page as it is sent: beside the API, behind its keys, and asking nobody else for anything."""

import contextlib
import json
import re
import socket
import time

import httpx
import pytest
from starlette.testclient import TestClient

from limner.errors import LimnerError
from limner.server import create_app as create_api
from limner.studio import create_app
from limner.studio.shown import Picture, alert, bars, chips, note, strip, wall, way

EVIL = '<img src=x onerror="alert(1)">'
KEY = "sk-a-long-secret"


@pytest.fixture(scope="module")
def page(make_service):
    with TestClient(create_app(make_service())) as client:
        yield client


def test_the_address_leads_to_the_page_and_the_api_is_beside_it(page):
    home = page.get("/", follow_redirects=False)
    assert home.headers["location"] == "/studio/"
    assert "limner studio" in page.get("/studio/").text
    assert [one["id"] for one in page.get("/v1/models").json()["data"]] == [
        "dalle2",
        "glide",
        "dalle1",
        "clip",
    ]
    assert page.get("/healthz").json() == {"status": "ok"}
    assert page.get("/manifest.json").json()["name"] == "limner studio"
    assert page.get("/favicon.ico").headers["content-type"].startswith("image/svg")
    assert "/studio" not in json.dumps(page.get("/openapi.json").json()["paths"])


def test_the_api_alone_has_no_page(make_service):
    with TestClient(create_api(make_service("dalle1"))) as client:
        assert client.get("/studio/").status_code == 404
        assert client.get("/", follow_redirects=False).headers["location"] == "/docs"


def test_nothing_is_fetched_from_anywhere_else(page):
    """What the browser loads by itself: scripts, styles, fonts, pictures. Links to click are none of it."""
    html = page.get("/studio/").text
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]+)"', html)
    assert [url for url in loaded if not url.startswith("http://testserver")] == []
    config = page.get("/studio/config").json()
    assert config["analytics_enabled"] is False
    theme = page.get("/studio/theme.css").text
    assert re.findall(r"url\(.?https?:|@import", theme) == []
    assert "ui-sans-serif" in theme
    assert config["stylesheets"] == []


def test_every_tab_is_there(page):
    config = page.get("/studio/config").json()
    labels = [one["props"].get("label") for one in config["components"] if one["type"] == "tabitem"]
    assert [
        name
        for name in labels
        if name not in ("How it comes about", "Under the lens", "A walk through a VAE")
    ] == [*("Paint", "Edit", "Vary and blend", "Inside", "Compare", "Your pictures")]


def test_with_a_key_the_page_asks_for_it(make_service):
    service = make_service("dalle1", keys=(KEY,))
    with TestClient(create_app(service)) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/studio/config").status_code == 401
        for user, given in (("limner", "wrong"), ("somebody", KEY)):
            said = client.post("/studio/login", data={"username": user, "password": given})
            assert said.status_code == 400
        assert client.post("/studio/login", data={"username": "limner", "password": KEY}).status_code == 200
        assert client.get("/studio/config").status_code == 200
        assert client.get("/v1/models").status_code == 401  # a page's visitor is no client


def test_painters_that_cannot_leave_tabs_that_say_so(make_service):
    with TestClient(create_app(make_service("dalle1"))) as client:
        text = json.dumps(client.get("/studio/config").json())
    assert "No painter that edits is served here" in text
    assert "No painter that varies is served here" in text


def test_where_anybody_gets_in_no_folder_is_opened(make_service):
    with TestClient(create_app(make_service("dalle1"), trains=False)) as client:
        text = json.dumps(client.get("/studio/config").json())
    assert "no folder of this machine is opened" in text
    assert "lm-yours-folder" not in text


def test_files_of_the_machine_stay_on_it(page, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("for nobody")
    for path in (str(secret), "/etc/passwd", "pyproject.toml"):
        found = page.get(f"/studio/gradio_api/file={path}")
        assert found.status_code in (403, 404), path
        assert "for nobody" not in found.text


def test_whatever_was_typed_is_escaped():
    one = Picture(source="x", words=EVIL, caption=EVIL, side=8, name="a.png", facts={EVIL: EVIL})
    shown = [
        wall([one], empty=""),
        wall([], empty=EVIL),
        strip([one], EVIL),
        bars([(EVIL, 0.5)], label=EVIL),
        way([(EVIL, [one])], EVIL),
        note(EVIL, share=0.5),
        alert(ValueError(EVIL)),
        chips([EVIL], EVIL),
    ]
    for html in shown:
        assert "<img src=x" not in html
        assert html.count("&lt;img") >= 1


def test_what_fails_on_the_machine_is_told_to_its_log_alone(page, caplog):
    said = alert(LimnerError("cannot write /srv/pictures/a.png: the disk is full"))
    assert "its log says why" in said
    assert "/srv" not in said
    assert "/srv/pictures/a.png" in caplog.text
    # Of what nobody foresaw a page hears nothing.
    assert page.get("/studio/config").json()["show_error"] is False


def test_pages_of_others_do_not_use_this_one(page):
    for path in ("/studio/", "/studio/gradio_api/queue/join"):
        refused = page.post(path, headers={"Origin": "https://evil.example"}, json={})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def test_a_server_that_is_told_to_stop_does_not_wait_for_open_pages(make_service, running):
    service = make_service("dalle1")
    with running(create_app(service), service) as address:
        client = httpx.Client(base_url=address, timeout=60)
        config = client.get("/studio/config").json()
        assert config["mode"] == "blocks"
        # What a page holds open for as long as it is shown.
        stream = client.stream("GET", "/studio/gradio_api/heartbeat/somebody")
        assert stream.__enter__().status_code == 200
    # `running` has asserted that it ended.
    stream.__exit__(None, None, None)
    client.close()


def test_strangers_keep_out_nobody_who_has_a_key(make_service, running):
    """Streams that stay open, then bodies that do not end: as many as may be, of people without a key."""
    service = make_service("dalle1", keys=(KEY,), at_once=3, body=10_000, carried=15_000)
    mine = {"Authorization": f"Bearer {KEY}"}
    asked = {"prompt": "a pear", "user": "x" * 8000}
    with running(create_app(service), service) as address, contextlib.ExitStack() as held:
        stranger, visitor = (held.enter_context(httpx.Client(base_url=address, timeout=60)) for _ in range(2))
        login = {"username": "limner", "password": KEY}
        assert visitor.post("/studio/login", data=login).status_code == 200
        for number in range(3):
            stream = stranger.stream("GET", f"/studio/gradio_api/heartbeat/{number}")
            assert held.enter_context(stream).status_code == 200
        full = stranger.get("/studio/")
        assert full.status_code == 429
        assert full.json()["error"]["code"] == "rate_limit_exceeded"
        assert httpx.get(f"{address}/v1/models", headers=mine).status_code == 200
        assert visitor.get("/studio/config").status_code == 200
    service = make_service("dalle1", keys=(KEY,), at_once=3, body=10_000, carried=15_000)
    with running(create_app(service), service) as address:
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /studio/login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\n\r\nusername="
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(head.encode() + b"x" * 8000)
            until = time.monotonic() + 60
            wrong = {"username": "x" * 8000, "password": "x"}
            while httpx.post(f"{address}/studio/login", data=wrong).status_code != 429:
                assert time.monotonic() < until
                time.sleep(0.02)
            made = httpx.post(f"{address}/v1/images/generations", json=asked, headers=mine, timeout=60)
            assert made.status_code == 200
