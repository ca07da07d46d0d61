"""Nothing that is tested on is trained on."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.data.folder import read
from limner.data.sample import JUDGE_STYLES, TRAIN_STYLES, sample_dir
from limner.data.splits import KEPT_BY, assign, concept, fraction, is_flag, keeps_tone

STYLES = ["noto", "twemoji", "fluent-3d", "fluent-flat", "fluent-color"]
HEXCODES = [f"{number:05X}" for number in range(0x20000, 0x20000 + 2000)]
hexcodes = st.sampled_from([*HEXCODES[:60], "1F44B-1F3FB", "1F44B", "1F1EB-1F1F7", "1F468-200D-1F373"])


def test_shares_are_as_asked() -> None:
    split = assign((style, hexcode) for style in STYLES for hexcode in HEXCODES)
    share = {name: sum(v == name for v in split.values()) / len(split) for name in set(split.values())}
    assert 0.04 < share["concept"] < 0.06
    assert 0.04 < share["pair"] / (1 - share["concept"]) < 0.06
    assert 0.06 < sum(keeps_tone(h) for h in HEXCODES) / len(HEXCODES) < 0.10


@given(st.lists(st.tuples(st.sampled_from(STYLES), hexcodes), max_size=200), st.randoms())
def test_split_rules(pairs: list[tuple[str, str]], chance: random.Random) -> None:
    split = assign(pairs)
    assert set(split) == set(pairs)
    chance.shuffle(pairs)
    assert assign(pairs) == split
    for (style, hexcode), name in split.items():
        mine = {s: v for (s, h), v in split.items() if h == hexcode}
        if name == "concept":
            assert set(mine.values()) == {"concept"}
        if name == "pair":
            assert sum(v == "train" for s, v in mine.items() if s != style) >= KEPT_BY
            assert not is_flag(hexcode)
    tested = {concept(h) for (_, h), v in split.items() if v == "concept"}
    assert not tested & {concept(h) for (_, h), v in split.items() if v != "concept"}


def test_a_fifth_style_does_not_move_concepts() -> None:
    few = assign((style, hexcode) for style in STYLES[:2] for hexcode in HEXCODES)
    many = assign((style, hexcode) for style in STYLES for hexcode in HEXCODES)
    assert {k for k, v in few.items() if v == "concept"} <= {k for k, v in many.items() if v == "concept"}
    assert "pair" not in few.values()


@pytest.mark.parametrize(
    ("hexcode", "base"),
    [
        ("1F34E", "1F34E"),
        ("1F44B-1F3FD", "1F44B"),
        ("1F9B8-1F3FE-200D-2640-FE0F", "1F9B8"),
        ("1F9B8-200D-2642", "1F9B8"),
        ("1F468-200D-1F373", "1F9D1-200D-1F373"),
        ("1F469-200D-1F373", "1F9D1-200D-1F373"),
        ("1F6B6-200D-2640-FE0F-200D-27A1-FE0F", "1F6B6"),
        ("2764-FE0F-200D-1F525", "2764-FE0F-200D-1F525"),
    ],
)
def test_a_concept_is_what_is_drawn_whoever_it_is_drawn_as(hexcode: str, base: str) -> None:
    assert concept(hexcode) == base


def test_flags() -> None:
    assert is_flag("1F1EB-1F1F7")
    assert is_flag("1F1FF-1F1E6")
    assert is_flag("1F3F4-E0067-E0062-E0065-E006E-E0067-E007F")
    assert not is_flag("1F3F4")
    assert not is_flag("1F3C1")


def test_the_hash_is_fixed_for_good() -> None:
    # Another value would move pictures that shipped weights were trained on into the test.
    assert fraction("concept", "1F34E") == pytest.approx(CONCEPT_OF_AN_APPLE, abs=1e-12)


CONCEPT_OF_AN_APPLE = 0.09403232168630606


@pytest.mark.parametrize(("part", "styles"), [("train", TRAIN_STYLES), ("judge", JUDGE_STYLES)])
def test_the_shipped_sample_keeps_the_rules(part: str, styles: tuple[str, ...]) -> None:
    rows = [record.facts for record in read(sample_dir(part)).records]
    written = {(str(row["style"]), str(row["hexcode"])): row["split"] for row in rows}
    assert written == assign(written)
    tested = {concept(h) for (_, h), v in written.items() if v == "concept"}
    trained = {concept(h) for (_, h), v in written.items() if v != "concept"}
    assert not tested & trained
    assert 4 <= len(tested) <= 10
    assert {str(row["style"]) for row in rows} == set(styles)
    if part == "train":
        assert 8 <= list(written.values()).count("pair") <= 30


def test_painters_and_judge_share_no_set() -> None:
    assert not set(TRAIN_STYLES) & set(JUDGE_STYLES)
