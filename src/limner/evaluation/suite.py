"""The fixed evaluation: any painter on the six hundred prompts, and real drawings beside it.

One picture of each prompt, at the painter's smallest size. `emoji600` has the prompts, `marks` what is right
about a picture, `suite_scores` counts, `suite_table` tells.
"""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.markdown import Markdown

from limner.evaluation.emoji600 import Request, requests
from limner.evaluation.suite_scores import Scores, Shown, measured
from limner.evaluation.suite_table import copies, failing, failures, sheet, text
from limner.evaluation.table import replaced
from limner.pipelines.progress import Tick

if TYPE_CHECKING:
    from limner.pipelines import Dalle1, Dalle2, DfGan, Glide

NAME = "emoji600"


def run(
    painter: "Dalle1 | Dalle2 | DfGan | Glide",
    data: Path,
    judge: Path,
    out: Path,
    *,
    model: str,
    seed: int = 0,
    asked: Sequence[Request] | None = None,
) -> Path:
    """Paint the list and measure; `out`/emoji600.md, which it returns.

    `data`: the painters' emoji folder, `judge`: a recogniser's run. Beside the table, `out` gets .json, with
    the marks of every prompt, a sheet of all pictures, one of the 16 that are most like a training picture,
    and one of 16 that are not right. `asked`: another list than the fixed one. Raises LimnerError as
    `measured` does.
    """
    asked = requests() if asked is None else asked

    def paint(prompts: Sequence[str], on_tick: Callable[[Tick], None]) -> list[Image.Image]:
        return painter.paint(prompts, size=painter.sizes[0], seed=seed, on_tick=on_tick)

    scores, shown = measured(asked, paint, data, judge, seed=seed, device=str(painter.device))
    precision: str = getattr(painter, "precision", "fp32")
    of = f"{model}, weights {painter.digest}, {painter.sizes[0]} pixels, {precision}"
    said = text(scores, of) + failing(asked, shown)
    Console().print(Markdown(said))
    replaced(out / f"{NAME}.json", described(asked, scores, shown, of).encode())
    sheets = {"sheet": sheet(asked, shown), "copies": copies(asked, shown)}
    if shown.failures:
        sheets["failures"] = failures(asked, shown)
    for name, laid in sheets.items():
        packed = io.BytesIO()
        laid.save(packed, format="PNG", optimize=True)
        replaced(out / f"{NAME}_{name}.png", packed.getvalue())
    replaced(out / f"{NAME}.md", said.encode())
    return out / f"{NAME}.md"


def described(asked: Sequence[Request], scores: Scores, shown: Shown, of: str) -> str:
    """Everything as JSON: the table's numbers, and what was right about each picture."""
    each = [
        {"prompt": one.prompt, "painted": painted, "real": real}
        for one, painted, real in zip(asked, shown.marks, shown.real_marks, strict=True)
    ]
    known = {"of": of, **dataclasses.asdict(scores), "prompts_and_marks": each}
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"
