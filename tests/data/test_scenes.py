"""A folder of scenes holds its own list's pictures and no others, whole or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from limner.data import scenes
from limner.data.emoji import fetch
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.data.words import named
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


def test_nothing_that_is_held_out_is_shown_in_training() -> None:
    # Few things, so that what is held out would come up often.
    pool = scenes.sprites(read(sample_dir()).records)
    names = sorted({sprite.name for sprite in pool})[:8]
    few = [sprite for sprite in pool if sprite.name in names]

    def captions(number: int, *, test: bool) -> set[str]:
        drawn = [scenes.compose(few, seed=0, number=n, size=8, test=test)[1] for n in range(number)]
        # "A cat and a dog" is said of every relation, and is no combination.
        plain = {caption for scene in drawn if scene.relation for caption in scene.captions[3:]}
        return {caption for scene in drawn for caption in scene.captions} - plain

    train, test = captions(400, test=False), captions(60, test=True)
    assert len(test) > 30
    assert not train & test


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_kind_that_is_asked_for_is_the_only_one(kind: scenes.Kind) -> None:
    pool = scenes.sprites(read(sample_dir()).records)
    drawn = [scenes.compose(pool, seed=0, number=number, size=8, kind=kind)[1] for number in range(30)]
    for scene in drawn:
        names = [item.name for item in scene.items]
        assert {
            "one": len(names) == 1,
            "count": len(names) > 1 and len(set(names)) == 1,
            "pair": len(names) == 2 and scene.relation is not None,
            "several": len(names) > 2 and len(set(names)) == len(names),
        }[kind]
    assert (kind == "one") == any(item.colour for scene in drawn for item in scene.items)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_settled_scene_is_the_same_one_with_no_chance_in_where_things_stand(kind: scenes.Kind) -> None:
    pool = scenes.sprites(read(sample_dir()).records)
    places: dict[tuple[object, ...], set[tuple[tuple[float, float, float], ...]]] = {}
    for number in range(30):
        before = scenes.compose(pool, seed=0, number=number, size=32, kind=kind)[1]
        picture, after = scenes.compose(pool, seed=0, number=number, size=32, kind=kind, settled=True)
        assert (after.captions, after.relation, after.held_out) == (
            before.captions,
            before.relation,
            before.held_out,
        )
        told = [[(item.name, item.style, item.colour) for item in scene.items] for scene in (before, after)]
        assert told[0] == told[1]
        where = tuple((item.left, item.top, item.side) for item in after.items)
        places.setdefault((after.relation, len(where)), set()).add(where)
        if kind == "one":
            # As large as the drawing itself, which leaves its own margin.
            assert where == ((0.0, 0.0, 1.0),)
        if after.relation:
            (left, top, _), (other_left, other_top, _) = where
            found = {
                "to the left of": left < other_left and top == other_top,
                "to the right of": left > other_left and top == other_top,
                "above": top < other_top and left == other_left,
                "below": top > other_top and left == other_left,
            }
            assert [name for name, holds in found.items() if holds] == [after.relation]
        assert picture.getbbox() is not None
    assert all(len(found) == 1 for found in places.values())


def test_settled_scenes_are_written_as_they_are_composed(tmp_path) -> None:
    scenes.write(sample_dir(), tmp_path, count=4, size=16, tests=1, kind="one", settled=True, workers=1)
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [[item["side"] for item in row["items"]] for row in rows] == [[1.0]] * 5


def test_what_is_held_out_is_so_from_both_sides() -> None:
    turned = 0
    for relation, back in scenes.BACK.items():
        for one, other in combinations(("cat", "dog", "apple", "book", "rocket", "tree", "hat", "cup"), 2):
            key = scenes.one_way_round(one, other, relation)
            assert key == scenes.one_way_round(other, one, back)
            assert key != scenes.one_way_round(one, other, back)
            turned += scenes.held_out("pair", *key)
    assert turned > 0


def test_a_scene_is_a_function_of_seed_and_number_and_shows_what_its_captions_say() -> None:
    pool = scenes.sprites(read(sample_dir()).records)
    for number in range(60):
        picture, scene = scenes.compose(pool, seed=3, number=number, size=32)
        again, same = scenes.compose(pool, seed=3, number=number, size=32)
        assert (picture.tobytes(), scene) == (again.tobytes(), same)
        first = scene.items[0]
        if scene.relation:
            _, second = scene.items
            apart = {
                "to the left of": second.left - first.left,
                "to the right of": first.left - second.left,
                "above": second.top - first.top,
                "below": first.top - second.top,
            }[scene.relation]
            assert apart > 0.4
            assert scene.captions[0] == f"{named(first.name)} {scene.relation} {named(second.name)}"
        elif len(scene.items) > 1 and len({item.name for item in scene.items}) == 1:
            assert scene.captions[0].startswith(scenes.COUNTS[len(scene.items)] + " ")
        for item in scene.items:
            assert 0 <= item.left <= 1 - item.side + 0.06
            assert 0 <= item.top <= 1 - item.side + 0.06


def test_captions_of_ones_own_are_not_lost(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    table = tmp_path / "captions.jsonl"
    table.write_text('{"file": "mine.png", "captions": ["mine"]}\n')
    with pytest.raises(LimnerError, match="was not made by this command, and would be lost"):
        scenes.write(sample_dir(), tmp_path, count=1, size=16)
    with pytest.raises(LimnerError, match="was not made by this command, and would be lost"):
        fetch(tmp_path)
    assert table.read_text().startswith('{"file": "mine.png"')


def test_the_sprites_own_folder_is_refused(tmp_path) -> None:
    with pytest.raises(LimnerError, match="holds the sprites: give another folder"):
        scenes.write(tmp_path, tmp_path / "x" / "..", count=1, size=16)
