"""Training that goes on from weights of an earlier one, with a schedule of its own.

What cannot be is refused before pictures are read or anything is written.
"""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from limner import checkpoint

M = TypeVar("M", bound=nn.Module)
# What a note says where a run began without.
NONE = "none"


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


def same_source(name: str, folder: Path | None, *, out: Path, resume: bool, legs: Sequence[str] = ()) -> None:
    """Note in the folder `out` which weights, such as "clip", a run stands on, as its precision is noted.

    The note is their digest and folder, or that there are none. Raises ValueError where the run there, which
    is to go on, began with others, with some, or without; those that lie elsewhere by now are the same. Of a
    run from before there was such a note nothing is known. `legs`: trainings in folders of these names within
    `out` that come first, and begin the run.
    """
    weights = NONE if folder is None else checkpoint.digest(folder)
    note = out / f"{name}.txt"
    if any((out / leg / "log.jsonl").exists() for leg in ("", *legs)):
        if not resume or not note.exists():
            return
        theirs, _, where = note.read_text(encoding="utf-8").partition(" ")
        if theirs == weights:
            return
        given = f"{name} is missing" if folder is None else f"{name} is '{folder}' ({weights})"
        began, remedy = f"with '{where}' ({theirs})", "give that"
        if theirs == NONE:
            began, remedy = "without one", "leave it out"
        raise ValueError(f"{given}: the run in '{out}' began {began}; {remedy}, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    partial = note.with_suffix(f".{os.getpid()}.partial")  # several processes may come here at once
    partial.write_text(weights if folder is None else f"{weights} {folder}", encoding="utf-8")
    os.replace(partial, note)
