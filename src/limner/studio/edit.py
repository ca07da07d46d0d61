"""Edit: a part of a picture painted anew, or all of it from where a sketch leaves off."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
from PIL import Image

from limner.pipelines.pictures import fingerprint
from limner.pipelines.png import encode_png
from limner.pipelines.settings import STRENGTH, GlideSettings
from limner.pipelines.stages import Sketch
from limner.server.errors import Refused
from limner.server.painters import Check, Mender, Painted, finished
from limner.server.service import Service
from limner.studio.asked import Asked, order_of, whole
from limner.studio.brush import as_request, brush, marked, to_mark
from limner.studio.fields import (
    count_field,
    model_field,
    other_sizes,
    prompt_field,
    seed_field,
    sent,
    size_field,
)
from limner.studio.paint import painting
from limner.studio.shown import alert, data_url, note, on_the_way, wall
from limner.studio.turns import (
    TROUBLE,
    Done,
    Event,
    Pace,
    Sketched,
    Stopped,
    Tell,
    UnderWay,
    Visit,
    done,
    painted,
    ticking,
)
from limner.studio.wall import Hung, hung, wall_html

MEND, REDRAW = "Paint anew what I mark", "Redraw all of it"
EMPTY = "Open a picture, or press Edit below one of yours; mark a part of it, and say what is to be there."
NOBODY = "No painter that edits is served here: start the studio with --models glide."


@dataclass(frozen=True)
class EditTab:
    """What the page needs of this tab: where another tab's picture goes, and the wall."""

    picture: gr.State
    brush: gr.HTML
    wall: gr.HTML | None


def menders(service: Service) -> list[Mender]:
    """The painters that mend and redraw."""
    return [one for one in service.painters if isinstance(one, Mender) and one.edits]


def mend(
    visit: Visit, model: str, asked: Asked, image: Image.Image, mask: Image.Image
) -> Iterator[Event | Done[list[Painted]]]:
    """Paint `image` anew where `mask` is white, so that the whole is what the words say."""
    painter = visit.service.painter(model, lambda one: one.edits, "edit pictures")
    whole_image, cut = as_request(image, mask)
    order = order_of(painter, asked, doing="edit", image=whole_image, mask=cut)
    yield from painted(visit, painter, order)


def redraw(
    visit: Visit, model: str, asked: Asked, image: Image.Image, strength: float
) -> Iterator[Event | Done[list[Painted]]]:
    """Forget the share `strength` of `image` and paint it anew from there."""
    painter = visit.service.painter(model, lambda one: isinstance(one, Mender), "redraw pictures")
    assert isinstance(painter, Mender)
    order, glide = order_of(painter, asked), painter.painter
    settings = order.settings
    assert isinstance(settings, GlideSettings)

    def work(check: Check, tell: Tell) -> list[Painted]:
        def on_sketch(sketch: Sketch) -> None:
            for number, one in enumerate(sketch.images()):
                tell(Sketched(number, one))

        stages = glide.redraw_stages(
            image,
            order.prompt,
            strength=strength,
            count=order.count,
            size=order.side,
            seed=order.seed,
            settings=settings,
            on_tick=ticking(check, tell),
            on_sketch=on_sketch,
        )
        told = {"redraws": fingerprint(image), "strength": str(strength)}
        return [
            Painted(
                png=encode_png(one, glide.metadata(wanted, size=order.side, settings=settings) | told),
                seed=wanted.seed,
            )
            for stage in stages
            if finished(stage, order.side)
            for wanted, one in zip(stage.commissions, stage.images(), strict=True)
        ]

    yield from done(visit, work)


