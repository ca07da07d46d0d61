"""What the buttons call with what their fields hold, without a browser: answers, and what went wrong."""

import gradio as gr
import pytest
from PIL import Image
from starlette.requests import Request

import limner
from limner.server import Service
from limner.server.painters import served
from limner.studio import fields, inside
from limner.studio.edit import MEND, REDRAW
from limner.studio.known import Known
from limner.studio.page import build
from limner.studio.shown import data_url
from limner.studio.training import Training
from limner.studio.turns import Done, Visit
from limner.studio.vary import BLEND, DIFF, VARY
from limner.studio.wall import Hung


@pytest.fixture(scope="module")
def press(make_service):
    """Calls the handler of this name and returns the last of its answers."""
    service, training = make_service(), Training()
    # As the door hands them on.
    request = gr.Request(request=Request({"type": "http", "state": {"caller": "127.0.0.1"}}))
    handlers = {getattr(one.fn, "__qualname__", ""): one.fn for one in build(service, training).fns.values()}

    def press(name, *fields):
        *_, last = handlers[name](*fields, request)
        return last

    yield press
    service.end()
    training.close()


@pytest.fixture(scope="module")
def files(drawings, tmp_path_factory):
    """The drawings as files, as fields of pictures hold them."""
    found = [tmp_path_factory.mktemp("sent") / f"{number}.png" for number in range(len(drawings))]
    for image, file in zip(drawings, found, strict=True):
        image.save(file)
    return [str(file) for file in found]


def test_painting_hangs_pictures_on_the_wall(press):
    note, wall, hung = press("paint_tab.<locals>.work", "a pear", "dalle2", 64, 2, "7", "", "3", "", Hung())
    assert "painted 2 pictures" in note
    assert wall.count("<figure") == len(hung.pictures) == 2
    note, wall, again = press(
        "paint_tab.<locals>.work", "a pear", "dalle2", 64, 1, "8", "2.5", "3", "a cat", hung
    )
    assert again.pictures[0].facts["negative prompt"] == "a cat"
    assert [one.caption for one in again.pictures] == [f"dalle2, seed {n}, 64×64" for n in (8, 7, 8)]
    note, wall, kept = press("paint_tab.<locals>.work", "a pear", "dalle2", 64, 1, "seven", "", "", "", again)
    assert 'role="alert"' in note
    assert "Seed is &#x27;seven&#x27;" in note
    assert kept == again


def test_editing_mends_what_is_marked_and_redraws(press, drawings):
    mask = Image.new("RGBA", drawings[0].size, (0, 0, 0, 0))
    mask.paste("white", (8, 8, 40, 40))
    work, rest = "edit_tab.<locals>.work", ("glide", 64, 1, "3", Hung())
    for image, marks, how, strength in (
        (drawings[0], data_url(mask), MEND, 0.5),
        (drawings[0], "", REDRAW, 1),
    ):
        note, _, hung = press(work, image, marks, "a pear", how, strength, *rest)
        assert "painted anew" in note
        assert len(hung.pictures) == 1
    for image, marks, said in ((None, "", "There is no picture"), (drawings[0], "", "Nothing is marked")):
        note, _, hung = press(work, image, marks, "a pear", MEND, 0.5, *rest)
        assert said in note
        assert hung == Hung()


def test_varying_blending_and_changing_with_words(press, files):
    work, (first, last) = "vary_tab.<locals>.work", files
    note, html = press(work, VARY, first, None, "", "", 1, 2, 3, 64, "dalle2", "5")
    assert "made 2 pictures" in note
    assert "<input" not in html
    note, html = press(work, BLEND, first, last, "", "", 1, 2, 3, 64, "dalle2", "")
    assert "made 3 pictures" in note
    assert 'max="2" value="1"' in html
    note, html = press(work, DIFF, first, None, "a pear", "a cat", 0.5, 2, 3, 64, "dalle2", "")
    assert "strength 0.50" in html
    note, _ = press(work, BLEND, first, None, "", "", 1, 2, 3, 64, "dalle2", "")
    assert "There is no second picture" in note


