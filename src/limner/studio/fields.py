"""The fields that several tabs have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from limner.server.errors import Refused
from limner.server.pictures import MOST_PIXELS, picture
from limner.server.service import Served, Service
from limner.server.wire import MOST_PICTURES

SEED = "The same seed paints the same picture; where it is empty one is drawn."
GUIDANCE = "How strongly the words are heeded. DF-GAN takes none."
# What Gradio's own label of the button says, which those who see another text could not call it by.
DROP = "Drop an image file here to upload"
NEGATIVE = "Guidance leads away from it. Painters of tokens take none, nor does DF-GAN."
STEPS = "Fewer are faster. Painters of tokens take none, and DF-GAN paints in one."


@dataclass(frozen=True)
class Fields:
    """The components of a painting's form."""

    prompt: gr.Textbox
    model: gr.Radio
    size: gr.Radio
    count: gr.Slider
    seed: gr.Textbox
    guidance: gr.Textbox
    steps: gr.Textbox
    negative_prompt: gr.Textbox

    @property
    def inputs(self) -> list[gr.components.Component]:
        """All of them, in the order in which handlers take them."""
        first = [self.prompt, self.model, self.size, self.count]
        return [*first, self.seed, self.guidance, self.steps, self.negative_prompt]


def prompt_field(value: str, elem_id: str) -> gr.Textbox:
    """Where the words go."""
    return gr.Textbox(value, label="Words", placeholder="a red apple", lines=2, max_lines=4, elem_id=elem_id)


def model_field(painters: Sequence[Served], elem_id: str) -> gr.Radio:
    """Which painter."""
    names = [painter.name for painter in painters]
    return gr.Radio(names, value=names[0] if names else None, label="Painter", elem_id=elem_id)


def blank_field(label: str, info: str, placeholder: str, elem_id: str) -> gr.Textbox:
    """Where something short may stand, or nothing, which a field for numbers alone makes 0 of."""
    return gr.Textbox("", label=label, info=info, placeholder=placeholder, max_lines=1, elem_id=elem_id)


def seed_field(elem_id: str) -> gr.Textbox:
    """The seed."""
    return blank_field("Seed", SEED, "drawn", elem_id)


def sizes_of(painter: Served) -> tuple[list[tuple[str, int]], int]:
    """The sizes that a painter has of its own, others would be those stretched; and the usual one."""
    sizes = list(painter.painter.sizes)
    return [(f"{side}×{side}", side) for side in sizes], 256 if 256 in sizes else sizes[-1]


def size_field(painter: Served | None, elem_id: str) -> gr.Radio:
    """The size."""
    choices, usual = ([], None) if painter is None else sizes_of(painter)
    return gr.Radio(choices, value=usual, label="Size in pixels", elem_id=elem_id)


def paint_fields(painters: Sequence[Served], *, prompt: str, elem_id: str) -> Fields:
    """The whole form; what is seldom changed is folded away."""
    words = prompt_field(prompt, f"{elem_id}-prompt")
    model = model_field(painters, f"{elem_id}-model")
    size = size_field(painters[0], f"{elem_id}-size")
    count = count_field(2, f"{elem_id}-count")
    with gr.Accordion("Seed, guidance, steps, and what to avoid", open=False, elem_id=f"{elem_id}-more"):
        seed = seed_field(f"{elem_id}-seed")
        guidance = blank_field("Guidance", GUIDANCE, "as usual", f"{elem_id}-guidance")
        steps = blank_field("Steps", STEPS, "as usual", f"{elem_id}-steps")
        negative = blank_field("What to avoid", NEGATIVE, "nothing", f"{elem_id}-negative")
    return Fields(words, model, size, count, seed, guidance, steps, negative)


def count_field(value: int, elem_id: str) -> gr.Slider:
    """How many."""
    return gr.Slider(1, MOST_PICTURES, value=value, step=1, label="How many pictures", elem_id=elem_id)


def other_sizes(service: Service, model: gr.Radio, size: gr.Radio) -> None:
    """Let the size follow the painter."""

    def follow(name: str) -> gr.Radio:
        choices, usual = sizes_of(service.painter(name, lambda _: True, "paint"))
        return gr.Radio(choices, value=usual)

    model.change(follow, [model], [size], show_progress="hidden")


def picture_field(label: str, elem_id: str, *, visible: bool = True) -> gr.Image:
    """Where a picture is opened, dropped or pasted."""
    return gr.Image(
        label=label,
        # Not opened before its size was looked at, and the very pixels where it comes from a wall.
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "clipboard"],
        buttons=[],
        height=256,
        placeholder=DROP,
        visible=visible,
        elem_id=elem_id,
    )


def sent(path: str | None, name: str = "picture") -> Image.Image:
    """The picture that such a field holds. Raises Refused where there is none, or none that can be read."""
    if path is None:
        raise Refused(f"there is no {name}: open one")
    return picture(Path(path).read_bytes(), name, pixels=MOST_PIXELS)
