"""The six hundred prompts: fixed, and unseen where they say so."""

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from limner.data.captions import STYLES
from limner.data.folder import Record, read
from limner.data.sample import sample_dir
from limner.data.scenes import held_out, one_way_round
from limner.evaluation.emoji600 import FILE, Request, chosen, digest, fresh, requests, written
from limner.evaluation.names import BENCHMARK

ASKED = requests()
DATA = Path(__file__).parents[2] / "data"


def of(group: str) -> list[Request]:
    return [one for one in ASKED if one.group == group]


def test_the_list_is_fixed():
    """Nobody changes a prompt without changing this: tables of another digest do not compare."""
    assert digest(ASKED) == "62909f3da8a2"
    text = (files("limner.evaluation") / FILE).read_text(encoding="utf-8")
    assert text == written(ASKED)
    assert len(text.encode()) < 100_000


def test_five_groups_of_what_the_benchmark_names():
    groups = Counter(one.group for one in ASKED)
    counts_and_relations = groups.pop("count") + groups.pop("relation")
    assert groups == {"name": 200, "pair": 100, "paraphrase": 100, "colour": 100}
    assert counts_and_relations == 100
    assert len({one.prompt for one in ASKED}) == 600
    assert {hexcode for one in ASKED for hexcode in one.hexcodes} <= set(BENCHMARK)


def test_single_drawings_name_their_style():
    for one in [*of("name"), *of("paraphrase")]:
        assert one.prompt.endswith(f", {STYLES[one.styles[0]].tags[0]}")
    for one in of("pair"):
        style = STYLES[one.styles[0]]
        assert one.prompt.endswith(style.tags[0]) or one.prompt.startswith(style.works[0])
        assert one.names[0] in one.prompt
    for group in ("name", "paraphrase", "relation"):
        things = [name for one in of(group) for name in one.names]
        assert len(set(things)) == len(things)


def test_no_paraphrase_holds_a_word_of_the_name():
    for one in of("paraphrase"):
        said = one.prompt.removesuffix(STYLES[one.styles[0]].tags[0])
        assert fresh(said, one.names[0])
        assert not {word.lower() for word in one.names[0].split()} & set(said.replace(",", "").split())


def test_words_that_are_the_name_s_in_disguise_are_not_fresh():
    assert fresh("bunny, pet", "rabbit")
    assert not fresh("pet rabbits", "rabbit")
    assert not fresh("swimming", "person swims")


def test_what_scenes_hold_out_by_the_rule():
    for one in of("colour"):
        assert one.colour is not None
        assert one.ground is not None
        assert held_out("colour", one.names[0], one.colour)
        assert one.colour not in one.ground.split()
    for one in of("count"):
        assert held_out("count", one.names[0], str(one.count))
    for one in of("relation"):
        assert one.relation is not None
        assert held_out("pair", *one_way_round(*one.names, one.relation))


def test_the_order_of_files_does_not_matter():
    records = [*read(sample_dir("train")).records]
    known = {str(record.facts["hexcode"]): str(record.facts["name"]) for record in records}
    found = chosen(records, [], known)
    assert chosen(records[::-1], [], known) == found
    split = {(r.facts["style"], r.facts["hexcode"]): r.facts["split"] for r in records}
    for one in found:
        places = [split[pair] for pair in zip(one.styles, one.hexcodes, strict=True)]
        assert places == ["pair" if one.group == "pair" else "train"] * len(places)
    assert {one.group for one in found} == {"name", "pair", "paraphrase", "colour", "relation", "count"}


def listed(folder: Path) -> list[Record]:
    """The records of a folder, its pictures unopened."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    return [Record(folder / row["file"], tuple(row["captions"]), row) for row in rows]


def sets_are_whole() -> bool:
    """The list knows which two things stand in no scene together: that is told of all 40 000 of them."""
    captions = [DATA / name / "captions.jsonl" for name in ("emoji", "scenes")]
    return all(file.exists() for file in captions) and len(captions[1].read_text().splitlines()) == 40_000


@pytest.mark.skipif(
    not sets_are_whole(),
    reason="the whole sets are not here: limner data fetch emoji, limner data scenes --count 40000",
)
def test_the_hash_gives_this_list_and_training_says_none_of_it():
    emoji, scenes = listed(DATA / "emoji"), listed(DATA / "scenes")
    names = {str(r.facts["hexcode"]): str(r.facts["name"]) for r in emoji if r.facts["hexcode"] in BENCHMARK}
    assert written(chosen(emoji, scenes, names)) == written(ASKED)
    trained = [record for record in emoji + scenes if record.facts["split"] == "train"]
    said = {caption.lower() for record in trained for caption in record.captions}
    for one in ASKED:
        unseen = one.prompt.split(" on a")[0] if one.group == "colour" else one.prompt
        assert (one.group == "name") == (unseen.lower() in said)
