"""Paint, Edit, Vary and blend, Compare: the page makes what the pipelines make of the same words and seed."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from limner.pipelines import GlideSettings, PaintSettings
from limner.pipelines.manipulations import blend, edit, vary
from limner.pipelines.progress import Tick
from limner.server.errors import Refused
from limner.studio import compare, paint, turns
from limner.studio.asked import Asked, number, order_of, whole
from limner.studio.brush import as_request, marked, to_mark
from limner.studio.edit import mend, redraw
from limner.studio.shown import data_url, facts_of, opened
from limner.studio.turns import Visit
from limner.studio.vary import blended, changed, varied
from limner.studio.wall import MOST_SHOWN, Hung, hung, on_the_wall

ME = "127.0.0.1"
FEW = Asked(prompt="a pear", count=2, side=64, seed=7, steps=3)


def pixels(image):
    return np.asarray(image.convert("RGB"), dtype=int)


# --- paint ----------------------------------------------------------------------------------------


def test_it_paints_what_the_pipeline_paints_and_shows_every_step(ended, service, painters):
    told, painted = ended(paint.paint(Visit(service, ME), "dalle2", FEW))
    expected = painters["dalle2"].paint("a pear", count=2, size=64, seed=7, settings=PaintSettings(steps=3))
    for one, image in zip(painted, expected, strict=True):
        assert np.array_equal(pixels(opened(one.png)), pixels(image))
    assert [one.seed for one in painted] == [7, 8]
    sketched = [event.number for event in told if isinstance(event, turns.Sketched)]
    assert sorted(sketched) == [0, 0, 1, 1]  # after each step but the last, which is the picture
    ticks = [event for event in told if isinstance(event, Tick)]
    assert ticks[-1].done == ticks[-1].total
    assert [tick.done for tick in ticks] == sorted(tick.done for tick in ticks)


def test_every_painter_tells_how_far_it_is(ended, service):
    for name in ("glide", "dalle1"):
        told, painted = ended(paint.paint(Visit(service, ME), name, Asked(prompt="a pear", seed=1)))
        ticks = [event for event in told if isinstance(event, Tick)]
        assert ticks[-1].done == ticks[-1].total, name
        assert len(painted) == 1


def test_without_a_seed_one_is_drawn(service):
    seeds = {order_of(service.painters[0], Asked(prompt="a pear")).seed for _ in range(20)}
    assert len(seeds) > 10


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(prompt=" "), "prompt is ' '"),
        (Asked(prompt="a pear", count=11), "count is 11"),
        (Asked(prompt="a pear", seed=-1), "seed is -1"),
        (Asked(prompt="a pear", steps=2000), "steps is 2000"),
        (Asked(prompt="a pear", guidance=-1.0), "guidance is -1"),
        (Asked(prompt="a pear", side=48), "size is 48: choose 64 or 256"),
    ],
)
def test_what_cannot_be_painted_is_refused_before_it_waits(service, asked, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        next(paint.paint(Visit(service, ME), "dalle2", asked))
    assert service.painting.waiting == service.painting.working == 0


@pytest.mark.parametrize("model", ["dalle2", "glide", "dalle1", "dalle_mini", "dfgan"])
def test_a_size_that_a_painter_has_not_is_refused_before_it_waits(make_service, drawings, model):
    service = make_service("dalle2", "glide", "dalle1", "dalle_mini", "dfgan")
    visit, image = Visit(service, ME), drawings[0]
    odd = replace(FEW, side=48, steps=None)
    asked = [paint.paint(visit, model, odd)]
    if model == "glide":
        asked.append(mend(visit, model, odd, image, Image.new("L", image.size, 255)))
        asked.append(redraw(visit, model, odd, image, 0.5))
    if model == "dalle2":
        asked.append(varied(visit, model, image, count=1, strength=1.0, side=48, seed=0))
        asked.append(blended(visit, model, image, image, steps=2, side=48))
        words = {"source": "a pear", "target": "a cat"}
        asked.append(changed(visit, model, image, strength=0.5, steps=2, side=48, **words))
    for events in asked:
        with pytest.raises(ValueError, match=r"^size is 48: choose "):
            next(events)
    assert service.painting.waiting == service.painting.working == 0
    service.end()


def test_painters_that_are_not_here_are_refused(service):
    with pytest.raises(Refused, match=r"^model is 'dalle9', which is not served here"):
        next(paint.paint(Visit(service, ME), "dalle9", FEW))


def test_leaving_frees_the_place(ended, service):
    long = Asked(prompt="a pear", count=10, side=64, steps=1000)
    events = paint.paint(Visit(service, ME), "dalle2", long)
    while not isinstance(next(events), Tick):
        pass
    events.close()
    _, painted = ended(paint.paint(Visit(service, ME), "dalle2", FEW))  # it would wait for minutes
    assert len(painted) == 2


def test_a_stopping_server_says_so(make_service):
    service = make_service("dalle2")
    service.close()
    with pytest.raises(Refused, match=r"^the server is stopping"):
        next(paint.paint(Visit(service, ME), "dalle2", FEW))
    service.end()


def test_other_work_waits_its_turn_and_what_goes_wrong_in_it_is_told(ended, service):
    order = []

    def work(check, tell):
        check()
        tell(Tick("drawing", 1, 2))
        order.append("work")
        return 42

    told, found = ended(turns.done(Visit(service, ME), work))
    assert found == 42
    assert told[-1] == Tick("drawing", 1, 2)

    def broken(*_):
        raise ValueError("strength is 9: give less")

    with pytest.raises(ValueError, match=r"^strength is 9"):
        list(turns.done(Visit(service, ME), broken))
    assert order == ["work"]


def test_pages_take_turns_with_all_others(ended, service, monkeypatch):
    callers, put = [], service.painting.put

    def overheard(wanted, *, key, pictures, caller):
        callers.append(caller)
        return put(wanted, key=key, pictures=pictures, caller=caller)

    monkeypatch.setattr(service.painting, "put", overheard)
    ended(paint.paint(Visit(service, "one"), "dalle2", FEW))
    ended(turns.done(Visit(service, "another"), lambda *_: None))
    assert callers == ["one", "another"]


def test_a_page_is_told_no_more_often_than_it_can_be_looked_at():
    pace = turns.Pace(0.05)
    assert pace()
    assert not pace()
    time.sleep(0.06)
    assert pace()


@pytest.mark.parametrize(("text", "value"), [("", None), (" ", None), ("7", 7), (" 12 ", 12)])
def test_fields_may_be_empty(text, value):
    assert whole(text, "seed") == value
    assert number(text, "guidance") == value


def test_fields_that_hold_no_number_are_named():
    with pytest.raises(ValueError, match=r"^seed is '1\.5': give a whole number"):
        whole("1.5", "seed")
    with pytest.raises(ValueError, match=r"^guidance is 'much': give a number"):
        number("much", "guidance")


# --- the wall -------------------------------------------------------------------------------------


def test_pictures_hang_on_the_wall_with_their_facts(ended, service):
    _, painted = ended(paint.paint(Visit(service, ME), "dalle2", FEW))
    first, second = hung(service, painted, by="dalle2")
    assert first.words == "a pear"
    assert first.caption == "dalle2, seed 7, 64×64"
    assert first.facts["prompt"] == "a pear"
    assert first.facts["steps"] == "3"
    image, facts = on_the_wall(service, second.name)
    assert np.array_equal(pixels(image), pixels(opened(painted[1].png)))
    assert facts == facts_of(opened(painted[1].png))
    assert on_the_wall(service, "none.png") is None
    many = Hung().with_new([first] * 40).with_new([second] * 20)
    assert len(many.pictures) == MOST_SHOWN
    assert many.pictures[0] is second


# --- edit -----------------------------------------------------------------------------------------


def test_mending_keeps_what_is_not_marked(ended, service, drawings):
    image = to_mark(drawings[0])
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (16, 16, 48, 48))
    side = max(service.painter("glide", lambda _: True, "paint").painter.sizes)
    _, (one,) = ended(
        mend(Visit(service, ME), "glide", Asked(prompt="a pear", seed=3, side=side), image, mask)
    )
    found, before = pixels(opened(one.png)), pixels(image.resize((side, side), Image.Resampling.BOX))
    outside = np.ones((side, side), dtype=bool)
    edge = side // 4
    outside[edge : side - edge, edge : side - edge] = False
    assert np.abs(found - before)[outside].max() <= 1
    assert np.abs(found - before)[~outside].max() > 8


def test_redrawing_is_what_the_pipeline_does(ended, service, painters, drawings):
    asked = Asked(prompt="a pear", seed=3, count=2)
    told, painted = ended(redraw(Visit(service, ME), "glide", asked, drawings[0], 0.5))
    expected = painters["glide"].redraw(
        drawings[0], "a pear", strength=0.5, count=2, seed=3, settings=GlideSettings()
    )
    for one, image in zip(painted, expected, strict=True):
        assert np.array_equal(pixels(opened(one.png)), pixels(image))
    assert facts_of(opened(painted[0].png))["strength"] == "0.5"
    assert any(isinstance(event, turns.Sketched) for event in told)
    with pytest.raises(ValueError, match=r"^strength is 2"):
        list(redraw(Visit(service, ME), "glide", asked, drawings[0], 2.0))


def test_painters_that_do_not_edit_are_refused(service, drawings):
    with pytest.raises(Refused, match=r"^dalle2 cannot edit pictures, but glide can"):
        next(mend(Visit(service, ME), "dalle2", FEW, drawings[0], Image.new("L", (64, 64), 255)))


def test_marks_come_as_the_brush_sends_them():
    drawn = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawn.paste((255, 255, 255, 255), (2, 2, 4, 4))
    mask = marked(data_url(drawn))
    assert mask.getbbox() == (2, 2, 4, 4)
    image, cut = as_request(Image.new("RGB", (8, 8), "red"), mask)
    assert opened(image).size == (8, 8)
    assert opened(cut).getchannel("A").point(lambda alpha: 255 - alpha).getbbox() == (2, 2, 4, 4)
    with pytest.raises(Refused, match=r"^nothing is marked"):
        marked("")
    with pytest.raises(Refused, match=r"^the mask cannot be read"):
        marked("data:image/png;base64,%%%")


def test_large_pictures_are_brought_to_what_is_marked_on():
    seen = to_mark(Image.new("RGBA", (2000, 1000), (0, 0, 0, 0)))
    assert seen.size == (512, 256)
    assert seen.getpixel((5, 5)) == (255, 255, 255)


# --- vary and blend -------------------------------------------------------------------------------


def test_others_of_a_picture_are_the_pipelines(ended, service, painters, drawings):
    asked = {"count": 2, "strength": 0.5, "seed": 3}
    _, made = ended(varied(Visit(service, ME), "dalle2", drawings[0], side=64, **asked))
    expected = vary(painters["dalle2"], drawings[0], size=64, **asked)
    for one, image in zip(made, expected, strict=True):
        assert np.array_equal(pixels(opened(one.png)), pixels(image))
    assert [one.title for one in made] == ["seed 3", "seed 4"]


def test_the_way_between_two_is_the_pipelines(ended, service, painters, drawings):
    _, made = ended(blended(Visit(service, ME), "dalle2", *drawings, steps=3, side=64))
    expected = blend(painters["dalle2"], *drawings, steps=3, size=64)
    for one, image in zip(made, expected, strict=True):
        assert np.array_equal(pixels(opened(one.png)), pixels(image))
    assert [one.title for one in made] == ["0 % of the second", "50 % of the second", "100 % of the second"]


def test_changes_by_words_are_the_pipelines(ended, service, painters, drawings):
    words = {"source": "a pear", "target": "a cat"}
    _, made = ended(
        changed(Visit(service, ME), "dalle2", drawings[0], strength=0.5, steps=2, side=64, **words)
    )
    expected = edit(painters["dalle2"], drawings[0], "a cat", source="a pear", strength=0.5, steps=2, size=64)
    for one, image in zip(made, expected, strict=True):
        assert np.array_equal(pixels(opened(one.png)), pixels(image))
    assert made[-1].title == "strength 0.50"
    with pytest.raises(ValueError, match=r"^source and target are both 'a cat'"):
        list(
            changed(
                Visit(service, ME),
                "dalle2",
                drawings[0],
                source="a cat",
                target="a cat",
                strength=0.5,
                steps=2,
                side=64,
            )
        )


def test_painters_that_do_not_vary_are_refused(service, drawings):
    with pytest.raises(Refused, match=r"^glide cannot vary pictures, but dalle2 can"):
        next(varied(Visit(service, ME), "glide", drawings[0], count=1, strength=1.0, side=64, seed=0))


# --- compare --------------------------------------------------------------------------------------


def test_each_painter_is_measured_at_the_same_words_and_seed(ended, service):
    for served in service.painters:
        _, found = ended(compare.took(Visit(service, ME), served, "a pear", 5))
        assert found.painter == served.name
        assert found.painted.seed == 5
        assert found.seconds > 0
        networks = [part for part in vars(served.painter).values() if hasattr(part, "parameters")]
        assert found.weights == 4 * sum(p.numel() for part in networks for p in part.parameters())
        said = compare.cards({served.name: found}, "a <pear>")
        assert "a &lt;pear&gt;" in said
        assert f"{found.seconds:.1f} s" in said
