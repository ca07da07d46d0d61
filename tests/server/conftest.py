import contextlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

import limner
from limner.server import Limits, Service, create_app
from limner.server.painters import served
from limner.server.running import Draining, configured
from limner.server.service import clip_of

TESTS = Path(__file__).parents[1]
SRC = TESTS.parent / "src"
KINDS = ("dalle2", "glide", "dalle1")


@pytest.fixture(scope="session")
def tiny():
    spec = importlib.util.spec_from_file_location("tiny_line", TESTS / "pipelines" / "tiny_line.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return tiny


@pytest.fixture(scope="session")
def lines(tiny, tmp_path_factory):
    """The folders of tiny lines, one of each kind."""
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


@contextlib.contextmanager
def running(service):
    """A server of this service that really listens, in a thread of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = Draining(configured(service, create_app(service)), service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve():
    """Runs a service."""
    return running


@pytest.fixture(scope="session")
def start(painters):
    """Starts a server of some of the tiny painters."""

    def begin(*kinds, keys=(), **limits):
        chosen = [served(kind, painters[kind]) for kind in kinds or KINDS]
        return running(Service(chosen, clip=clip_of(chosen), keys=keys, limits=Limits(**limits)))

    return begin


@pytest.fixture(scope="session")
def address(start):
    """A server with all three, for tests that leave it as it was."""
    with start() as address:
        yield address


@pytest.fixture(scope="session")
def http(address):
    with httpx.Client(base_url=address, timeout=120) as http:
        yield http


@pytest.fixture(scope="session")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def png(image, **options):
    packed = io.BytesIO()
    image.save(packed, "PNG", **options)
    return packed.getvalue()


@pytest.fixture(scope="session")
def photo():
    """A picture of 48×48 pixels, and a mask of it whose middle is transparent."""
    colours = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    mask = Image.new("RGBA", (48, 48), "black")
    mask.paste((0, 0, 0, 0), (12, 12, 36, 36))
    return png(Image.fromarray(colours)), png(mask)


@pytest.fixture
def command(tmp_path):
    """`limner serve` as a process of its own, and its address."""
    processes = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "limner", "serve", "--port", "0", *arguments],
            env={**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        said = process.stdout.readline()
        assert said.startswith("serving "), process.stderr.read()
        return process, said.split(" at ")[1].split("/v1")[0]

    yield start
    for process in processes:
        process.kill()
        process.communicate()
