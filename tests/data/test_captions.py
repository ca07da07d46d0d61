"""Captions: true to their facts, different from each other, the same every time."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.data.captions import STYLES, captions, trimmed_keywords, with_ground
from limner.data.colours import GROUNDS, NAMES
from limner.data.sources import PICTURES

words = st.text(st.characters(categories=["Ll", "Lu", "Zs"]), min_size=1, max_size=20).filter(str.strip)
english = st.lists(
    st.sampled_from("red old apple face man with hat ice unicorn hour grapes glass bread of flag".split()),
    min_size=1,
    max_size=4,
).map(" ".join)
DOUBLED = re.compile(r"\b(a|an|the) (a|an|the)\b", re.IGNORECASE)


def said(name: str = "red apple", style: str = "fluent-3d", seed: int = 0, count: int = 10) -> list[str]:
    return captions(name, style, ["fruit", "food", "diet"], ["red", "green"], random.Random(seed), count)


@given(
    english | words,
    st.sampled_from([*STYLES, "anything"]),
    st.lists(english, max_size=5),
    st.lists(st.sampled_from(NAMES), max_size=3, unique=True),
    st.integers(0, 2**32),
    st.integers(1, 20),
)
def test_captions_of_anything(
    name: str, style: str, keywords: list[str], colours: list[str], seed: int, count: int
) -> None:
    found = captions(name, style, keywords, colours, random.Random(seed), count)
    assert 1 <= len(found) <= count
    assert len(set(found)) == len(found)
    assert all(caption.strip() and "  " not in caption for caption in found)
    assert found == captions(name, style, keywords, colours, random.Random(seed), count)


@given(english, st.sampled_from(list(STYLES)), st.integers(0, 2**32))
def test_no_doubled_articles(name: str, style: str, seed: int) -> None:
    for caption in captions(name, style, ["fruit"], ["red", "blue"], random.Random(seed), 30):
        assert not DOUBLED.search(caption)
        assert not DOUBLED.search(with_ground(caption, "orange"))


@given(st.integers(0, 2**32))
def test_the_first_is_the_name_and_the_second_the_style(seed: int) -> None:
    assert said(seed=seed)[:2] == ["a red apple", "a red apple, 3D style"]


@given(st.integers(0, 2**32))
def test_a_quarter_of_the_captions_has_keywords_for_the_name(seed: int) -> None:
    """And nothing else of the facts: whoever asks so knows neither name nor colours, at most a style."""
    found = said(seed=seed, count=40)
    alone = [caption for caption in found if "apple" not in caption]
    assert 0.1 < len(alone) / len(found) < 0.4
    for caption in alone:
        assert any(word in caption for word in ("fruit", "food", "diet"))
        assert "red" not in caption.split()
        assert "green" not in caption.split()


@given(st.integers(0, 2**32))
def test_a_colour_in_the_name_is_not_said_twice(seed: int) -> None:
    named = [caption for caption in said(seed=seed, count=40) if "apple" in caption]
    assert all(caption.lower().count("red") == 1 for caption in named)
    assert any("green" in caption for caption in said(seed=seed, count=40))


def test_captions_run_from_two_words_to_a_sentence() -> None:
    found = [caption for seed in range(40) for caption in said(seed=seed)]
    lengths = {len(caption.split()) for caption in found}
    assert min(lengths) == 2
    assert max(lengths) >= 12
    assert any(caption[0].isupper() and caption.endswith(".") for caption in found)
    assert len(set(found)) > 60


def test_every_set_has_words_for_its_style() -> None:
    assert set(PICTURES) <= set(STYLES)
    canonical = [style.tags[0] for style in STYLES.values()]
    assert len(set(canonical)) == len(canonical)


@given(english, st.sampled_from(list(GROUNDS)))
def test_a_ground_is_named_after_the_caption(caption: str, colour: str) -> None:
    for text in (caption, f"{caption}."):
        grounded = with_ground(text, colour)
        assert grounded.startswith(caption)
        assert colour in grounded[len(caption) :]
        assert grounded.endswith(".") == text.endswith(".")
        assert grounded == with_ground(text, colour)
    assert re.search(rf"\b{'an' if colour[0] in 'aeiou' else 'a'} {colour}\b", grounded)


def test_keywords_say_something_new() -> None:
    kept = trimmed_keywords(
        "red apple",
        ["apple", "apples", "red", "food", "FR", "g2g", "red apple", "fruit"],
        ["food", "tasty | treat", "green", "ripe fruit"],
        rank={"fruit": 5, "food": 9},
    )
    assert kept == ["food", "fruit", "ripe fruit"]
    assert trimmed_keywords("woman cook", ["man", "chef"], rank={}) == ["chef"]


@pytest.mark.parametrize(("name", "count"), [("", 3), ("  ", 3), ("apple", 0)])
def test_senseless_arguments_are_named(name: str, count: int) -> None:
    with pytest.raises(ValueError, match=r"name|count"):
        captions(name, "noto", [], [], random.Random(0), count)
