"""The end of `limner studio`: one signal waits for what is under way, a second for nothing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from limner.studio.training import curves, steps_done
from limner.training.state import states

SRC = Path(__file__).parents[2] / "src"
# Something that takes minutes.
LONG = {"prompt": "a pear", "size": "64x64", "steps": 1000, "n": 10}


def until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def studio(lines, tmp_path):
    """The command, its address, and where its temporary files lie."""
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "limner", "studio", "--port", "0", "--no-browser", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--models", f"dalle2={lines['dalle2']}"],
        env=os.environ | {"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.stdout.readline()
    assert said.startswith("the studio is at "), process.stderr.read()
    yield process, said.removeprefix("the studio is at ").partition("/ ")[0], tmp_path / "tmp"
    # A test that failed leaves its run to nobody.
    process.terminate()
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def begin_training(address, folder, out):
    """Press the button, as the page does."""
    with httpx.Client(base_url=f"{address}/studio", timeout=60) as http:
        config = http.get("/config").json()
        (button,) = (
            one["id"] for one in config["components"] if one["props"].get("elem_id") == "lm-yours-start"
        )
        (pressed,) = (
            one["id"] for one in config["dependencies"] if [button, "click"] in map(list, one["targets"])
        )
        asked = {"data": [str(folder), "vae", "toy", str(out), "100000"], "fn_index": pressed}
        http.post("/gradio_api/queue/join", json=asked | {"session_hash": "me"}).raise_for_status()
        with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": "me"}) as told:
            for line in told.iter_lines():
                if '"process_completed"' in line:
                    assert json.loads(line.removeprefix("data: "))["success"]
                    break
    until(lambda: curves(out))


def trains(out):
    """Whether a process trains into this folder."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout
    return any(f"--out {out} " in line for line in listed.splitlines())


def saved(out):
    """Whether what was trained is in the newest state."""
    return states(out / "states")[-1].name == f"step_{steps_done(curves(out)):08d}.pt"


def asking(address):
    """A connection on which pictures are waited for."""
    host, port = address.removeprefix("http://").split(":")
    data = json.dumps(LONG).encode()
    asks = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    asks.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    until(lambda: "limner_painting_requests 1.0" in httpx.get(f"{address}/metrics").text)
    return asks


def test_told_once_it_ends_with_its_run_saved(studio, folder, tmp_path):
    process, address, temporary = studio
    begin_training(address, folder, tmp_path / "run")
    assert trains(tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert not trains(tmp_path / "run")
    assert saved(tmp_path / "run")
    assert not list(temporary.glob("limner-*"))


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_told_twice_it_waits_for_nothing(studio, folder, tmp_path, told):
    """Neither for a picture nor for a run, which saves itself and ends by itself."""
    process, address, temporary = studio
    if told == signal.SIGINT:
        begin_training(address, folder, tmp_path / "run")
    with contextlib.closing(asking(address)) as asks:
        process.send_signal(told)
        until(lambda: httpx.get(f"{address}/healthz").status_code == 503)
        assert process.poll() is None
        process.send_signal(told)
        _, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (128 + told, "")
        # Not half an answer, which somebody might take for a whole one.
        assert asks.recv(100) == b""
    assert not list(temporary.glob("limner-*"))
    if told == signal.SIGINT:
        until(lambda: not trains(tmp_path / "run"))
        assert saved(tmp_path / "run")
