"""The first line, every part in order: CLIP → prior → decoder → upsampler, ready to paint from.

    limner train line --size toy --data DIR --out runs/toy      # four minutes on two cores
    limner train line --size small --data data/emoji data/scenes --share 7 3 --out runs/small
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from limner import checkpoint
from limner.clip import ClipConfig
from limner.dalle2.decoder import DecoderConfig
from limner.dalle2.prior_diffusion import PriorConfig
from limner.dalle2.upsampler import UpsamplerConfig
from limner.recipes import clip, decoder, prior, upsampler

Size = Literal["toy", "small", "paper"]
CONFIGS = {"clip": ClipConfig, "prior": PriorConfig, "decoder": DecoderConfig, "upsampler": UpsamplerConfig}


def run(
    size: Size,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
) -> Path:
    """Train every part under `out`, resuming where asked, and return `out/line`, which holds all four."""
    recipes = {
        "toy": (clip.toy, prior.toy, decoder.toy, upsampler.toy),
        "small": (clip.small, prior.small, decoder.small, upsampler.small),
        "paper": (clip.paper, prior.paper, decoder.paper, upsampler.paper),
    }
    if size not in recipes:
        raise ValueError(f"size: {size!r}, but there are {', '.join(recipes)}")
    for_clip, for_prior, for_decoder, for_upsampler = (make() for make in recipes[size])
    reader = clip.run(
        for_clip, folders=folders, share=share, out=out / "clip", resume=resume, device=device
    )
    prior.run(
        for_prior,
        folders=folders,
        share=share,
        out=out / "prior",
        resume=resume,
        device=device,
        clip=reader,
    )
    decoder.run(
        for_decoder,
        folders=folders,
        share=share,
        out=out / "decoder",
        resume=resume,
        device=device,
        clip=reader,
    )
    upsampler.run(
        for_upsampler, folders=folders, share=share, out=out / "upsampler", resume=resume, device=device
    )
    return assemble(out, out / "line")


def assemble(runs: Path, line: Path) -> Path:
    """Gather the four finished models of `runs` in one folder, in bfloat16, as they ship."""
    for part, config_type in CONFIGS.items():
        config, state = checkpoint.load(runs / part / "model", config_type)
        checkpoint.save(line / part, state, config, dtype=torch.bfloat16)
    return line
