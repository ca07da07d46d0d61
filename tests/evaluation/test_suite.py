"""The fixed evaluation on drawings composed exactly, on such as are wrong in one way, and by its command."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from limner import checkpoint
from limner.cli import main
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.data.scenes import BACK, Relation
from limner.errors import LimnerError
from limner.evaluation import suite
from limner.evaluation.copying import copying, nearest
from limner.evaluation.emoji600 import Request, requests
from limner.evaluation.failures import SHOWN, chosen, failures
from limner.evaluation.features import WIDTH
from limner.evaluation.intervals import bootstrap, wilson
from limner.evaluation.layout import Thing, cut_out, things
from limner.evaluation.marks import (
    ALL,
    COLOUR,
    COUNT,
    FIRST,
    GROUND,
    RECOGNISED,
    RELATION,
    Marks,
    marked,
    placed,
    real,
)
from limner.evaluation.recognition import Judge, Recogniser, RecogniserConfig
from limner.evaluation.suite_scores import following, measured, rows
from limner.pipelines import load

RECORDS = [*read(sample_dir("train")).records]
FILES = {(str(r.facts["style"]), str(r.facts["hexcode"])): r.file for r in RECORDS}
HEXCODES = {str(r.facts["name"]): str(r.facts["hexcode"]) for r in RECORDS}
# Seven names, so that being among five says something.
KNOWN = ("strawberry", "lemon", "automobile", "cow", "penguin", "balloon", "key")


def drawing(name: str) -> Request:
    return Request(group="name", prompt=name, names=(name,), hexcodes=(HEXCODES[name],), styles=("twemoji",))


def pair(first: str, second: str, relation: Relation) -> Request:
    return Request(
        group="relation",
        prompt=f"{first} {relation} {second}",
        names=(first, second),
        hexcodes=(HEXCODES[first], HEXCODES[second]),
        styles=("twemoji", "twemoji"),
        relation=relation,
    )


def several(name: str, count: int) -> Request:
    return replace(drawing(name), group="count", prompt=f"{count} {name}", count=count)


def binding(name: str, colour: str, ground: str) -> Request:
    return replace(
        drawing(name),
        group="colour",
        prompt=f"a {colour} {name} on a {ground} ground",
        colour=colour,
        ground=ground,
    )


class Exact(Judge):
    """A judge that knows seven real drawings by their shape: its features are their 12 × 12 pixels."""

    known: Tensor

    def __init__(self) -> None:
        pictures = [real(drawing(name), FILES) for name in KNOWN]
        known = self.look([cut_out(one, things(one)[0]) for one in pictures], total=len(KNOWN))
        object.__setattr__(self, "known", known)

    def look(self, pictures: Iterable[Image.Image], *, total: int) -> Float[Tensor, "n f"]:
        assert total > 0
        seen = [np.asarray(p.convert("L").resize((12, 12), Image.Resampling.BOX)).ravel() for p in pictures]
        return torch.from_numpy(np.stack(seen)).float()

    def places(self, features: Float[Tensor, "n f"], names: Sequence[str]) -> Int[Tensor, "n"]:
        apart = torch.cdist(features, self.known)
        right = torch.tensor([KNOWN.index(name) for name in names])
        return (apart < apart.gather(1, right[:, None])).sum(dim=1)

    def answers(self, features: Float[Tensor, "n f"]) -> list[str]:
        return [KNOWN[number] for number in torch.cdist(features, self.known).argmin(dim=1).tolist()]


@pytest.fixture(scope="module")
def exact() -> Judge:
    return Exact()


@pytest.mark.parametrize("relation", get_args(Relation))
@pytest.mark.parametrize(("first", "second"), [("lemon", "automobile"), ("penguin", "strawberry")])
def test_a_relation_composed_is_right_and_swapped_is_wrong(
    exact: Judge, relation: Relation, first: str, second: str
):
    asked = pair(first, second, relation)
    turned = next(other for other in get_args(Relation) if other not in (relation, BACK[relation]))
    others = [asked, pair(second, first, relation), pair(first, second, BACK[relation])]
    scenes = [real(one, FILES) for one in [*others, pair(first, second, turned)]]
    right, exchanged, reversed_, across = marked(exact, [asked] * 4, scenes)
    assert right == {RECOGNISED: True, COUNT: True, RELATION: True, ALL: True}
    for wrong in (exchanged, reversed_, across):
        assert wrong == {RECOGNISED: True, COUNT: True, RELATION: False, ALL: False}


def test_one_thing_has_no_relation(exact: Judge):
    asked = pair("lemon", "automobile", "above")
    assert not any(marked(exact, [asked], [real(drawing("lemon"), FILES)])[0].values())


def test_who_cannot_tell_two_things_apart_has_no_relation_right():
    asked = pair("lemon", "automobile", "above")
    mask = np.ones((2, 2), bool)
    found = [Thing(mask, 4, 0.5, 0.2), Thing(mask, 4, 0.5, 0.8)]
    assert placed(asked, found, [[0, 3], [3, 0]])[RELATION]
    assert not placed(asked, found, [[3, 0], [0, 3]])[RELATION]
    assert not placed(asked, found, [[2, 2], [2, 2]])[RELATION]
    # Right beyond five is not recognised.
    assert placed(asked, found, [[5, 9], [9, 0]]) == {
        RECOGNISED: False,
        COUNT: True,
        RELATION: True,
        ALL: False,
    }
    # Two large things and a third: placed right, and one too many.
    third = Thing(mask, 2, 0.1, 0.5)
    assert placed(asked, [*found, third], [[0, 3, 1], [3, 0, 1]]) == {
        RECOGNISED: True,
        COUNT: False,
        RELATION: True,
        ALL: False,
    }


@pytest.mark.parametrize("count", [2, 3, 4])
def test_counts_off_by_one_are_wrong(exact: Judge, count: int):
    picture = real(several("strawberry", count), FILES)
    asked = [several("strawberry", n) for n in (count - 1, count, count + 1)]
    found = marked(exact, asked, [picture] * 3)
    assert [one[COUNT] for one in found] == [one[ALL] for one in found] == [False, True, False]
    assert all(one[RECOGNISED] for one in found)


def test_a_recoloured_thing_or_ground_is_wrong(exact: Judge):
    asked = binding("automobile", "purple", "yellow")
    others = [asked, binding("automobile", "green", "yellow"), binding("automobile", "purple", "grey")]
    right, thing, ground = marked(exact, [asked] * 3, [real(one, FILES) for one in others])
    assert right == {RECOGNISED: True, COLOUR: True, GROUND: True, ALL: True}
    assert thing == {RECOGNISED: True, COLOUR: False, GROUND: True, ALL: False}
    assert ground == {RECOGNISED: True, COLOUR: True, GROUND: False, ALL: False}


def test_an_empty_ground_is_a_ground_and_nothing_else(exact: Judge):
    empty = Image.new("RGB", (64, 64), (252, 224, 110))
    found = marked(exact, [binding("lemon", "blue", "yellow"), several("lemon", 2)], [empty] * 2)
    assert found[0] == {RECOGNISED: False, COLOUR: False, GROUND: True, ALL: False}
    assert not any(found[1].values())


def test_what_is_wrong_is_said(exact: Judge):
    other = binding("automobile", "green", "grey")
    asked = [
        drawing("lemon"),
        pair("lemon", "automobile", "above"),
        several("strawberry", 3),
        binding("automobile", "purple", "yellow"),
        drawing("cow"),
    ]
    empty = Image.new("RGB", (64, 64), "white")
    shown = [
        real(drawing("cow"), FILES),
        real(pair("automobile", "lemon", "above"), FILES),
        real(several("strawberry", 2), FILES),
        real(other, FILES),
        real(drawing("cow"), FILES),
    ]
    found = failures(exact, asked, shown, marked(exact, asked, shown))
    assert [one.number for one in found] == [0, 1, 2, 3]  # the cow is right
    said = [one.wrong for one in found]
    assert said[0].startswith("seen as “cow”")
    assert said[1:] == [
        "which is where is not as asked",
        "two things",
        "most of it is green; the ground is grey",
    ]
    nothing = failures(exact, asked[1:2], [empty], marked(exact, asked[1:2], [empty]))
    assert [one.wrong for one in nothing] == ["nothing stands out from the ground"]


def test_failures_are_of_every_group_in_turn():
    asked = [*(replace(drawing(name), prompt=f"{name} {n}") for n in range(9) for name in KNOWN)]
    asked += [several("cow", 2), several("cow", 3)]
    bad: list[Marks] = [{FIRST: False, RECOGNISED: False}] * 63 + [{COUNT: False, ALL: False}] * 2
    found = chosen(asked, bad)
    assert len(found) == SHOWN
    assert {63, 64} <= set(found)
    assert found != [*range(14), 63, 64]
    assert found == chosen(asked, bad)
    assert chosen(asked[:1], [{FIRST: True, RECOGNISED: True}]) == []


def test_the_table_counts_and_its_intervals_keep_names_together():
    asked = [drawing("lemon"), drawing("cow"), drawing("key"), several("cow", 2), several("cow", 3)]
    single = [{FIRST: hit, RECOGNISED: True} for hit in (True, False, False)]
    counted = [{RECOGNISED: True, COUNT: hit, ALL: hit} for hit in (True, False)]
    truth = [{FIRST: hit, RECOGNISED: True} for hit in (True, True, False)]
    best = [{RECOGNISED: True, COUNT: True, ALL: True}] * 2
    table = rows(asked, [*single, *counted], [*truth, *best], [*truth, *counted], chance=0.1, seed=0)
    by = {(row.groups, row.mark): row for row in table}
    first = by[("name",), FIRST]
    assert first.painted == wilson(1, 3)
    assert first.real == wilson(2, 3)
    assert first.of_real is not None
    assert first.of_real.value == 0.5
    assert first.nothing == 0.1
    assert by[("name",), RECOGNISED].nothing == 0.5
    # Of scenes it is what another prompt's has.
    assert [by[("count",), mark].nothing for mark in (RECOGNISED, ALL)] == [1, 0.5]
    assert following(asked) == [1, 2, 0, 4, 3]
    # Both are cows: one group, which is drawn again whole.
    assert by[("count",), ALL].painted == bootstrap([1.0, 0.0], ["cow", "cow"], seed=0)
    assert by[("relation", "count"), ALL].painted.total == 2
    none = rows(asked[:3], single, [{FIRST: False, RECOGNISED: True}] * 3, truth, chance=0.1, seed=0)
    assert none[0].of_real is None


def test_a_copy_is_nearer_than_held_out_drawings():
    stream = torch.Generator().manual_seed(0)
    training = torch.randn(40, 16, generator=stream)
    others = torch.randn(100, 16, generator=stream)
    cosines, which = nearest(torch.cat([2 * training[7:8], others[:3]]), training)
    assert which[0] == 7
    assert cosines[0].item() == pytest.approx(1, abs=1e-6)
    found = copying(cosines, nearest(others, training)[0], ["a", "b", "c", "d"], seed=0)
    # By chance none of the three is the nearest of a hundred.
    assert found.beyond == wilson(1, 4)
    assert found.median < found.threshold < 1


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of the seven names that has learned nothing."""
    out: Path = tmp_path_factory.mktemp("stranger")
    config = RecogniserConfig(
        names=KNOWN,
        hexcodes=tuple(HEXCODES[name] for name in KNOWN),
        features=WIDTH,
        side=64,
        dropout=0.0,
    )
    torch.manual_seed(0)
    checkpoint.save(out / "model", Recogniser(config).state_dict(), config)
    return out


