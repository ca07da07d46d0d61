"""Features that were looked at once and are kept: looking costs far more than counting."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.evaluation.table import replaced

FOLDER = "features"


def kept(
    folder: Path, name: str, of: Sequence[str], make: Callable[[], Float[Tensor, "n d"]]
) -> Float[Tensor, "n d"]:
    """What `make` makes, or what `folder` keeps of it: a file for each name, whole or not there.

    `of`: what it depends on, in words; features of anything else are made anew. A file that cannot be read is
    made anew as well.
    """
    wanted = hashlib.sha256("\n".join(of).encode()).hexdigest()
    file = folder / FOLDER / f"{name}.npz"
    if file.is_file():
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as found:
                if str(found["of"]) == wanted:
                    return torch.from_numpy(found["features"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass  # Damaged: it is made anew.
    features = make()
    packed = io.BytesIO()
    np.savez(packed, of=np.array(wanted), features=features.numpy())
    replaced(file, packed.getvalue())
    return features


def fingerprints(files: Sequence[Path]) -> list[str]:
    """A name for the bytes of each file."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