def test_looking_inside(press, files, tmp_path):
    _, html = press("_making_part.<locals>.work", "a pear", "dalle2", "4")
    assert "Its neighbours" in html
    assert 'aria-label="Step of the denoising"' in html
    note, html = press("_lens_part.<locals>.reading", files[0], "a cat, a dog")
    assert html.count('class="lm-bar"') == 2
    note, _ = press("_lens_part.<locals>.reading", None, "a cat")
    assert "There is no picture" in note
    (tmp_path / "none.png").write_bytes(b"none")
    note, _ = press("_lens_part.<locals>.reading", str(tmp_path / "none.png"), "a cat")
    assert "Picture is not a picture that can be read" in note
    _, html = press("_walk_part.<locals>.walking", *files)
    assert "Way through the VAE" in html


def test_comparing(press):
    note, html = press("compare_tab.<locals>.work", "a pear", "3")
    assert "all painted from seed 3" in note
    assert html.count("weights in memory") == 3
    note, _ = press("compare_tab.<locals>.work", " ", "3")
    assert 'role="alert"' in note


@pytest.mark.parametrize("tab", ["paint", "edit", "vary"])
def test_the_sizes_follow_the_painter(painters, tab):
    """Small ones, and those that ship, which are larger."""
    kind = {"paint": "dalle1", "edit": "glide", "vary": "dalle2"}[tab]
    large = limner.load(kind)
    assert set(large.sizes) != set(painters[kind].sizes)
    service = Service([served("small", painters[kind]), served("large", large)])
    page = build(service, None)
    found = {one.elem_id: one for one in page.blocks.values() if hasattr(one, "elem_id")}
    model, size = found[f"lm-{tab}-model"], found[f"lm-{tab}-size"]
    (follows,) = (one for one in page.fns.values() if (model._id, "change") in one.targets)
    assert follows.outputs == [size]
    for name, painter in (("large", large), ("small", painters[kind])):
        changed = follows.fn(name)
        sides = [side for _, side in changed.choices]
        assert sides == list(painter.sizes)
        assert changed.value in sides
    assert [side for _, side in size.choices] == sides
    service.end()


@pytest.mark.parametrize(
    ("kind", "called", "refused"),
    [
        ("dalle2", "DALL-E 2", ()),
        ("glide", "GLIDE", ()),
        ("dalle1", "Painters of tokens", ("steps", "negative_prompt")),
        ("dalle_mini", "Painters of tokens", ("steps", "negative_prompt")),
        ("dfgan", "DF-GAN", ("steps", "guidance", "negative_prompt")),
    ],
)
def test_fields_say_which_painters_take_nothing_there(painters, kind, called, refused):
    """What a painter refuses stands below the field, and nothing that it takes."""
    one, usual = served(kind, painters[kind]), {"steps": None, "guidance": None, "negative_prompt": ""}
    told = {"steps": fields.STEPS, "guidance": fields.GUIDANCE, "negative_prompt": fields.NEGATIVE}
    for name, given in (("steps", 3), ("guidance", 2.0), ("negative_prompt", "a cat")):
        assert (name in refused) == (called in told[name])
        if name not in refused:
            assert getattr(one.settings(**usual | {name: given}), name) == given
            continue
        with pytest.raises(ValueError, match=f"^{name} is "):
            one.settings(**usual | {name: given})


def test_three_kinds_of_painters_are_looked_into_and_of_others_it_is_said(make_service, painters):
    service = make_service(*painters)
    visit, known = Visit(service, "127.0.0.1"), Known()
    for kind in ("dalle1", "dalle2", "glide"):
        assert isinstance(list(inside.made(visit, known, kind, "a pear", 3))[-1], Done)
    for kind in ("dalle_mini", "dfgan"):
        with pytest.raises(
            ValueError, match=f"^model is '{kind}', whose steps are not shown: choose another"
        ):
            list(inside.made(visit, known, kind, "a pear", 3))
    service.end()