def test_the_whole_of_it_on_a_few_prompts(untrained: Path, stranger: Path, tmp_path: Path):
    asked = [
        *(drawing(name) for name in KNOWN[:4]),
        pair("lemon", "cow", "above"),
        several("cow", 2),
        binding("automobile", "purple", "yellow"),
    ]
    told = suite.run(
        load("dalle2", weights=untrained, device="cpu"),
        sample_dir("train"),
        stranger,
        tmp_path / "out",
        model="dalle2",
        asked=asked,
    )
    made = {path.name for path in told.parent.iterdir()}
    pictures = {f"emoji600_{name}.png" for name in ("sheet", "copies", "failures")}
    assert made == {"emoji600.md", "emoji600.json", *pictures}
    known = json.loads((told.parent / "emoji600.json").read_text())
    assert [row["prompt"] for row in known["prompts_and_marks"]] == [one.prompt for one in asked]
    assert known["cloud"]["real_frechet"] >= 0
    text = told.read_text()
    for title in (
        "names in a trained style (4)",
        "unseen relations and unseen counts (2)",
        "copies?",
        "failures\n",
    ):
        assert title in text


def test_who_does_not_know_the_list_is_refused_before_painting(stranger: Path):
    def paint(*_: object) -> list[Image.Image]:
        raise AssertionError

    with pytest.raises(LimnerError, match="this judge does not know 'rocket', and 654 more"):
        measured(requests(), paint, sample_dir("train"), stranger, seed=0, device="cpu")
    absent = replace(drawing("lemon"), styles=("openmoji",))
    with pytest.raises(LimnerError, match="the data lack the drawing openmoji 1F34B, and 0 more"):
        measured([absent], paint, sample_dir("train"), stranger, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--names", "20"], "knows of no names"),
        (["--count", "2"], "knows of no count"),
        (["--study", "solvers", "--model", "glide"], "knows of no study"),
        (["--sheet", "x.png"], "knows of no sheet"),
        (["--model", "dalle1", "--candidates", "4"], "knows of no candidates"),
        (["--model", "dalle1", "--precision", "bf16"], "dalle1 has no U-Net"),
        ([], "give --data, --judge and --out"),
    ],
)
def test_the_suite_leaves_nothing_to_choose(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", "--suite", "emoji600", *options]) != 0
    assert said in capsys.readouterr().err
