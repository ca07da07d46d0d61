"""The networks of an unCLIP that lie in a folder: limner's own checkpoints, or somebody else's.

Karlo's files and diffusers' folders are opened where they lie (`limner.formats`), or were made folders of
limner's own by `limner convert`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextWithProjection, TextWithProjectionConfig
from limner.dalle2.decoder import Decoder, DecoderConfig
from limner.dalle2.prior_autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.errors import LimnerError
from limner.formats import Opened, network, opened, usable
from limner.pipelines.embedding import clip_words
from limner.pipelines.loading import digest_of, loaded, placed
from limner.text import ClipTokenizer

PARTS = ("clip", "prior", "decoder", "upsampler")
# In clip's place, where that never looks at pictures.
BLIND = "text_encoder"
# What makes more of a painter that has it.
SECOND = "upsampler_1024"
OTHER = "prior_autoregressive"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that a folder holds of a painter: its networks, its words, and the short name of its weights."""

    clip: Clip | TextWithProjection
    prior: Prior | None
    decoder: Decoder
    upsampler: Upsampler
    tokenizer: ClipTokenizer
    digest: str
    upsampler_1024: Upsampler | None = None
    prior_autoregressive: AutoregressivePrior | None = None


def parts_at(folder: Path, place: torch.device) -> Parts:
    """What of unCLIP lies in a folder. LimnerError where there is none, or too little to paint."""
    if any(checkpoint.is_ours(folder / name) for name in (*PARTS, BLIND)):
        return own(folder, place)
    if not folder.exists():
        raise LimnerError(f"no weights at {folder}: give a folder that holds {', '.join(PARTS)}")
    return theirs(opened(folder), place)


def own(folder: Path, place: torch.device) -> Parts:
    """Folders of limner's own format. LimnerError, naming the file, for weights that do not load."""
    clip: Clip | TextWithProjection
    if (folder / BLIND).is_dir():
        clip = loaded(folder / BLIND, TextWithProjectionConfig, TextWithProjection, place)
    else:
        clip = loaded(folder / "clip", ClipConfig, Clip, place)
    decoder = loaded(folder / "decoder", DecoderConfig, Decoder, place)
    prior = None
    # Only somebody else's unCLIP comes without.
    if (folder / "prior").is_dir() or not decoder.config.raw:
        prior = loaded(folder / "prior", PriorConfig, Prior, place)
    second = None
    if (folder / SECOND).is_dir():
        second = loaded(folder / SECOND, UpsamplerConfig, Upsampler, place)
    other = None
    if (folder / OTHER).is_dir():
        other = loaded(folder / OTHER, AutoregressivePriorConfig, AutoregressivePrior, place)
    return Parts(
        clip=clip,
        prior=prior,
        decoder=decoder,
        upsampler=loaded(folder / "upsampler", UpsamplerConfig, Upsampler, place),
        tokenizer=ClipTokenizer(clip.config.text.vocabulary),
        digest=digest(folder),
        upsampler_1024=second,
        prior_autoregressive=other,
    )


def theirs(found: Opened, place: torch.device) -> Parts:
    """Somebody else's; LimnerError for a checkpoint that is not whole, or paints nothing."""
    there = {part.name: part for part in usable(found).parts}
    path = found.contents.path
    reader = next((name for name in ("clip", BLIND) if name in there), None)
    for name, what in ((reader, "CLIP that reads words"), ("decoder", "decoder"), ("upsampler", "upsampler")):
        if name not in there:
            raise LimnerError(
                f"{path} is {found.format} and holds no {what}, without which nothing is painted"
            )
    tokenizer = clip_words(there[str(reader)].config.text.vocabulary, path)

    def of(name: str) -> nn.Module:
        return placed(network(there[name]), place)

    clip, decoder, upsampler = of(str(reader)), of("decoder"), of("upsampler")
    prior = of("prior") if "prior" in there else None
    if not (
        isinstance(clip, Clip | TextWithProjection)
        and isinstance(decoder, Decoder)
        and isinstance(upsampler, Upsampler)
        and isinstance(prior, Prior | None)
    ):
        raise LimnerError(f"{path} is {found.format}, and no unCLIP: give one")
    return Parts(
        clip=clip,
        prior=prior,
        decoder=decoder,
        upsampler=upsampler,
        tokenizer=tokenizer,
        digest=found.contents.digest()[:12],
    )


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders of the four parts, or of what stands for one, and of those that a line may have besides."""
    parts = [BLIND, *PARTS[1:]] if (folder / BLIND).is_dir() else list(PARTS)
    if (folder / "decoder").is_dir() and not (folder / "prior").is_dir():
        parts.remove("prior")
    more = [part for part in (OTHER, SECOND) if (folder / part).is_dir()]
    return {part: folder / part for part in (*parts, *more)}


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits for the weights of all parts together."""
    return digest_of([checkpoint.digest(part) for part in parts_of(folder).values()])
