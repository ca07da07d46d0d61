"""The wall: finished pictures that stay in sight while the page is open, and what is done with one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import gradio as gr
from PIL import Image

from limner.server.painters import Painted
from limner.server.service import Service
from limner.studio.shown import Picture, facts_of, opened, wall

# Pictures that stay in sight; older ones are still at their address for a while.
MOST_SHOWN = 48
CLICKED = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (button) trigger('select', {do: button.dataset.do, name: button.dataset.name});
});
"""


@dataclass(frozen=True)
class Hung:
    """The pictures of somebody's page, the newest first."""

    pictures: tuple[Picture, ...] = field(default=())

    def with_new(self, pictures: Sequence[Picture]) -> "Hung":
        """The same with new ones in front."""
        return replace(self, pictures=(*pictures, *self.pictures)[:MOST_SHOWN])


def hung(service: Service, painted: Sequence[Painted], *, by: str) -> list[Picture]:
    """Painted pictures, kept in the service's gallery, as they are shown."""
    found = []
    for one in painted:
        image = opened(one.png)
        caption = f"{by}, seed {one.seed}, {image.width}×{image.height}"
        words = facts_of(image).get("prompt", "")
        found.append(hung_png(service, one.png, words=words, caption=caption))
    return found


def hung_png(service: Service, png: bytes, *, words: str, caption: str) -> Picture:
    """The same of one picture that has another caption."""
    image = opened(png)
    name = service.gallery.add(png)
    return Picture(
        source=f"/pictures/{name}",
        words=words,
        caption=caption,
        side=image.width,
        name=name,
        facts=facts_of(image),
    )


def on_the_wall(service: Service, name: str) -> tuple[Image.Image, dict[str, str]] | None:
    """A picture of the gallery and its facts, while it is kept."""
    png = service.gallery.get(name)
    if png is None:
        return None
    image = opened(png)
    return image.convert("RGB"), facts_of(image)


def wall_html(empty: str, elem_id: str) -> gr.HTML:
    """The component, which is told as `select` which button of which picture was pressed."""
    return gr.HTML(wall((), empty=empty), js_on_load=CLICKED, elem_id=elem_id)
