"""What came out, as HTML: walls of pictures, strips, bars, and lines that say how far it is.

Whatever somebody wrote is escaped where it becomes HTML.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from limner.errors import LimnerError
from limner.pipelines.progress import Tick
from limner.server.errors import of_failure
from limner.studio.turns import Event, Sketched, Waiting

# What can be done with a picture of the wall: the word on the button, by the name of the tab that does it.
ACTIONS = {"edit": "Edit", "vary": "Vary", "inside": "Inside"}
# What happens, said while it does.
DOING = {
    "inverting": "finding its noise",
    "imagining": "imagining what the words could look like",
    "drawing": "drawing",
    "enlarging": "enlarging",
    "enlarging again": "enlarging again",
    "writing": "writing tokens",
    "developing": "turning tokens into pictures",
    "ranking": "choosing the best",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture to show: where its bytes are (`source`, an address or a data URL) and what it is of.

    `name`: what the gallery calls it, for what can be done with it. `facts`: what its file says of it.
    """

    source: str
    words: str
    caption: str
    side: int
    name: str | None = None
    facts: Mapping[str, str] | None = None


def data_url(image: Image.Image) -> str:
    """A picture as an address that holds it whole."""
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return png_url(packed.getvalue())


def png_url(png: bytes) -> str:
    """The same of a PNG."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def opened(png: bytes) -> Image.Image:
    """A picture of ours."""
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image


def facts_of(image: Image.Image) -> dict[str, str]:
    """What a picture's file says about how it was painted, one line for each knob."""
    told = {str(key): str(value) for key, value in getattr(image, "text", {}).items()}
    settings = json.loads(told.pop("settings", "{}"))
    return told | {key.replace("_", " "): str(value) for key, value in settings.items()}


def wall(pictures: Sequence[Picture], *, empty: str) -> str:
    """Pictures side by side, each with what it is and what is done with it; `empty` where there are none."""
    if not pictures:
        return f'<p class="lm-empty">{escape(empty)}</p>'
    return f'<div class="lm-wall">{"".join(map(_figure, pictures))}</div>'


def strip(pictures: Sequence[Picture], label: str) -> str:
    """Small pictures in a row that can be pushed along, also with the keyboard."""
    frames = "".join(
        f'<figure class="lm-frame">{_image(one)}<figcaption>{escape(one.caption)}</figcaption></figure>'
        for one in pictures
    )
    return f'<div class="lm-strip" role="group" tabindex="0" aria-label="{escape(label)}">{frames}</div>'


def bars(rows: Sequence[tuple[str, float]], *, label: str, most: float = 1.0) -> str:
    """Numbers from -`most` to `most` as bars, each with its name and its value in digits."""
    lines = "".join(
        f'<div class="lm-bar"><span class="lm-bar-name">{escape(name)}</span>'
        f'<span class="lm-bar-track"><span class="lm-bar-fill{" lm-below" if value < 0 else ""}" '
        f'style="width:{100 * min(1.0, abs(value) / most):.1f}%"></span></span>'
        f'<span class="lm-bar-value">{value:.3f}</span></div>'
        for name, value in rows
    )
    return f'<div class="lm-bars" role="group" aria-label="{escape(label)}">{lines}</div>'


def note(words: str, *, share: float | None = None) -> str:
    """How far it is, which screen readers hear of too; with a bar where a share is known."""
    bar = ""
    if share is not None:
        bar = f'<progress max="100" value="{100 * share:.0f}" aria-label="{escape(words)}"></progress>'
    return f'<div class="lm-note" role="status">{bar}<span>{escape(words)}</span></div>'


def alert(error: Exception) -> str:
    """What went wrong, with the remedy that our errors name.

    A LimnerError is of the machine and may name its paths, which are for the log of whoever runs it.
    """
    said = of_failure(error).message if isinstance(error, LimnerError) else str(error)
    return f'<div class="lm-note lm-alert" role="alert">{escape(said[:1].upper() + said[1:])}</div>'