def edit_tab(service: Service) -> EditTab:
    """The tab."""
    able = menders(service)
    if not able:
        gr.HTML(note(NOBODY))
        return EditTab(picture=gr.State(None), brush=gr.HTML("", visible=False), wall=None)
    there = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            upload = gr.UploadButton(
                "Open a picture", file_types=["image"], size="md", elem_id="lm-edit-open"
            )
            mark = brush()
        with gr.Column(scale=2, min_width=300):
            words = prompt_field("", "lm-edit-prompt")
            how = gr.Radio([MEND, REDRAW], value=MEND, label="How", elem_id="lm-edit-how")
            strength = gr.Slider(
                0.05,
                1.0,
                value=STRENGTH,
                step=0.05,
                label="Strength",
                info="How much of the picture is forgotten.",
                visible=False,
                elem_id="lm-edit-strength",
            )
            model = model_field(able, "lm-edit-model")
            size = size_field(able[0], "lm-edit-size")
            count = count_field(1, "lm-edit-count")
            with gr.Accordion("Seed", open=False):
                seed = seed_field("lm-edit-seed")
            with gr.Row():
                go = gr.Button("Paint anew", variant="primary", elem_id="lm-edit-go")
                stop = gr.Button("Stop", variant="stop", elem_id="lm-edit-stop")
            state = gr.HTML(note("ready"), elem_id="lm-edit-note")
    shown = wall_html(EMPTY, "lm-edit-wall")
    pictures, under_way = gr.State(Hung()), UnderWay()

    def work(
        image: Image.Image | None,
        mask: str | None,
        words: str,
        how: str,
        strength: int | float,
        model: str,
        side: int,
        count: int | float,
        seed: str,
        before: Hung,
        request: gr.Request,
    ) -> Iterator[tuple[str, str, Hung]]:
        sketches: dict[int, Image.Image] = {}
        said, pace = note("beginning"), Pace()
        try:
            with under_way.visit(service, request) as visit:
                if image is None:
                    raise Refused("there is no picture: open one")
                asked = Asked(prompt=words, count=int(count), side=side, seed=whole(seed, "seed"))
                yield said, wall([*painting(sketches, asked, side), *before.pictures], empty=EMPTY), before
                if how == MEND:
                    events = mend(visit, model, asked, image, marked(mask))
                else:
                    events = redraw(visit, model, asked, image, float(strength))
                for event in events:
                    if isinstance(event, Done):
                        after = before.with_new(hung(service, event.result, by=model))
                        yield note("painted anew"), wall(after.pictures, empty=EMPTY), after
                        return
                    if isinstance(event, Sketched):
                        sketches[event.number] = event.image
                    said = on_the_way(event) or said
                    if pace():
                        walled = wall([*painting(sketches, asked, side), *before.pictures], empty=EMPTY)
                        yield said, walled, before
        except Stopped:
            yield note("stopped"), wall(before.pictures, empty=EMPTY), before
        except TROUBLE as error:
            yield alert(error), wall(before.pictures, empty=EMPTY), before

    go.click(
        work,
        [there, mark, words, how, strength, model, size, count, seed, pictures],
        [state, shown, pictures],
        show_progress="hidden",
        concurrency_limit=8,
    )
    # Not queued: it has to come before what it stops.
    stop.click(under_way.stop, None, None, queue=False, show_progress="hidden")
    how.change(lambda chosen: gr.Slider(visible=chosen == REDRAW), [how], [strength], show_progress="hidden")
    upload.upload(opened_upload, [upload], [there, mark, state], show_progress="hidden")
    other_sizes(service, model, size)
    return EditTab(picture=there, brush=mark, wall=shown)


def opened_upload(path: str) -> tuple[Image.Image | None, gr.HTML, str]:
    """A file that was opened, as it is marked on."""
    try:
        return *to_edit(sent(path)), note("picture opened")
    except TROUBLE as error:
        return None, gr.HTML(picture=""), alert(error)


def to_edit(image: Image.Image) -> tuple[Image.Image, gr.HTML]:
    """A picture in the tab's state and on its brush."""
    small = to_mark(image)
    return small, gr.HTML(picture=data_url(small))
