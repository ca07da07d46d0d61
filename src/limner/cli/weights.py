"""The option for weights, as every command has it that takes none but one kind of model."""

from pathlib import Path
from typing import Annotated, TypeAlias

from tyro.conf import arg

# `--model` is what `limner paint` calls it; there the name of a painter may stand as well.
Weights: TypeAlias = Annotated[
    Path | None, arg(aliases=("--model",), metavar="PATH", help_behavior_hint="(default: what ships)")
]
