"""Inside: how a picture comes about, what is seen in one, and a walk through a VAE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr
from PIL import Image

from limner.pipelines.embedding import Reader
from limner.server.painters import Check
from limner.server.service import Service
from limner.studio.asked import seed_of, whole
from limner.studio.fields import model_field, picture_field, prompt_field, seed_field, sent
from limner.studio.known import Known, Neighbour
from limner.studio.lens import Kept, Likeness, heat, kept, likenesses, lines, moved, walk
from limner.studio.making import Imagining, Making, making
from limner.studio.shown import (
    WAY,
    Picture,
    alert,
    bars,
    chips,
    data_url,
    figures,
    note,
    on_the_way,
    section,
    strip,
    way,
)
from limner.studio.turns import TROUBLE, Done, Event, Pace, Sketched, Tell, Visit, done, visit_of

T = TypeVar("T")
WORDS = "a red apple, a green apple, a pear, a cat, a house"
EMPTY = '<p class="lm-empty">Press the button, and every step is kept and shown here.</p>'
WALK = 9


@dataclass(frozen=True)
class InsideTab:
    """What the page needs of this tab: where another tab's picture goes, and what is known of it."""

    prompt: gr.Textbox
    model: gr.Radio
    seed: gr.Textbox
    picture: gr.Image


@dataclass(frozen=True)
class Read:
    """What CLIP reads in a picture: likenesses, the best first, and where the best comes from."""

    likenesses: list[Likeness]
    heat: Image.Image


def made(visit: Visit, known: Known, model: str, prompt: str, seed: int) -> Iterator[Event | Done[Making]]:
    """Paint one picture and keep what is seen on the way."""
    painter = visit.service.painter(model, lambda _: True, "paint")

    def work(check: Check, tell: Tell) -> Making:
        return making(painter, known, prompt, seed, check, tell)

    yield from done(visit, work)


def read(visit: Visit, image: Image.Image, words: str) -> Iterator[Event | Done[Read]]:
    """What CLIP reads in a picture, of words that stand on lines or between commas."""
    reader, asked = _reader(visit), lines(words)

    def work(check: Check, _: Tell) -> Read:
        found = likenesses(reader, image, asked, check)
        return Read(found, heat(reader, image, found[0].words))

    yield from done(visit, work)


def remembered(visit: Visit, known: Known, image: Image.Image) -> Iterator[Event | Done[list[Kept]]]:
    """What the autoencoders keep of a picture."""
    yield from done(visit, lambda check, _: kept(known, image, check))


def walked(
    visit: Visit, known: Known, first: Image.Image, last: Image.Image
) -> Iterator[Event | Done[list[Image.Image]]]:
    """The way from one picture to another through the VAE's numbers."""
    yield from done(visit, lambda _check, _tell: walk(known, first, last, WALK))


def numbers(
    visit: Visit, known: Known, image: Image.Image
) -> Iterator[Event | Done[list[tuple[str, list[Image.Image]]]]]:
    """The VAE's numbers that tell most of a picture, each moved."""
    yield from done(visit, lambda _check, _tell: moved(known, image))


def _reader(visit: Visit) -> Reader:
    return visit.service.checked_clip(None)


# --- as HTML ----------------------------------------------------------------------------------------


