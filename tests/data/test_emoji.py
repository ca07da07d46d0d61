"""From packages to a folder of captioned pictures: whole, resumable, the same every time."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from limner.data import emoji, sources
from limner.data.emoji import fetch
from limner.data.folder import read
from limner.data.sources import Package
from limner.errors import LimnerError

pytest.importorskip("resvg_py")


@pytest.fixture
def pinned(press, monkeypatch: pytest.MonkeyPatch) -> dict[str, Package]:
    """Packages of our own in the place of the published ones: two sets of the same few emoji."""
    emojibase, cldr = press.names()
    codes = [
        "1f34e",
        "1f34f",
        "2764-200d-1f525",
        "1f98a",
        "1f44b",
        "1f44b-1f3fb",
        "1f44b-1f3fd",
        "1f44b-1f3ff",
    ]
    icons = {code: {"body": press.shape(n)} for n, code in enumerate(codes)}
    flag = {"body": '<rect x="1" y="6" width="30" height="20" fill="#3b88c3"/>'}
    icons |= {"1f1eb-1f1f7": flag, "1f1f2-1f1eb": flag, "empty": {"body": ""}}
    noto = press.iconify("mini-noto", {code: code for code in icons}, icons)
    fluent = press.pack("mini-3d", {f"assets/{code}.webp": press.webp(n) for n, code in enumerate(codes)})
    monkeypatch.setitem(sources.PICTURES, "noto", noto)
    monkeypatch.setitem(sources.PICTURES, "fluent-3d", fluent)
    monkeypatch.setattr(emoji, "EMOJIBASE", emojibase)
    monkeypatch.setattr(emoji, "CLDR", cldr)
    monkeypatch.setenv("PATH", "")
    return {"noto": noto, "fluent-3d": fluent, "emojibase": emojibase, "cldr": cldr}


def fetched(press, out: Path, workers: int = 1, size: int = 32) -> dict[str, dict]:
    """Fetch our own sets; the rows by file."""
    fetch(out, sets=["noto", "fluent-3d"], size=size, workers=workers, cache=press.folder)
    rows = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
    return {row["file"]: row for row in rows}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("pinned")
def test_rows_and_pictures(press, tmp_path) -> None:
    rows = fetched(press, tmp_path / "out")
    apple = rows["noto/1f34e.png"]
    assert apple["captions"][:2] == ["a red apple", "a red apple, Noto style"]
    assert len(apple["captions"]) == 20
    assert (apple["name"], apple["style"], apple["hexcode"]) == ("red apple", "noto", "1F34E")
    assert (apple["keywords"], apple["group"]) == (["fruit", "ripe"], "food-drink")
    assert (apple["colours"], apple["skin_tone"]) == (["red"], None)
    assert (apple["licence"], apple["package"]) == ("MIT", "mini-noto@1.0.0")
    assert {row["split"] for row in rows.values()} <= {"train", "concept", "pair"}
    assert "noto/2764-fe0f-200d-1f525.png" in rows
    for file in rows:
        with Image.open(tmp_path / "out" / file) as picture:
            assert (picture.mode, picture.size, picture.format) == ("RGBA", (32, 32), "PNG")
    found = read(tmp_path / "out")
    assert not found.problems
    assert [str(record.file.relative_to(tmp_path / "out")) for record in found.records] == list(rows)
    credits_ = (tmp_path / "out" / "ATTRIBUTION.md").read_text()
    assert "mini-noto@1.0.0" in credits_
    assert "mini-3d@1.0.0" in credits_


@pytest.mark.usefixtures("pinned")
def test_twins_are_kept_once_and_skin_tones_sampled(press, tmp_path) -> None:
    rows = fetched(press, tmp_path / "out")
    # One flag for France and St. Martin: the shorter name stays.
    assert "noto/1f1eb-1f1f7.png" in rows
    assert "noto/1f1f2-1f1eb.png" not in rows
    assert not (tmp_path / "out" / "noto" / "1f1f2-1f1eb.png").exists()
    kept = {row["skin_tone"] for row in rows.values() if row["hexcode"].startswith("1F44B")}
    wanted = {
        t for t, c in [("light", "1F3FB"), ("medium", "1F3FD"), ("dark", "1F3FF")] if keeps(f"1F44B-{c}")
    }
    assert kept == {None, *wanted}


def keeps(hexcode: str) -> bool:
    return emoji.splits.keeps_tone(hexcode)


@pytest.mark.usefixtures("pinned")
def test_two_workers_make_the_same_bytes_as_one(press, tmp_path) -> None:
    fetched(press, tmp_path / "one")
    fetched(press, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.usefixtures("pinned")
def test_a_second_run_keeps_what_is_whole_and_mends_what_is_not(press, tmp_path) -> None:
    out = tmp_path / "out"
    fetched(press, out)
    before = content(out)
    apple, green = out / "noto" / "1f34e.png", out / "noto" / "1f34f.png"
    green.write_bytes(green.read_bytes()[:60])
    (out / "noto" / ".1f98a.png.77.part").write_bytes(b"half")
    (out / "captions.jsonl").unlink()
    written = apple.stat().st_mtime_ns
    fetched(press, out)
    assert content(out) == before
    assert apple.stat().st_mtime_ns == written
    fetched(press, out, size=48)
    with Image.open(apple) as picture:
        assert picture.size == (48, 48)


RUN = """
import json, sys
from pathlib import Path
from limner.data import emoji, sources
from limner.data.sources import Package
out, cache, pins = sys.argv[1:]
pins = {name: Package(**fields) for name, fields in json.loads(pins).items()}
emoji.EMOJIBASE, emoji.CLDR = pins.pop("emojibase"), pins.pop("cldr")
sources.PICTURES.update(pins)
emoji.fetch(Path(out), sets=["noto", "fluent-3d"], size=512, workers=1, cache=Path(cache))
"""


def test_a_kill_in_the_middle_leaves_a_folder_that_a_second_run_completes(press, pinned, tmp_path) -> None:
    pins = json.dumps({name: asdict(package) for name, package in pinned.items()})
    source = str(Path(emoji.__file__).parents[2])
    command = [sys.executable, "-c", RUN, str(tmp_path / "out"), str(press.folder), pins]
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": source}, stdout=subprocess.DEVNULL)
    first = tmp_path / "out" / "noto" / "1f34e.png"
    deadline = time.monotonic() + 60
    while not first.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert first.exists()
    if running.returncode == -signal.SIGKILL:
        assert not (tmp_path / "out" / "captions.jsonl").exists()
    fetched(press, tmp_path / "out", size=512)
    fetched(press, tmp_path / "unbroken", size=512)
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


def test_without_npm_nothing_is_begun(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LimnerError, match=r"install Node\.js"):
        fetch(tmp_path / "out", cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("pinned")
def test_an_unwritable_place_is_one_line(press, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LimnerError, match="cannot write into") as caught:
        fetched(press, tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sets": ["noto", "crayon"]}, "crayon"),
        ({"sets": []}, "none"),
        ({"size": 8}, "8"),
        ({"size": 9000}, "9000"),
    ],
)
def test_senseless_arguments_are_named(tmp_path, arguments, named) -> None:
    with pytest.raises(ValueError, match=named):
        fetch(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
