"""The first line, every part in order: CLIP → prior → decoder → upsampler, ready to paint from.

limner train line --size toy --data DIR --out runs/toy      # some minutes
limner train line --size small --data data/emoji data/scenes --share 7 3 --out runs/small
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from limner import checkpoint
from limner.clip import ClipConfig
from limner.dalle2.decoder import DecoderConfig
from limner.dalle2.prior_diffusion import PriorConfig
from limner.dalle2.upsampler import UpsamplerConfig
from limner.distributed import rank
from limner.recipes import clip, decoder, prior, upsampler

CONFIGS: dict[str, type[ClipConfig | PriorConfig | DecoderConfig | UpsamplerConfig]] = {
    "clip": ClipConfig,
    "prior": PriorConfig,
    "decoder": DecoderConfig,
    "upsampler": UpsamplerConfig,
}
# All but CLIP, which measures and ranks as well.
COMPACT = frozenset({"prior", "decoder", "upsampler"})


@dataclass(frozen=True, kw_only=True)
class LineRecipe:
    """The recipes of the four parts, which must agree on CLIP's widths and on sizes in pixels."""

    clip: clip.ClipRecipe
    prior: prior.PriorRecipe
    decoder: decoder.DecoderRecipe
    upsampler: upsampler.UpsamplerRecipe


def toy() -> LineRecipe:
    """Some minutes on two cores with the shipped sample; 64×64 pixels."""
    return LineRecipe(clip=clip.toy(), prior=prior.toy(), decoder=decoder.toy(), upsampler=upsampler.toy())


def small() -> LineRecipe:
    """What ships; 256×256 pixels."""
    return LineRecipe(
        clip=clip.small(), prior=prior.small(), decoder=decoder.small(), upsampler=upsampler.small()
    )


def paper() -> LineRecipe:
    """The published sizes."""
    return LineRecipe(
        clip=clip.paper(), prior=prior.paper(), decoder=decoder.paper(), upsampler=upsampler.paper()
    )


def run(
    recipe: LineRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
) -> Path:
    """Train every part under `out`, resuming where asked, and return `out/line`, which holds all four."""
    reader = clip.run(
        recipe.clip, folders=folders, share=share, out=out / "clip", resume=resume, device=device
    )
    imagining = prior.run(
        recipe.prior,
        folders=folders,
        share=share,
        out=out / "prior",
        resume=resume,
        device=device,
        clip=reader,
    )
    decoder.run(
        recipe.decoder,
        folders=folders,
        share=share,
        out=out / "decoder",
        resume=resume,
        device=device,
        clip=reader,
        prior=imagining if recipe.decoder.imagined else None,
    )
    upsampler.run(
        recipe.upsampler, folders=folders, share=share, out=out / "upsampler", resume=resume, device=device
    )
    return assemble(out, out / "line")


def assemble(runs: Path, line: Path) -> Path:
    """Gather the four finished models of `runs` in one folder, as they ship: in bfloat16, some compact.

    CLIP leaves its thumbnail head behind: it served training, and no painter asks for it.
    """
    if rank() != 0:  # processes that write the same files would take them from one another
        return line
    for part, config_type in CONFIGS.items():
        config, state = checkpoint.load(runs / part / "model", config_type)
        if isinstance(config, ClipConfig):
            config = replace(config, thumbnail=None)
            state = {name: value for name, value in state.items() if not name.startswith("recall.")}
        if part in COMPACT:
            checkpoint.save_compact(line / part, state, config)
        else:
            checkpoint.save(line / part, state, config, dtype=torch.bfloat16)
    return line
