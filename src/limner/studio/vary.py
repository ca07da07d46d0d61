"""Vary and blend: others of what a picture shows, the way from one to another, and changes by words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import gradio as gr
from PIL import Image

from limner import __version__
from limner.pipelines.manipulations import blend, edit, vary
from limner.pipelines.pictures import fingerprint
from limner.pipelines.png import encode_png
from limner.pipelines.settings import EDIT_STRENGTH, VARY_STRENGTH, checked_size
from limner.server.painters import Check, Unclip
from limner.server.service import Service
from limner.studio.asked import seed_of, whole
from limner.studio.fields import (
    count_field,
    model_field,
    other_sizes,
    picture_field,
    seed_field,
    sent,
    size_field,
)
from limner.studio.shown import WAY, Picture, alert, note, on_the_way, wall, way
from limner.studio.turns import TROUBLE, Done, Event, Stopped, Tell, UnderWay, Visit, done, ticking
from limner.studio.wall import CLICKED, hung_png

VARY, BLEND, DIFF = "Vary", "Blend two", "Change with words"
EMPTY = "Open a picture, or press Vary below one that you have painted."
NOBODY = "No painter that varies is served here: start the studio with --models dalle2."
STEPS = 7


@dataclass(frozen=True, kw_only=True)
class Made:
    """A picture that was made of others: its file, and a word on where on the way it stands."""

    png: bytes
    title: str


@dataclass(frozen=True)
class VaryTab:
    """What the page needs of this tab: where another tab's picture goes, and the wall."""

    picture: gr.Image | None
    wall: gr.HTML | None


def variers(service: Service) -> list[Unclip]:
    """The painters that look at pictures and paint what they see."""
    return [one for one in service.painters if isinstance(one, Unclip) and one.varies]


def varied(
    visit: Visit, model: str, image: Image.Image, *, count: int, strength: float, side: int, seed: int
) -> Iterator[Event | Done[list[Made]]]:
    """Other pictures of what CLIP sees in one; `strength`: how much of its noise is drawn anew."""
    painter = _varier(visit, model, side)

    def work(check: Check, tell: Tell) -> list[Made]:
        images = vary(
            painter.painter,
            image,
            count=count,
            strength=strength,
            size=side,
            seed=seed,
            on_tick=ticking(check, tell),
        )
        titles = [f"seed {seed + number}" for number in range(count)]
        return _made(painter, images, titles, [image], {"strength": str(strength)})

    yield from done(visit, work)


def blended(
    visit: Visit, model: str, first: Image.Image, last: Image.Image, *, steps: int, side: int
) -> Iterator[Event | Done[list[Made]]]:
    """Pictures on the way from one to another, both ends included."""
    painter = _varier(visit, model, side)

    def work(check: Check, tell: Tell) -> list[Made]:
        images = blend(painter.painter, first, last, steps=steps, size=side, on_tick=ticking(check, tell))
        titles = [f"{100 * number / (steps - 1):.0f} % of the second" for number in range(steps)]
        return _made(painter, images, titles, [first, last], {"noise": "inverted"})

    yield from done(visit, work)


def changed(
    visit: Visit,
    model: str,
    image: Image.Image,
    *,
    source: str,
    target: str,
    strength: float,
    steps: int,
    side: int,
) -> Iterator[Event | Done[list[Made]]]:
    """A picture on its way from what `source` says, if anything, to what `target` says."""
    painter = _varier(visit, model, side)

    def work(check: Check, tell: Tell) -> list[Made]:
        images = edit(
            painter.painter,
            image,
            target,
            source=source.strip() or None,
            strength=strength,
            steps=steps,
            size=side,
            on_tick=ticking(check, tell),
        )
        titles = [f"strength {strength * (number + 1) / steps:.2f}" for number in range(steps)]
        told = {"from": source, "to": target, "strength": str(strength)}
        return _made(painter, images, titles, [image], told)

    yield from done(visit, work)


def _varier(visit: Visit, model: str, side: int) -> Unclip:
    painter = visit.service.painter(model, lambda one: one.varies, "vary pictures")
    assert isinstance(painter, Unclip)
    checked_size(side, painter.painter.sizes)
    return painter


def _made(
    painter: Unclip,
    images: Sequence[Image.Image],
    titles: Sequence[str],
    of: Sequence[Image.Image],
    told: dict[str, str],
) -> list[Made]:
    says = {"model": "dalle2", "weights": painter.painter.digest, "limner": __version__, **told}
    says["of"] = " ".join(map(fingerprint, of))
    return [
        Made(png=encode_png(one, says | {"step": title}), title=title)
        for one, title in zip(images, titles, strict=True)
    ]


