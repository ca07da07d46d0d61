"""A folder of scenes holds its own list's pictures and no others, whole or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from limner.data import scenes
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.errors import LimnerError


@pytest.fixture(autouse=True)
def in_one_process(monkeypatch) -> None:
    """Threads for processes: what a test puts in the way is then in everybody's way."""
    monkeypatch.setattr(scenes, "ProcessPoolExecutor", ThreadPoolExecutor)


def drawn(out: Path, count: int, *, seed: int = 0) -> list[str]:
    """Draw scenes; the files that their list names."""
    scenes.write(sample_dir(), out, count=count, size=16, seed=seed, tests=2, workers=1)
    return [json.loads(line)["file"] for line in (out / "captions.jsonl").read_text().splitlines()]


def test_a_shorter_list_leaves_no_picture_of_the_longer_one(tmp_path) -> None:
    drawn(tmp_path, 6)
    own = tmp_path / "train" / "000" / "my own.png"
    Image.new("RGB", (8, 8)).save(own)
    stale = tmp_path / "train" / "000" / ".000005.png.part"
    stale.write_bytes(b"half a picture")
    named = drawn(tmp_path, 3, seed=1)
    assert len(named) == 5
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")} == {
        *named,
        own.relative_to(tmp_path).as_posix(),
    }
    assert not stale.exists()
    assert len(read(tmp_path).records) == 5


def test_a_run_that_is_stopped_leaves_no_old_captions_and_no_half_picture(tmp_path, monkeypatch) -> None:
    drawn(tmp_path, 3)
    before = (tmp_path / "train" / "000" / "000001.png").read_bytes()
    save, saved = Image.Image.save, []

    def stopped(self: Image.Image, file: Path, **how: object) -> None:
        if saved:
            Path(file).write_bytes(b"half a picture")
            raise KeyboardInterrupt
        saved.append(file)
        save(self, file, **how)

    monkeypatch.setattr(Image.Image, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, 3, seed=1)
    monkeypatch.undo()
    assert not (tmp_path / "captions.jsonl").exists()
    assert (tmp_path / "train" / "000" / "000001.png").read_bytes() == before


def test_the_sprites_own_folder_is_refused(tmp_path) -> None:
    with pytest.raises(LimnerError, match="holds the sprites: give another folder"):
        scenes.write(tmp_path, tmp_path / "x" / "..", count=1, size=16)
