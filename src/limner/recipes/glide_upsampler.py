"""GLIDE's upsampler: a small picture and a caption → one four times as large; then a second training to mend.

Paper: Nichol et al. 2021, sections 2.4 and 4.1. It reads the caption with a narrower encoder of its own.

    limner train glide-upsampler --size small --data data/emoji --out runs/small/glide-upsampler
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from limner import glide
from limner.glide import GlideConfig, TextEncoderConfig
from limner.layers.unet import UNetConfig
from limner.recipes import glide_base
from limner.recipes.glide_base import GlideRecipe, picture_spec
from limner.training import TrainConfig


def toy() -> GlideRecipe:
    """A minute of two cores with the shipped sample, 32 → 64 pixels."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(1, 1),
        attention=(2,),
        head_width=32,
        context_width=64,
        scale_shift=True,
        dropout=0.0,
        patch=4,
        canvas=0,
    )
    text = TextEncoderConfig(
        context=40, vocabulary=512, width=64, layers=1, heads=2, condition_width=unet.embedding_width
    )
    model = GlideConfig(
        resolution=64, low=32, inpaint=False, text=text, backbone=unet, diffusion=picture_spec()
    )
    training = TrainConfig(
        steps=120,
        batch=16,
        learning_rate=1e-3,
        warmup=20,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.98,
        precision="fp32",
        seed=23,
        save_every=60,
        sample_every=120,
    )
    return GlideRecipe(
        model=model,
        train=training,
        mend=replace(training, steps=40, learning_rate=5e-4, seed=24),
        read=None,
        crop=1.0,
        drop_caption=0.2,
        max_weight=4.0,
        lean=0.0,
        blur=0.6,
    )


def small() -> GlideRecipe:
    """What ships: 64 → 256 pixels, trained on quarters of pictures."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(2, 2, 3),
        attention=(4,),
        head_width=32,
        context_width=128,
        scale_shift=True,
        dropout=0.0,
        patch=4,
        canvas=0,
    )
    text = TextEncoderConfig(
        context=40, vocabulary=2048, width=128, layers=2, heads=4, condition_width=unet.embedding_width
    )
    model = GlideConfig(
        resolution=256, low=64, inpaint=False, text=text, backbone=unet, diffusion=picture_spec()
    )
    training = TrainConfig(
        steps=2000,
        batch=8,
        learning_rate=6e-4,
        warmup=100,
        betas=(0.9, 0.99),
        eps=1e-8,
        weight_decay=0.01,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=23,
        save_every=200,
        sample_every=1000,
    )
    return GlideRecipe(
        model=model,
        train=training,
        mend=replace(training, steps=600, learning_rate=3e-4, seed=24),
        read=None,
        crop=0.5,
        drop_caption=0.2,
        max_weight=20.0,
        lean=0.0,
        blur=0.6,
    )


def paper() -> GlideRecipe:
    """Section 4: 1.6 million steps of batch 512; the released shape, 398,361,286 parameters."""
    base = glide_base.paper()
    return replace(
        base,
        model=glide.filtered_upsampler(),
        train=replace(base.train, steps=1_600_000, batch=512),
        mend=replace(base.mend, batch=512),
    )


def run(
    recipe: GlideRecipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    init_from: Path | None = None,
) -> Path:
    """Train one that enlarges, in `out/paints`, then one that mends, in `out/mends`; return its folder."""
    return glide_base.run(
        recipe,
        folders=folders,
        share=share,
        out=out,
        resume=resume,
        device=device,
        init_from=init_from,
    )