def on_the_way(event: Event) -> str | None:
    """What a line says of an event; None of one that shows itself."""
    if isinstance(event, Waiting):
        return note("waiting for its turn" if event.ahead else "beginning")
    if isinstance(event, Sketched):
        return None
    return tick(event)


def tick(event: Tick) -> str:
    """How far a painting is."""
    share = event.done / event.total
    return note(f"{DOING[event.doing]}, {100 * share:.0f} %", share=share)


def _figure(one: Picture) -> str:
    said = f'<figcaption><span class="lm-words">{escape(one.words)}</span>{escape(one.caption)}</figcaption>'
    return f'<figure class="lm-picture">{_image(one)}{said}{_facts(one)}{_actions(one)}</figure>'


def _image(one: Picture) -> str:
    alt = escape(", ".join(filter(None, (one.words or "picture", one.caption))))
    return f'<img src="{escape(one.source)}" alt="{alt}" width="{one.side}" height="{one.side}">'


def _facts(one: Picture) -> str:
    if not one.facts:
        return ""
    lines = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in one.facts.items()
    )
    return f"<details><summary>How it was painted</summary><dl>{lines}</dl></details>"


def _actions(one: Picture) -> str:
    if one.name is None:
        return ""
    name, what = escape(one.name), escape(f"{one.words}, {one.caption}")
    buttons = "".join(
        f'<button type="button" data-do="{do}" data-name="{name}" aria-label="{word}: {what}">{word}</button>'
        for do, word in ACTIONS.items()
    )
    download = f'<a href="{escape(one.source)}" download="{name}" aria-label="Download: {what}">Download</a>'
    return f'<div class="lm-actions">{download}{buttons}</div>'


def figures(pictures: Sequence[Picture]) -> str:
    """Pictures with their captions."""
    return "".join(
        f"<figure>{_image(one)}<figcaption>{escape(one.caption)}</figcaption></figure>" for one in pictures
    )


def way(frames: Sequence[tuple[str, Sequence[Picture]]], label: str, *, start: int | None = None) -> str:
    """Frames of which one is seen at a time, and a slider through them; each is a caption and its pictures.

    What moves it is `WAY`, in the page.
    """
    at = len(frames) - 1 if start is None else start
    shown = "".join(
        f'<div class="lm-way-frame"{"" if number == at else " hidden"} data-caption="{escape(caption)}">'
        f"{figures(few)}</div>"
        for number, (caption, few) in enumerate(frames)
    )
    return (
        f'<div class="lm-way">{shown}<div class="lm-way-bar"><input type="range" min="0" '
        f'max="{len(frames) - 1}" value="{at}" aria-label="{escape(label)}" '
        f'aria-valuetext="{escape(frames[at][0])}"><output>{escape(frames[at][0])}</output></div></div>'
    )


# Moves every slider of `way` in an element.
WAY = """
element.addEventListener('input', (event) => {
  const way = event.target.closest('.lm-way');
  if (!way || event.target.type !== 'range') return;
  const frames = way.querySelectorAll('.lm-way-frame');
  frames.forEach((frame, number) => { frame.hidden = number !== Number(event.target.value); });
  const caption = frames[Number(event.target.value)].dataset.caption;
  way.querySelector('output').textContent = caption;
  event.target.setAttribute('aria-valuetext', caption);
});
"""


def section(title: str, told: str, body: str) -> str:
    """A part of a longer answer: what it is called, what it says, and what is to be seen."""
    return f'<section class="lm-section"><h2>{escape(title)}</h2><p>{escape(told)}</p>{body}</section>'


def chips(words: Sequence[str], label: str) -> str:
    """Words as so many pieces."""
    pieces = "".join(f"<li>{escape(one)}</li>" for one in words)
    return f'<ul class="lm-chips" aria-label="{escape(label)}">{pieces}</ul>'
