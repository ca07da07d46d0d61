import contextlib
import importlib.util
import socket
import threading
from pathlib import Path

import pytest
from PIL import Image

import limner
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.server import Limits, Service
from limner.server.painters import served
from limner.server.running import Draining, configured
from limner.server.service import clip_of
from limner.studio.page import let_go
from limner.studio.turns import Done

TESTS = Path(__file__).parents[1]
KINDS = ("dalle2", "glide", "dalle1")


@pytest.fixture(scope="session")
def lines(tmp_path_factory):
    """The folders of tiny lines with random weights, one of each kind; most tests serve `KINDS` alone."""
    spec = importlib.util.spec_from_file_location("tiny_of_studio", TESTS / "pipelines" / "tiny_line.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    folder = tmp_path_factory.mktemp("lines")
    return {
        "dalle2": tiny.write(folder / "dalle2"),
        "glide": tiny.write_glide(folder / "glide"),
        "dalle1": tiny.write_dalle1(folder / "dalle1"),
        "dalle_mini": tiny.write_dalle_mini(folder / "dalle_mini"),
        "dfgan": tiny.write_dfgan(folder / "dfgan"),
    }


@pytest.fixture(scope="session")
def painters(lines):
    return {kind: limner.load(kind, weights=folder) for kind, folder in lines.items()}


@pytest.fixture(scope="session")
def make_service(painters):
    def make(*kinds, keys=(), **limits):
        chosen = [served(kind, painters[kind]) for kind in kinds or KINDS]
        return Service(chosen, clip=clip_of(chosen), keys=keys, limits=Limits(**limits))

    return make


@pytest.fixture
def service(make_service):
    service = make_service()
    yield service
    service.end()


@pytest.fixture(scope="session")
def drawings():
    """Two real drawings of the shipped sample, on white."""
    found = []
    for record in read(sample_dir()).records[:2]:
        with Image.open(record.file) as opened:
            drawing = opened.convert("RGBA")
        found.append(Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB"))
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A small folder of somebody's captioned pictures, with one that has no caption."""
    folder = tmp_path_factory.mktemp("mine")
    for number, record in enumerate(read(sample_dir()).records[:16]):
        (folder / f"{number}.png").write_bytes(record.file.read_bytes())
        if number:
            (folder / f"{number}.txt").write_text(record.captions[0])
    return folder


@pytest.fixture(scope="session")
def ended():
    """What some work tells on the way, and its result in the end."""

    def ended(events):
        *told, last = events
        assert isinstance(last, Done)
        assert not any(isinstance(event, Done) for event in told)
        return told, last.result

    return ended


@pytest.fixture(scope="session")
def running():
    """A server of an application that really listens, in a thread of its own."""

    @contextlib.contextmanager
    def running(app, service):
        listening = socket.create_server(("127.0.0.1", 0))
        server = Draining(configured(service, app), service, lambda: let_go(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(120)
            assert not thread.is_alive()

    return running
