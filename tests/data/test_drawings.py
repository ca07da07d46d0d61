"""Every drawing is matched to what it shows, however its set spells that."""

import pytest

from limner.data.drawings import drawings, slug, spellings
from limner.data.names import bare, emoji_table
from limner.data.render import Drawing


@pytest.fixture
def table(press):
    emojibase, cldr = press.names()
    return emoji_table(press.folder / emojibase.tarball, press.folder / cldr.tarball)


def test_the_table_holds_drawings_of_something(table) -> None:
    assert "1F1E6" not in table
    assert "1F3FB" not in table
    apple = table["1F34E"]
    assert (apple.name, apple.group, apple.tone) == ("red apple", "food-drink", None)
    assert apple.keywords == ("fruit", "ripe")
    waving = table["1F44B-1F3FD"]
    assert (waving.name, waving.tone) == ("waving hand with medium skin tone", "medium")
    assert waving.keywords == ("hello",)
    assert table["1F1EB-1F1F7"].name == "flag of France"


def test_hexcodes_are_compared_without_the_colour_selector() -> None:
    assert bare("2764-FE0F-200D-1F525") == bare("2764_200d_1f525") == "2764-200D-1F525"
    assert bare("a9-fe0f") == "00A9"


def test_files_are_matched_by_name_dots_or_not(press, table) -> None:
    package = press.pack(
        "bitmaps",
        {
            "assets/1f34e.webp": b"apple",
            "assets/1f34fsvg": "<svg/>",
            "assets/2764-200d-1f525.svg": "<svg>heart</svg>",
            "assets/ffff.svg": "<svg/>",
            "assets/readme.txt": "no",
            "other/1f98a.svg": "<svg/>",
        },
    )
    found = drawings("fluent-3d", press.folder / package.tarball, table)
    assert found == [
        ("1F34E", Drawing(bitmap=b"apple")),
        ("1F34F", Drawing(svg="<svg/>")),
        ("2764-FE0F-200D-1F525", Drawing(svg="<svg>heart</svg>")),
    ]


def test_iconify_sets_are_matched_by_code_point(press, table) -> None:
    package = press.iconify(
        "icons",
        {"1f34e": "red-apple", "2764-fe0f-200d-1f525": "alias", "1f98a": "turned", "ffff": "red-apple"},
        {"red-apple": {"body": "<a/>"}, "heart": {"body": "<b/>", "width": 10, "height": 20, "left": 1}},
        aliases={"alias": {"parent": "heart"}, "turned": {"parent": "heart", "hFlip": True}},
    )
    found = dict(drawings("noto", press.folder / package.tarball, table))
    assert list(found) == ["1F34E", "2764-FE0F-200D-1F525"]
    assert 'viewBox="0 0 32 32"><a/></svg>' in found["1F34E"].svg
    assert 'viewBox="1 0 10 20"><b/></svg>' in found["2764-FE0F-200D-1F525"].svg


def test_sets_without_code_points_are_matched_by_name(press, table) -> None:
    icons = [
        "fox-face-1",
        "fox-face-2",
        "flag-for-st-martin",
        "red-apple",
        "thing",
        "waving-hand-light-skin-tone",
    ]
    package = press.iconify("slugs", {}, {name: {"body": f"<{name}/>"} for name in icons})
    found = dict(drawings("streamline", press.folder / package.tarball, table))
    assert list(found) == ["1F34E", "1F1F2-1F1EB", "1F98A", "1F44B-1F3FB"]
    assert "<fox-face-1/>" in found["1F98A"].svg


def test_spellings_begin_with_the_name_itself() -> None:
    for icon in ("monkey-face", "digit-2", "flag-for-france"):
        assert next(spellings(icon)) == icon
    assert "flag-antigua-barbuda" in spellings("flag-for-antigua-and-barbuda")
    assert slug("flag: Côte d\u2019Ivoire") == "flag-cote-divoire"


def test_an_unknown_style_is_named(press, table) -> None:
    with pytest.raises(ValueError, match="crayon"):
        drawings("crayon", press.folder / "none.tgz", table)
