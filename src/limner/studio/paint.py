"""Paint: words in, pictures out, seen on their way."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
from PIL import Image

from limner.server.painters import Painted
from limner.server.service import Service
from limner.studio.asked import Asked, number, order_of, whole
from limner.studio.fields import other_sizes, paint_fields
from limner.studio.shown import Picture, alert, data_url, note, on_the_way, wall
from limner.studio.turns import TROUBLE, Done, Event, Pace, Sketched, Stopped, UnderWay, Visit, painted
from limner.studio.wall import Hung, hung, wall_html

EMPTY = "Your pictures will hang here. Try “a red apple” or “two cats on a green hill”."
ID = "lm-paint-wall"


@dataclass(frozen=True)
class PaintTab:
    """What the page needs of this tab: its wall, whose pictures other tabs take."""

    wall: gr.HTML


def paint(visit: Visit, model: str, asked: Asked) -> Iterator[Event | Done[list[Painted]]]:
    """Paint what is asked for, after all that can be seen on the way.

    Raises ValueError for what cannot be painted, Refused for another painter or a line that is full.
    """
    painter = visit.service.painter(model, lambda _: True, "paint")
    yield from painted(visit, painter, order_of(painter, asked))


def painting(sketches: dict[int, Image.Image], asked: Asked, side: int) -> list[Picture]:
    """The pictures of an order while they are painted; white where nothing is to be seen yet."""
    return [
        Picture(
            source=data_url(sketches.get(number, Image.new("RGB", (side, side), "white"))),
            words=asked.prompt,
            caption="on its way",
            side=side,
        )
        for number in range(asked.count)
    ]


def paint_tab(service: Service) -> PaintTab:
    """The tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            fields = paint_fields(service.painters, prompt="a red apple", elem_id="lm-paint")
            with gr.Row():
                go = gr.Button("Paint", variant="primary", elem_id="lm-paint-go")
                stop = gr.Button("Stop", variant="stop", elem_id="lm-paint-stop")
            state = gr.HTML(note("ready"), elem_id="lm-paint-note")
        with gr.Column(scale=5, min_width=300):
            shown = wall_html(EMPTY, ID)
    pictures, under_way = gr.State(Hung()), UnderWay()

    def work(
        prompt: str,
        model: str,
        side: int,
        count: int | float,
        seed: str,
        guidance: str,
        steps: str,
        negative_prompt: str,
        before: Hung,
        request: gr.Request,
    ) -> Iterator[tuple[str, str, Hung]]:
        sketches: dict[int, Image.Image] = {}
        said, pace = note("beginning"), Pace()
        try:
            with under_way.visit(service, request) as visit:
                asked = Asked(
                    prompt=prompt,
                    count=int(count),
                    side=side,
                    seed=whole(seed, "seed"),
                    guidance=number(guidance, "guidance"),
                    steps=whole(steps, "steps"),
                    negative_prompt=negative_prompt,
                )
                yield said, wall([*painting(sketches, asked, side), *before.pictures], empty=EMPTY), before
                for event in paint(visit, model, asked):
                    if isinstance(event, Done):
                        after = before.with_new(hung(service, event.result, by=model))
                        words = f"painted {asked.count} picture{'s' if asked.count > 1 else ''}"
                        yield note(words), wall(after.pictures, empty=EMPTY), after
                        return
                    if isinstance(event, Sketched):
                        sketches[event.number] = event.image
                    said = on_the_way(event) or said
                    if not pace():
                        continue
                    yield (
                        said,
                        wall([*painting(sketches, asked, side), *before.pictures], empty=EMPTY),
                        before,
                    )
        except Stopped:
            yield note("stopped"), wall(before.pictures, empty=EMPTY), before
        except TROUBLE as error:
            yield alert(error), wall(before.pictures, empty=EMPTY), before

    inputs = [*fields.inputs, pictures]
    outputs = [state, shown, pictures]
    for start in (go.click, fields.prompt.submit):
        start(work, inputs, outputs, show_progress="hidden", concurrency_limit=8)
    # Not queued: it has to come before what it stops.
    stop.click(under_way.stop, None, None, queue=False, show_progress="hidden")
    other_sizes(service, fields.model, fields.size)
    return PaintTab(wall=shown)
