"""Training that goes on from weights of an earlier one, with a schedule of its own.

What cannot be is refused before pictures are read or anything is written.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from limner import checkpoint

M = TypeVar("M", bound=nn.Module)


def checked_start(config: Any, init_from: Path | None) -> None:
    """Raise ValueError, naming what differs, for weights of a network that `config` does not describe."""
    if init_from is None:
        return
    theirs, _ = checkpoint.load(init_from, type(config))
    differing = [
        f"{field.name} is {kept}, not {ours}"
        for field in fields(config)
        if (kept := getattr(theirs, field.name)) != (ours := getattr(config, field.name))
    ]
    if differing:
        raise ValueError(
            f"init_from is '{init_from}', of another network than this recipe's ({'; '.join(differing)}): "
            "give the weights of one that was trained at this --size"
        )


def begun(model: M, config: Any, init_from: Path | None) -> M:
    """`model`, with the weights in the folder `init_from` where one is given; see `checked_start`."""
    checked_start(config, init_from)
    if init_from is not None:
        checkpoint.load_into(model, checkpoint.load(init_from, type(config))[1])
    return model