def vary_tab(service: Service) -> VaryTab:
    """The tab."""
    able = variers(service)
    if not able:
        gr.HTML(note(NOBODY))
        return VaryTab(picture=None, wall=None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            what = gr.Radio([VARY, BLEND, DIFF], value=VARY, label="What to do", elem_id="lm-vary-what")
            first = picture_field("Picture", "lm-vary-first")
            last = picture_field("Second picture", "lm-vary-last", visible=False)
            source = gr.Textbox(
                "",
                label="From",
                placeholder="a red apple",
                info="What it is. With this left empty, all of the picture turns to the words below.",
                visible=False,
                elem_id="lm-vary-from",
            )
            target = gr.Textbox(
                "",
                label="To",
                placeholder="a green apple",
                info="What it shall be.",
                visible=False,
                elem_id="lm-vary-to",
            )
            strength = gr.Slider(
                0.0, 1.0, value=VARY_STRENGTH, step=0.05, label="Strength", elem_id="lm-vary-strength"
            )
            count = count_field(4, "lm-vary-count")
            steps = gr.Slider(
                2,
                15,
                value=STEPS,
                step=1,
                label="Pictures on the way",
                visible=False,
                elem_id="lm-vary-steps",
            )
            size = size_field(able[0], "lm-vary-size")
            with gr.Accordion("Painter and seed", open=False):
                model = model_field(able, "lm-vary-model")
                seed = seed_field("lm-vary-seed")
            with gr.Row():
                go = gr.Button("Make", variant="primary", elem_id="lm-vary-go")
                stop = gr.Button("Stop", variant="stop", elem_id="lm-vary-stop")
            state = gr.HTML(note("ready"), elem_id="lm-vary-note")
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(wall((), empty=EMPTY), js_on_load=CLICKED + WAY, elem_id="lm-vary-wall")
    under_way = UnderWay()

    def work(
        what: str,
        first: str | None,
        last: str | None,
        source: str,
        target: str,
        strength: int | float,
        count: int | float,
        steps: int | float,
        side: int,
        model: str,
        seed: str,
        request: gr.Request,
    ) -> Iterator[tuple[str, str]]:
        try:
            with under_way.visit(service, request) as visit:
                image = sent(first)
                if what == VARY:
                    begun = seed_of(whole(seed, "seed"))
                    events = varied(
                        visit, model, image, count=int(count), strength=float(strength), side=side, seed=begun
                    )
                elif what == BLEND:
                    other = sent(last, "second picture")
                    events = blended(visit, model, image, other, steps=int(steps), side=side)
                else:
                    events = changed(
                        visit,
                        model,
                        image,
                        source=source,
                        target=target,
                        strength=float(strength),
                        steps=int(steps),
                        side=side,
                    )
                for event in events:
                    if isinstance(event, Done):
                        found = [
                            hung_png(service, one.png, words=f"{what.lower()}, {model}", caption=one.title)
                            for one in event.result
                        ]
                        yield note(f"made {len(found)} pictures"), result(what, found)
                        return
                    yield on_the_way(event) or "", gr.skip()
        except Stopped:
            yield note("stopped"), gr.skip()
        except TROUBLE as error:
            yield alert(error), gr.skip()

    go.click(
        work,
        [what, first, last, source, target, strength, count, steps, size, model, seed],
        [state, shown],
        show_progress="hidden",
        concurrency_limit=8,
    )
    # Not queued: it has to come before what it stops.
    stop.click(under_way.stop, None, None, queue=False, show_progress="hidden")
    what.change(
        lambda chosen: (
            gr.Image(visible=chosen == BLEND),
            gr.Textbox(visible=chosen == DIFF),
            gr.Textbox(visible=chosen == DIFF),
            gr.Slider(visible=chosen != BLEND, value=VARY_STRENGTH if chosen == VARY else EDIT_STRENGTH),
            gr.Slider(visible=chosen == VARY),
            gr.Slider(visible=chosen != VARY),
        ),
        [what],
        [last, source, target, strength, count, steps],
        show_progress="hidden",
    )
    other_sizes(service, model, size)
    return VaryTab(picture=first, wall=shown)


def result(what: str, found: Sequence[Picture]) -> str:
    """What came out: a wall, and for ways a slider through them above it."""
    walled = wall(found, empty=EMPTY)
    if what == VARY:
        return walled
    label = "Way from one picture to the other"
    # The slider says by itself where it stands.
    frames = [(one.caption, [replace(one, caption="")]) for one in found]
    slider = way(frames, label, start=len(found) // 2)
    return f'<div class="lm-single">{slider}</div>{walled}'
