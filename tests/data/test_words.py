"""Names are said as people say them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.data.words import article, listed, named, spoken


@pytest.mark.parametrize(
    "name",
    [
        "a red apple",
        "an orange",
        "an hourglass done",
        "a unicorn",
        "a ewe",
        "an x-ray",
        "an ATM sign",
        "a FREE button",
        "an UP! button",
        "an A button (blood type)",
        "a B button (blood type)",
        "a 1st place medal",
        "an eight-spoked asterisk",
        "a bus",
        "an octopus",
        "a cactus",
        "a rhinoceros",
        "a person lifting weights",
        "a face savoring food",
        "a woman's hat",
        "a backhand index pointing left",
        "a woman and man holding hands",
        "the flag of France",
        "the flag of the Netherlands",
        "the Leo zodiac sign",
        "the milky way",
        "the Statue of Liberty",
    ],
)
def test_articles(name: str) -> None:
    first, _, bare = name.partition(" ")
    assert article(bare) == first
    assert named(bare) == name


@pytest.mark.parametrize(
    "name",
    [
        "grapes",
        "glasses",
        "scissors",
        "bread",
        "baguette bread",
        "two hearts",
        "people hugging",
        "women holding hands",
        "no smoking",
        "thumbs up",
        "Santa Claus",
        "keycap 5",
        "meat on bone",
        "a red apple",
        "the sun",
    ],
)
def test_plurals_stuffs_and_marked_names_take_none(name: str) -> None:
    assert named(name) == name


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("red apple", "red apple"),
        ("flag: France", "flag of France"),
        ("flag: Antigua & Barbuda", "flag of Antigua and Barbuda"),
        ("flag: Isle of Man", "flag of the Isle of Man"),
        ("flag: Hong Kong SAR China", "flag of Hong Kong"),
        ("keycap: #", "keycap #"),
        ("Aries", "Aries zodiac sign"),
        ("three o\u2019clock", "clock at three o'clock"),
        ("three-thirty", "clock at three-thirty"),
        ("waving hand: light skin tone", "waving hand with light skin tone"),
        ("man: blond hair", "man with blond hair"),
        ("woman: dark skin tone, red hair", "woman with dark skin tone and red hair"),
        ("women with bunny ears: dark skin tone", "women with bunny ears and dark skin tone"),
        (
            "people wrestling: light skin tone, dark skin tone",
            "people wrestling with light and dark skin tones",
        ),
        ("family: man, woman, girl, boy", "family of a man, a woman, a girl and a boy"),
        ("family: adult, adult, child", "family of two adults and a child"),
        ("kiss: woman, man", "kiss of a woman and a man"),
        ("person walking: facing right", "person walking facing right"),
        ("Japanese \u201chere\u201d button", 'Japanese "here" button'),
    ],
)
def test_labels_as_people_say_them(label: str, said: str) -> None:
    assert spoken(label) == said


@given(st.text(min_size=1).filter(str.strip))
def test_any_name_gets_at_most_one_article(name: str) -> None:
    once = named(name)
    assert once.endswith(name)
    assert named(once) in (once, f"the {once}") or not article(name)


def test_lists() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