def making_html(found: Making, prompt: str) -> str:
    """All steps of a picture, from its words to its pixels."""
    parts = [
        section(
            "Words as tokens",
            f"What is read are {len(found.tokens)} tokens: a common word is one, a rare one several.",
            chips(found.tokens, "Tokens of the words"),
        )
    ]
    if found.imagining is not None:
        parts.append(imagining_html(found.imagining))
    frames = [(one.caption, [_plain(image, word) for word, image in one.pictures]) for one in found.frames]
    if found.odds is None:
        told = (
            "From noise, step by step. At every step the network guesses the whole picture, and the sampler "
            "goes a little way toward it."
        )
        parts.append(
            section(
                "Noise becomes a picture", told, way(frames, "Step of the denoising", start=len(frames) // 4)
            )
        )
        guesses = [_plain(one.pictures[-1][1], str(number + 1)) for number, one in enumerate(found.frames)]
        parts.append(
            section("The film strip", "All guesses in a row.", strip(guesses, "Guesses at every step"))
        )
    else:
        mean, among, words = found.odds
        told = (
            f"One token after the other, each drawn from {words:,} by its probability, {mean:.2f} on "
            f"average; as unsure as a draw among {among:.1f} equal ones. Dark squares were sure."
        )
        parts.append(section("The grid fills in", told, way(frames, "Row of tokens")))
    last = [_plain(found.picture, f"{found.picture.width}×{found.picture.height}")]
    parts.append(section("The picture", prompt, f'<div class="lm-pair">{figures(last)}</div>'))
    return "".join(parts)


def imagining_html(found: Imagining) -> str:
    """The prior's embedding against its neighbours."""
    rows = [(f"candidate {number + 1}", one) for number, one in enumerate(found.candidates)]
    rows.append(("the picture that was painted", found.painted))
    told = (
        "The prior turns the words' embedding into one of a picture. Of its candidates the one nearest to "
        "the words is kept; the last bar says how near the finished picture came to it."
    )
    return section("A place in CLIP's space", told, bars(rows, label="Cosines")) + section(
        "Its neighbours",
        "Drawings of the shipped sample that are nearest: first to the imagined picture, then to the words.",
        _neighbours(found.near_picture, "Nearest to the imagined picture")
        + _neighbours(found.near_words, "Nearest to the words"),
    )


def read_html(found: Read) -> str:
    """Likenesses as bars, and where the best comes from."""
    best = found.likenesses[0]
    shown = [_plain(found.heat, f"red speaks for “{best.words}”, blue against")]
    rows = [(one.words, one.cosine) for one in found.likenesses]
    told = "Cosines of the picture's embedding with those of the words. They are small numbers; compare them."
    return section("What CLIP reads in it", told, bars(rows, label="Cosines with words")) + section(
        "Where that comes from",
        "Shared out among the patches that CLIP reads, by integrated gradients from a white picture.",
        f'<div class="lm-pair">{figures(shown)}</div>',
    )


def kept_html(found: list[Kept]) -> str:
    """What each autoencoder keeps, side by side."""
    cards = []
    for one in found:
        shown = [_plain(one.before, "before"), _plain(one.after, "after")]
        shown += [_plain(grid, told) for told, grid in one.grids]
        facts = f"<dl><div><dt>bits</dt><dd>{one.bits:,.0f}</dd></div>"
        facts += f"<div><dt>PSNR</dt><dd>{one.psnr:.1f} dB</dd></div></dl>"
        body = f'<div class="lm-pair">{figures(shown)}</div>{facts}'
        cards.append(f'<div class="lm-card"><h2>{one.name}</h2>{body}</div>')
    told = "Each squeezes the picture into few numbers or words and paints it from those alone."
    return section("What is kept of it", told, f'<div class="lm-grid">{"".join(cards)}</div>')


def walk_html(images: list[Image.Image]) -> str:
    """The way between two pictures, with a slider."""
    frames = [
        (f"{100 * number / (len(images) - 1):.0f} % of the second", [_plain(one, "")])
        for number, one in enumerate(images)
    ]
    told = "A straight line between the numbers that the VAE has for either."
    shown = way(frames, "Way through the VAE", start=len(images) // 2)
    return section("The way", told, f'<div class="lm-single">{shown}</div>')


def numbers_html(rows: list[tuple[str, list[Image.Image]]]) -> str:
    """One slider for each number."""
    shown = "".join(
        f'<div class="lm-card"><h2>{title}</h2>'
        + way(
            [(f"{-2 + 4 * place / (len(row) - 1):+.1f}", [_plain(one, "")]) for place, one in enumerate(row)],
            title,
            start=len(row) // 2,
        )
        + "</div>"
        for title, row in rows
    )
    told = "The numbers that tell most of the picture, each moved with all others held."
    return section("Number by number", told, f'<div class="lm-grid">{shown}</div>')


def _plain(image: Image.Image, caption: str) -> Picture:
    return Picture(source=data_url(image), words="", caption=caption, side=image.width)


def _neighbours(found: tuple[Neighbour, ...], label: str) -> str:
    return strip([_plain(one.image, f"{one.name}, {one.cosine:.2f}") for one in found], label)


# --- the tab ----------------------------------------------------------------------------------------


def inside_tab(service: Service) -> InsideTab:
    """The tab."""
    known = Known()
    with gr.Tabs(elem_id="lm-inside-tabs"):
        with gr.Tab("How it comes about", id="making"):
            prompt, model, seed = _making_part(service, known)
        with gr.Tab("Under the lens", id="lens"):
            picture = _lens_part(service, known)
        with gr.Tab("A walk through a VAE", id="walk"):
            _walk_part(service, known)
    return InsideTab(prompt=prompt, model=model, seed=seed, picture=picture)


def _making_part(service: Service, known: Known) -> tuple[gr.Textbox, gr.Radio, gr.Textbox]:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            prompt = prompt_field("a red apple", "lm-inside-prompt")
            model = model_field(service.painters, "lm-inside-model")
            seed = seed_field("lm-inside-seed")
            go = gr.Button("Show every step", variant="primary", elem_id="lm-inside-go")
            state = gr.HTML(note("ready"), elem_id="lm-inside-note")
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(EMPTY, js_on_load=WAY, elem_id="lm-inside-shown")

    def work(prompt: str, model: str, seed: str, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        said, pace = note("beginning"), Pace()
        try:
            for event in made(visit_of(service, request), known, model, prompt, seed_of(whole(seed, "seed"))):
                if isinstance(event, Done):
                    yield note("all of it is shown"), making_html(event.result, prompt)
                    return
                said = on_the_way(event) or said
                if pace():
                    yield said, _live(event) if isinstance(event, Sketched) else gr.skip()
        except TROUBLE as error:
            yield alert(error), gr.skip()

    go.click(work, [prompt, model, seed], [state, shown], show_progress="hidden", concurrency_limit=8)
    return prompt, model, seed


def _live(event: Sketched) -> str:
    return f'<div class="lm-pair">{figures([_plain(event.image, "on its way")])}</div>'


def _lens_part(service: Service, known: Known) -> gr.Image:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            picture = picture_field("Picture", "lm-lens-picture")
            words = gr.Textbox(
                WORDS,
                label="Words to compare it with",
                info="With commas between.",
                lines=2,
                elem_id="lm-lens-words",
            )
            go_read = gr.Button("What CLIP reads in it", variant="primary", elem_id="lm-lens-read")
            go_kept = gr.Button("What autoencoders keep of it", elem_id="lm-lens-kept")
            go_numbers = gr.Button("What the VAE's numbers do", elem_id="lm-lens-numbers")
            state = gr.HTML(note("ready"), elem_id="lm-lens-note")
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(
                '<p class="lm-empty">Open a picture, or press Inside below one of yours.</p>',
                js_on_load=WAY,
                elem_id="lm-lens-shown",
            )

    def reading(image: str | None, words: str, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        yield from answered(lambda: read(visit_of(service, request), sent(image), words), read_html)

    def keeping(image: str | None, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        yield from answered(lambda: remembered(visit_of(service, request), known, sent(image)), kept_html)

    def moving(image: str | None, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        yield from answered(lambda: numbers(visit_of(service, request), known, sent(image)), numbers_html)

    outputs = [state, shown]
    go_read.click(reading, [picture, words], outputs, show_progress="hidden", concurrency_limit=8)
    go_kept.click(keeping, [picture], outputs, show_progress="hidden", concurrency_limit=8)
    go_numbers.click(moving, [picture], outputs, show_progress="hidden", concurrency_limit=8)
    return picture


def _walk_part(service: Service, known: Known) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            first = picture_field("Where the way begins", "lm-walk-first")
            last = picture_field("Where it ends", "lm-walk-last")
            go = gr.Button("Walk", variant="primary", elem_id="lm-walk-go")
            state = gr.HTML(note("ready"), elem_id="lm-walk-note")
        with gr.Column(scale=5, min_width=300):
            shown = gr.HTML(
                '<p class="lm-empty">Open two pictures.</p>', js_on_load=WAY, elem_id="lm-walk-shown"
            )

    def walking(one: str | None, other: str | None, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        yield from answered(
            lambda: walked(visit_of(service, request), known, sent(one), sent(other)), walk_html
        )

    go.click(walking, [first, last], [state, shown], show_progress="hidden", concurrency_limit=8)


def answered(
    ask: Callable[[], Iterator[Event | Done[T]]], html: Callable[[T], str]
) -> Iterator[tuple[Any, Any]]:
    """A line that says how far it is, and in the end the answer as HTML; or what went wrong."""
    try:
        for event in ask():
            if isinstance(event, Done):
                yield note("done"), html(event.result)
                return
            yield on_the_way(event) or note("looking"), gr.skip()
    except TROUBLE as error:
        yield alert(error), gr.skip()
