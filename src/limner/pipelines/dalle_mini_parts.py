"""The networks of DALL-E mini that lie in a folder, and its words: limner's own, or somebody else's.

min-dalle's and Flax's files are opened where they lie (`limner.formats.dalle_mini`), or were made folders of
limner's own by `limner convert`. Weights are views of their files: mega has ten gigabytes of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from limner import checkpoint
from limner.dalle_mini import WORDS, DalleMini, DalleMiniConfig, DalleMiniWords
from limner.errors import LimnerError
from limner.formats import Opened, Part, network, opened, usable
from limner.pipelines.loading import digest_of, mapped, placed
from limner.vqgan import Decoder, VqGan, VqGanConfig

TRANSFORMER = "dalle_mini"
# The half that paints, or a whole one.
PAINTERS = {"detoker": Decoder, "vqgan": VqGan}
WANTED = (
    "put min-dalle's detoker.pt there, or a VQGAN of the same codes, as Flax or taming-transformers keep it, "
    "in its folder vqgan"
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that a folder holds of DALL-E mini; `detoker` is the half of the VQGAN that paints."""

    transformer: DalleMini
    detoker: Decoder
    words: DalleMiniWords
    digest: str


def parts_at(folder: Path, place: torch.device) -> Parts:
    """What of DALL-E mini lies in a folder. LimnerError where there is none, or too little to paint."""
    if checkpoint.is_ours(folder / TRANSFORMER):
        return own(folder, place)
    if not folder.exists():
        raise LimnerError(f"no weights at {folder}: give a folder that holds DALL-E mini and its VQGAN")
    return theirs(opened(folder), place)


def own(folder: Path, place: torch.device) -> Parts:
    """Folders of limner's own format. LimnerError, naming the file, for weights that do not load."""
    name = next((name for name in PAINTERS if (folder / name).is_dir()), None)
    if name is None:
        raise LimnerError(f"{folder} holds no {' and no '.join(PAINTERS)}: {WANTED}, and convert it again")
    words = DalleMiniWords.beside(folder / TRANSFORMER)
    return Parts(
        transformer=mapped(folder / TRANSFORMER, DalleMiniConfig, DalleMini, place),
        detoker=placed(_painting(mapped(folder / name, VqGanConfig, PAINTERS[name], place)), place),
        words=words,
        digest=digest_of(
            [
                *(checkpoint.digest(folder / part) for part in (TRANSFORMER, name)),
                *_digests([folder / TRANSFORMER / file for file in WORDS]),
            ]
        ),
    )


def theirs(found: Opened, place: torch.device) -> Parts:
    """Somebody else's; LimnerError for a checkpoint that is not whole, or is no DALL-E mini."""
    path, parts = found.contents.path, {part.name: part for part in found.parts}
    transformer = parts.get(TRANSFORMER)
    if transformer is None:
        raise LimnerError(f"{path} is {found.format}, and no DALL-E mini: give a folder of one and its VQGAN")
    painter = next((part for name, part in parts.items() if name in PAINTERS), None)
    if painter is None:
        raise LimnerError(f"{path} has no VQGAN, without which codes are no pictures: {WANTED}")
    folder = path if path.is_dir() else path.parent
    words = DalleMiniWords.beside(transformer.beside[0].parent if transformer.beside else folder)
    usable(found)
    model = network(transformer)
    assert isinstance(model, DalleMini)
    return Parts(
        transformer=model.to(place),
        detoker=placed(_painting(network(painter)), place),
        words=words,
        digest=digest_of(
            [*(_digest(found, part) for part in (transformer, painter)), *_digests(transformer.beside)]
        ),
    )


def _painting(module: nn.Module) -> Decoder:
    """The half that paints."""
    half = module.decoder if isinstance(module, VqGan) else module
    assert isinstance(half, Decoder)
    return half


def _digest(found: Opened, part: Part) -> str:
    return replace(found.contents, tensors=part.taken.state, files=(), folders={}).digest()


def _digests(files: Sequence[Path]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
