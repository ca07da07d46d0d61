"""GLIDE, every part: base and upsampler, each also taught to mend, and the CLIP that guides; ready to paint.

limner train glide --size toy --data DIR --out runs/glide
limner train glide --size small --data data/emoji data/scenes --share 85 15 --out runs/small/glide
limner paint "a red apple" --model glide --weights runs/small/glide/line
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limner import checkpoint
from limner.clip import ClipConfig
from limner.distributed import rank
from limner.glide import GlideConfig
from limner.recipes import glide_base, glide_upsampler, noised_clip
from limner.recipes.clip import ClipRecipe
from limner.recipes.glide_base import GlideRecipe
from limner.recipes.words import VOCABULARY
from limner.text import CaptionTokenizer


@dataclass(frozen=True, kw_only=True)
class GlideLineRecipe:
    """The recipes of the three parts, which must agree on sizes in pixels and on the base's noise levels."""

    base: GlideRecipe
    upsampler: GlideRecipe
    clip: ClipRecipe

    def __post_init__(self) -> None:
        """Refuse parts that could not paint together."""
        base, upsampler = self.base.model, self.upsampler.model
        for name, given, wanted in (
            ("upsampler's low", upsampler.low, base.resolution),
            ("clip's resolution", self.clip.model.vision.resolution, base.resolution),
            ("clip's noise", self.clip.noise, base.diffusion),
        ):
            if given != wanted:
                raise ValueError(f"the {name} is {given} where {wanted} is needed: give recipes that fit")


def toy() -> GlideLineRecipe:
    """Some minutes on two cores with the shipped sample; 64×64 pixels."""
    return GlideLineRecipe(base=glide_base.toy(), upsampler=glide_upsampler.toy(), clip=noised_clip.toy())


def small() -> GlideLineRecipe:
    """What ships; 256×256 pixels."""
    return GlideLineRecipe(
        base=glide_base.small(), upsampler=glide_upsampler.small(), clip=noised_clip.small()
    )


def paper() -> GlideLineRecipe:
    """The published sizes."""
    return GlideLineRecipe(
        base=glide_base.paper(), upsampler=glide_upsampler.paper(), clip=noised_clip.paper()
    )


def run(
    recipe: GlideLineRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    decoder: Path | None = None,
    clip: Path | None = None,
) -> Path:
    """Train every part under `out`, resuming where asked, and return `out/line`, which holds all three."""
    base = glide_base.run(
        recipe.base,
        folders=folders,
        share=share,
        out=out / "base",
        resume=resume,
        device=device,
        decoder=decoder,
        clip=clip,
    )
    upsampler = glide_upsampler.run(
        recipe.upsampler, folders=folders, share=share, out=out / "upsampler", resume=resume, device=device
    )
    guide = noised_clip.run(
        recipe.clip, folders=folders, share=share, out=out / "clip", resume=resume, device=device
    )
    return assemble(base, upsampler, guide, out / "line")


def assemble(base: Path, upsampler: Path, clip: Path, line: Path) -> Path:
    """Gather the three finished models in one folder, with their words, compact, as they ship."""
    if rank() != 0:  # processes that write the same files would take them from one another
        return line
    for part, folder in (("base", base), ("upsampler", upsampler)):
        config, state = checkpoint.load(folder, GlideConfig)
        checkpoint.save_compact(line / part, state, config)
        CaptionTokenizer.load(folder / VOCABULARY).save(line / part / VOCABULARY)
    clip_config, clip_state = checkpoint.load(clip, ClipConfig)
    checkpoint.save_compact(line / "clip", clip_state, clip_config)
    return line
