"""Pictures as the codes of a trained tokenizer, computed once: they do not change while a prior trains."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from limner import checkpoint
from limner.data.loader import COLOURED_GROUNDS, Gallery
from limner.progress import watched
from limner.recipes.pictures import fingerprint
from limner.training.memory import keep_freed_memory

CHUNK = 64

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)


def finished(kind: Callable[[C], M], config_type: type[C], folder: Path, device: str | None) -> M:
    """The network in a checkpoint folder, frozen, once the process that writes it is done."""
    state = PartialState(cpu=device == "cpu")
    state.wait_for_everyone()
    config, weights = checkpoint.load(folder, config_type)
    model = kind(config)
    checkpoint.load_into(model, weights)
    # PyTorch's stubs know `memory_format` beside no other argument.
    model.to(device=state.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def coded(
    encode: Callable[[Float[Tensor, "b 3 h w"]], Int[Tensor, "b n"]],
    gallery: Gallery,
    *,
    weights: str,
    out: Path,
) -> NDArray[np.uint16]:
    """The codes of every picture on each of its grounds, (N, grounds, n); kept in the folder `out`.

    `weights`: the `checkpoint.digest` of what `encode` has, for codes of other weights mean nothing. The
    file's name says whose codes of which pictures it holds.
    """
    cache = out / f"codes_{weights}_{fingerprint(gallery)}.npy"
    if not cache.exists():
        keep_freed_memory()  # with channels last, two fifths of the time (dVAE, 64 pictures, two cores)
        grounds = COLOURED_GROUNDS + 1
        length = encode(gallery.composited([0], [0])).shape[1]
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}.partial")  # several processes may come here at once
        made = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.uint16, shape=(len(gallery), grounds, length)
        )
        for start in watched(range(0, len(gallery), CHUNK), "writing pictures as codes"):
            rows = list(range(start, min(start + CHUNK, len(gallery))))
            for number in range(grounds):
                seen = rows if number == 0 else [row for row in rows if not gallery.opaque[row]]
                if seen:
                    pictures = gallery.composited(seen, [number] * len(seen))
                    made[seen, number] = encode(pictures).cpu().numpy()
        made.flush()
        del made
        os.replace(partial, cache)
    kept: NDArray[np.uint16] = np.load(cache, mmap_mode="r")
    return kept
