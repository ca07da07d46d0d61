"""Compare: one prompt, all painters side by side from the same seed, with what each took."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape

import gradio as gr
from PIL import Image

from limner.pipelines.peak import Peak
from limner.server.painters import Check, Painted
from limner.server.service import Served, Service
from limner.studio.asked import Asked, order_of, seed_of, whole
from limner.studio.fields import prompt_field, seed_field
from limner.studio.shown import alert, data_url, note, on_the_way, png_url
from limner.studio.turns import TROUBLE, Done, Event, Pace, Sketched, Stopped, Tell, UnderWay, Visit, done

MB = 2**20
EMPTY = '<p class="lm-empty">Every painter that is served paints the same words from the same seed.</p>'


@dataclass(frozen=True, kw_only=True)
class Took:
    """A picture of one painter, and what it took: seconds, bytes of weights and bytes beyond them."""

    painter: str
    painted: Painted
    seconds: float
    weights: int
    working: int


def weights_of(served: Served) -> int:
    """Bytes of all networks of a painter, each counted once."""
    networks = [part for part in vars(served.painter).values() if hasattr(part, "parameters")]
    own = {id(one): one.numel() * one.element_size() for part in networks for one in part.parameters()}
    return sum(own.values())


def took(visit: Visit, served: Served, prompt: str, seed: int) -> Iterator[Event | Done[Took]]:
    """Paint one picture as usual, in the size of the painter's own that is nearest to 256, by a clock."""
    side = min(served.painter.sizes, key=lambda side: abs(side - 256))
    order = order_of(served, Asked(prompt=prompt, count=1, side=side, seed=seed))

    def work(check: Check, tell: Tell) -> Took:
        watched = replace(
            order, on_tick=tell, on_sketch=lambda number, _, image: tell(Sketched(number, image))
        )
        began = time.monotonic()
        with Peak(served.painter.device) as peak:
            ((painted,),) = served.paint([watched], check)
        return Took(
            painter=served.name,
            painted=painted,
            seconds=time.monotonic() - began,
            weights=weights_of(served),
            working=peak.within,
        )

    yield from done(visit, work)


def cards(found: dict[str, Took | Image.Image | None], prompt: str) -> str:
    """A card for each painter: its picture, or as far as it is."""
    shown = "".join(_card(name, one, prompt) for name, one in found.items())
    return f'<div class="lm-grid">{shown}</div>'


def _card(name: str, one: Took | Image.Image | None, prompt: str) -> str:
    if isinstance(one, Took):
        source, words = png_url(one.painted.png), f"{prompt}, by {name}"
        working = f"{one.working / MB:,.0f} MB" if one.working else "not told"
        facts = "".join(
            f"<div><dt>{key}</dt><dd>{value}</dd></div>"
            for key, value in (
                ("time", f"{one.seconds:.1f} s"),
                ("weights in memory", f"{one.weights / MB:,.0f} MB"),
                ("more while it painted", working),
            )
        )
    else:
        image = Image.new("RGB", (64, 64), "white") if one is None else one
        state = "to come" if one is None else "on its way"
        source, words = data_url(image), f"{name}: {state}"
        facts = f"<div><dt>state</dt><dd>{state}</dd></div>"
    return (
        f'<div class="lm-card"><h2>{escape(name)}</h2><img src="{source}" alt="{escape(words)}">'
        f"<dl>{facts}</dl></div>"
    )


def compare_tab(service: Service) -> None:
    """The tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            prompt = prompt_field("a red apple", "lm-compare-prompt")
        with gr.Column(scale=2, min_width=260):
            seed = seed_field("lm-compare-seed")
        with gr.Column(scale=2, min_width=200):
            go = gr.Button("Compare", variant="primary", elem_id="lm-compare-go")
            stop = gr.Button("Stop", variant="stop", elem_id="lm-compare-stop")
    state = gr.HTML(note("ready"), elem_id="lm-compare-note")
    shown = gr.HTML(EMPTY, elem_id="lm-compare-shown")
    under_way = UnderWay()

    def work(prompt: str, seed: str, request: gr.Request) -> Iterator[tuple[str, str]]:
        found: dict[str, Took | Image.Image | None] = {one.name: None for one in service.painters}
        said, pace = note("beginning"), Pace()
        try:
            with under_way.visit(service, request) as visit:
                chosen = seed_of(whole(seed, "seed"))
                for served in service.painters:
                    for event in took(visit, served, prompt, chosen):
                        if isinstance(event, Done):
                            found[served.name] = event.result
                        elif isinstance(event, Sketched):
                            found[served.name] = event.image
                        else:
                            said = on_the_way(event) or said
                        if pace():
                            yield said, cards(found, prompt)
                yield note(f"all painted from seed {chosen}"), cards(found, prompt)
        except Stopped:
            yield note("stopped"), cards(found, prompt)
        except TROUBLE as error:
            yield alert(error), cards(found, prompt)

    go.click(work, [prompt, seed], [state, shown], show_progress="hidden", concurrency_limit=4)
    # Not queued: it has to come before what it stops.
    stop.click(under_way.stop, None, None, queue=False, show_progress="hidden")
