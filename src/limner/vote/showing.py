"""What a rater sees of a side: one PNG, which says nothing of who painted it.

All pictures of a study are brought to one size, that of its largest, and written anew: a file of limner's
says in its own words what painted it, and a small one would be known by its size.
"""

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from PIL import Image

from limner.errors import LimnerError
from limner.pipelines.pictures import open_picture
from limner.vote.checks import Drawing, check, on_white
from limner.vote.pictures import Gathered
from limner.vote.schedule import SOUND, Task

# Pixels a side of what is sent, at most and, lest drawings of 64 pixels be smeared by browsers, at least.
MOST, LEAST = 512, 256
# White between the pictures of a grid, of their side.
GAP = 1 / 16
# Pictures that stay in memory, ready to be sent.
READY = 64


class Showing:
    """The pictures of a study, as they are shown."""

    def __init__(self, gathered: Gathered, drawings: Sequence[Drawing]) -> None:
        self.gathered, self.drawings = gathered, drawings
        self.grid = gathered.grid()
        self.side = min(MOST, max(LEAST, _largest(gathered)))
        self.png: Callable[[Task, Literal["left", "right"]], bytes] = lru_cache(READY)(self._png)

    def _png(self, task: Task, side: Literal["left", "right"]) -> bytes:
        """The file of one side of a task."""
        packed = io.BytesIO()
        self.image(task, side).save(packed, format="PNG")
        return packed.getvalue()

    def image(self, task: Task, side: Literal["left", "right"]) -> Image.Image:
        """One picture, or a grid of them."""
        pictures = self.pictures(task, side)
        if task.question != "diversity":
            return self._sized(pictures[0], self.side)
        across = self._across()
        cell = max(LEAST // 2, self.side // across)
        gap = round(cell * GAP)
        whole = Image.new("RGB", (across * (cell + gap) - gap,) * 2, "white")
        for number, picture in enumerate(pictures):
            down, along = divmod(number, across)
            whole.paste(self._sized(picture, cell), (along * (cell + gap), down * (cell + gap)))
        return whole

    def pictures(self, task: Task, side: Literal["left", "right"]) -> list[Image.Image]:
        """The pictures of one side, on white, in their own sizes."""
        shown = task.left if side == "left" else task.right
        if task.kind == "check":
            count = self._across() ** 2
            return check(self.drawings, task.question, task.number, sound=shown == SOUND, count=count)
        numbered = self.gathered.files[shown][task.prompt]
        other = task.right if side == "left" else task.left
        if task.question == "diversity":
            wanted = self.gathered.both(task.prompt, shown, other)[: self.grid**2]
        else:
            wanted = [task.number]
        return [on_white(open_picture(numbered[number])) for number in wanted]

    def _across(self) -> int:
        return self.grid or 2

    def _sized(self, picture: Image.Image, side: int) -> Image.Image:
        if picture.width != picture.height:
            longer = max(picture.size)
            square = Image.new("RGB", (longer, longer), "white")
            square.paste(picture, ((longer - picture.width) // 2, (longer - picture.height) // 2))
            picture = square
        return picture if picture.width == side else picture.resize((side, side), Image.Resampling.BICUBIC)


def _largest(gathered: Gathered) -> int:
    """The longest side of any picture. LimnerError for a file that is no picture."""
    found = 0
    for prompts in gathered.files.values():
        for numbered in prompts.values():
            for file in numbered.values():
                try:
                    with Image.open(file) as opened:
                        found = max(found, *opened.size)
                except OSError as error:
                    raise LimnerError(f"cannot read {file} as a picture ({error}): paint it again") from error
    return found
