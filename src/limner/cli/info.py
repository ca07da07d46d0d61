"""`limner info`: what is installed here, and which weights came with it."""

import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limner import __version__

if TYPE_CHECKING:
    from rich.table import Table

HELP = """Say what is installed, and which weights came with it.
  limner info"""


@dataclass(frozen=True, kw_only=True)
class Info:
    """`limner info` has no options."""

    def run(self) -> None:
        """Print it all."""
        import torch
        from rich.console import Console
        from rich.table import Table

        from limner.errors import LimnerError
        from limner.pipelines.devices import device_named
        from limner.pipelines.generators import PRIORS
        from limner.pipelines.settings import MODELS
        from limner.weights import shipped

        out = Console()
        facts = Table(show_header=False, box=None)
        facts.add_row("limner", __version__)
        facts.add_row("python", platform.python_version())
        facts.add_row("torch", torch.__version__)
        facts.add_row("device", str(device_named("auto")))
        facts.add_row("threads", str(torch.get_num_threads()))
        out.print(facts)
        for model in (*MODELS, *PRIORS):
            try:
                out.print(weights_table(model, shipped(model)))
            except LimnerError as error:
                out.print(str(error), highlight=False)


def weights_table(model: str, folder: Path) -> "Table":
    """Parts of a model with their parameters, size on disk and digest."""
    from rich.table import Table

    from limner import checkpoint
    from limner.pipelines import dalle1, dalle2_parts, dfgan, generators, glide_parts

    match model:
        case "dalle1":
            whole, parts = dalle1.digest(folder), dalle1.parts_of(folder)
        case "dalle2":
            whole, parts = dalle2_parts.digest(folder), dalle2_parts.parts_of(folder)
        case "dfgan":
            whole, parts = dfgan.digest(folder), {part: folder / part for part in dfgan.PARTS}
        case "glide":
            whole, parts = glide_parts.digest(folder), {part: folder / part for part in glide_parts.PARTS}
        case _:
            whole, parts = generators.digest(model, folder), generators.parts_of(model, folder)
    table = Table(title=f"{model} {whole}", title_justify="left")
    for heading in ("part", "parameters", "MB", "digest"):
        table.add_column(heading, justify="left" if heading in ("part", "digest") else "right")
    for part, place in parts.items():
        size = (place / checkpoint.WEIGHTS).stat().st_size / 1e6
        table.add_row(part, f"{parameters(place):,}", f"{size:.1f}", checkpoint.digest(place))
    return table


def parameters(folder: Path) -> int:
    """Numbers stored in a checkpoint, counted without reading them."""
    from safetensors import safe_open

    from limner import checkpoint

    with safe_open(folder / checkpoint.WEIGHTS, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
