"""Pictures on disk: each is there whole or not at all, and what is there is not painted again.

A picture's file says what it was painted by; one that says something else belongs to another comparison, and
is refused rather than replaced.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from limner.comparison.entrants import Entrant, Settings, settings_of
from limner.errors import LimnerError
from limner.pipelines import Dalle1, Dalle2, DfGan, Glide
from limner.pipelines.png import save_png
from limner.pipelines.settings import Commission, DfGanSettings, GlideSettings, PaintSettings, TokenSettings
from limner.pipelines.stages import Drawn, Enlarged, EnlargedAgain, Ranked

if TYPE_CHECKING:
    from limner.comparison.entrants import Painter

PICTURES = "pictures"
# Pictures in work between two times that all of them are saved.
AT_ONCE = 16
# What a file says that this run cannot know beforehand.
ITS_OWN = ("seed", "score", "seconds")
SECONDS = "seconds"
# Where the seconds were spent: a comparison may be gone on with elsewhere.
DEVICE = "device"


@dataclass(frozen=True)
class Work:
    """What one entrant paints: `count` pictures of each prompt, `size` pixels a side, into `folder`."""

    entrant: Entrant
    prompts: tuple[str, ...]
    count: int
    size: int
    seed: int
    folder: Path

    def file(self, prompt: int, number: int) -> Path:
        """The place of a picture: of the prompt of this number, from 0, the `number`th, from 1."""
        return self.folder / f"{prompt:05d}-{number:02d}.png"

    def files(self, prompt: int) -> list[Path]:
        """The places of all pictures of a prompt."""
        return [self.file(prompt, number) for number in range(1, self.count + 1)]

    def every_file(self) -> list[Path]:
        """All of them, prompt by prompt."""
        return [file for prompt in range(len(self.prompts)) for file in self.files(prompt)]


def missing(work: Work, painter: "Painter") -> list[int]:
    """The numbers of the prompts that are not painted yet.

    LimnerError where a picture lies there that this painter would not have painted.
    """
    settings = settings_of(work.entrant, painter.usual, count=work.count)
    return [prompt for prompt in range(len(work.prompts)) if not there(work, prompt, painter, settings)]


def paint(
    work: Work,
    painter: "Painter",
    prompts: Sequence[int],
    watch: Callable[[Sequence[Sequence[int]]], Iterator[Sequence[int]]],
) -> None:
    """Paint the prompts of these numbers, a few at a time, and save their pictures.

    `watch` passes on what is handed to it, behind a bar, which so counts what is saved.
    """
    settings = settings_of(work.entrant, painter.usual, count=work.count)
    for stale in work.folder.glob(".*.part"):
        with suppress(OSError):
            stale.unlink()
    each = max(1, AT_ONCE // work.count)
    for some in watch([prompts[start : start + each] for start in range(0, len(prompts), each)]):
        began = time.perf_counter()
        found = list(painted(painter, [work.prompts[prompt] for prompt in some], work, settings))
        seconds = (time.perf_counter() - began) / len(found)
        places = [file for prompt in some for file in work.files(prompt)]
        for place, (image, told) in zip(places, found, strict=True):
            save_png(image, place, {**told, SECONDS: f"{seconds:.6f}", DEVICE: str(painter.device)})


def painted(
    painter: "Painter", prompts: Sequence[str], work: Work, settings: Settings
) -> Iterator[tuple[Image.Image, dict[str, str]]]:
    """Pictures, `count` of each prompt, and what their files say of them."""
    told = teller(painter, settings, work.size)
    for stage in stages(painter, prompts, work, settings):
        if isinstance(stage, Ranked):
            rows = zip(stage.commissions, stage.images(), stage.scores.tolist(), strict=True)
            for commission, image, score in rows:
                yield image, {**told(commission.prompt, commission.seed), "score": f"{score:.4f}"}
        elif isinstance(stage, Drawn | Enlarged | EnlargedAgain) and stage.pictures.shape[-1] == work.size:
            for commission, image in zip(stage.commissions, stage.images(), strict=True):
                yield image, told(commission.prompt, commission.seed)


def stages(painter: "Painter", prompts: Sequence[str], work: Work, settings: Settings) -> Iterator[object]:
    """Whatever the painter makes on its way."""
    count, size, seed = work.count, work.size, work.seed
    # One call of each, for each takes settings of its own kind.
    match painter, settings:
        case Dalle1(), TokenSettings():
            return painter.paint(prompts, count=count, size=size, seed=seed, settings=settings, stages=True)
        case DfGan(), DfGanSettings():
            return painter.paint(prompts, count=count, size=size, seed=seed, settings=settings, stages=True)
        case Glide(), GlideSettings():
            return painter.paint(prompts, count=count, size=size, seed=seed, settings=settings, stages=True)
        case Dalle2(), PaintSettings():
            return painter.paint(prompts, count=count, size=size, seed=seed, settings=settings, stages=True)
        case _:
            raise TypeError(f"settings are {type(settings).__name__}, not those of {type(painter).__name__}")


def teller(painter: "Painter", settings: Settings, size: int) -> Callable[[str, int], dict[str, str]]:
    """What the file of a picture says, by its words and seed; a score is not known beforehand."""

    def told(prompt: str, seed: int) -> dict[str, str]:
        commission = Commission(prompt, seed)
        match painter, settings:
            case Dalle1(), TokenSettings():
                return painter.metadata(commission, settings=settings, score=0.0)
            case DfGan(), DfGanSettings():
                return painter.metadata(commission, size=size, settings=settings)
            case Glide(), GlideSettings():
                return painter.metadata(commission, size=size, settings=settings)
            case Dalle2(), PaintSettings():
                return painter.metadata(commission, size=size, settings=settings)
            case _:
                raise TypeError(
                    f"settings are {type(settings).__name__}, not those of {type(painter).__name__}"
                )

    return told


def there(work: Work, prompt: int, painter: "Painter", settings: Settings) -> bool:
    """Whether all pictures of a prompt are there, and are this painter's."""
    wanted = teller(painter, settings, work.size)(work.prompts[prompt], work.seed)
    whole = True
    for file in work.files(prompt):
        says = said(file)
        if says is None:
            whole = False
            continue
        for key, value in wanted.items():
            if key not in ITS_OWN and says.get(key) != value:
                raise LimnerError(
                    f"{file} is of another comparison: its {key} is {short(says.get(key))}, and here it is "
                    f"{short(value)}; give another --out, or take {work.folder} away"
                )
    return whole


def said(file: Path) -> dict[str, str] | None:
    """What a picture's file says; None where there is none, or one that cannot be read."""
    if not file.exists():
        return None
    try:
        with Image.open(file) as opened:
            opened.load()
            return {str(key): str(value) for key, value in opened.info.items()}
    except (OSError, SyntaxError, ValueError):
        return None


def short(value: str | None) -> str:
    """A value in a message."""
    if value is None:
        return "not told"
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}…"


def seconds_of(work: Work, device: str) -> list[float]:
    """What each picture that was painted on this device took of the time of those painted with it."""
    told = [said(file) for file in work.every_file()]
    return [float(one[SECONDS]) for one in told if one is not None and one.get(DEVICE) == device]


def settings_said(settings: Settings) -> str:
    """Every knob, for the report."""
    knobs = settings.described()
    if isinstance(settings, TokenSettings):
        knobs = {**knobs, "candidates": settings.candidates}
    return json.dumps(knobs)


def opened(files: Sequence[Path]) -> Iterator[Image.Image]:
    """Pictures one at a time."""
    for file in files:
        with Image.open(file) as found:
            yield found.convert("RGB")
