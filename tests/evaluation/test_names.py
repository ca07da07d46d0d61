from pathlib import Path

import pytest

from limner.data.folder import Record
from limner.data.splits import fraction
from limner.evaluation.names import BENCHMARK, CLOCKS, nameable, plain


def drawing(hexcode: str, style: str, **facts: object) -> Record:
    return Record(Path("x.png"), ("x",), {"hexcode": hexcode, "style": style, "group": "objects", **facts})


def drawn(hexcode: str, styles: str, **facts: object) -> list[Record]:
    return [drawing(hexcode, style, **facts) for style in styles]


def test_the_benchmark_is_300_names_in_the_hash_s_order():
    assert len(set(BENCHMARK)) == len(BENCHMARK) == 300
    assert list(BENCHMARK) == sorted(BENCHMARK, key=lambda hexcode: fraction("recognition", hexcode))
    # About a sixth of all hexcodes have smaller hashes than the last: it was cut where 752 were to be had.
    assert 0.3 < fraction("recognition", BENCHMARK[-1]) < 0.5


def test_the_benchmark_asks_for_no_flags_clocks_or_families():
    for hexcode in BENCHMARK:
        parts = hexcode.split("-")
        assert "200D" not in parts
        assert not any(0x1F1E6 <= int(part, 16) <= 0x1F1FF for part in parts)
        assert hexcode not in CLOCKS


def test_three_sets_on_either_side():
    painters = drawn("A", "abc") + drawn("B", "ab") + drawn("C", "abcd") + drawn("D", "abc")
    judges = drawn("A", "xyz") + drawn("B", "xyz") + drawn("C", "xy") + drawn("D", "xyzw")
    assert set(nameable(painters, judges)) == {"A", "D"}
    # Two drawings of one set are one set.
    assert nameable(drawn("A", "aab"), drawn("A", "xyz")) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"skin_tone": "dark"},
        {"group": "flags"},
        {"group": "symbols"},
        {"hexcode": "1F558"},
        {"hexcode": "1F468-200D-1F469"},
    ],
)
def test_what_has_no_name_of_its_own(facts: dict[str, object]):
    assert plain(drawing("1F34E", "noto"))
    assert not plain(Record(Path("x.png"), ("x",), {**drawing("1F34E", "noto").facts, **facts}))


def test_a_picture_of_anybody_s_has_no_hexcode():
    assert not plain(Record(Path("x.png"), ("x",)))
