"""A U-Net that is told of a class, and the sizes that were published."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.diffusion.spec import DiffusionSpec
from limner.layers.unet import UNet, UNetConfig

COLOURS = 3
IMAGENET = 1000


@dataclass(frozen=True, kw_only=True)
class AdmConfig:
    """`resolution` in pixels; `low`: side of the picture that is enlarged, None where there is none.

    `classes`: how many it may be told of, None for none.
    """

    resolution: int
    low: int | None
    classes: int | None
    unet: UNetConfig
    diffusion: DiffusionSpec

    def __post_init__(self) -> None:
        """Refuse parts that do not fit."""
        for name, given, wanted in (
            ("in_channels", self.unet.in_channels, COLOURS * (1 if self.low is None else 2)),
            ("out_channels", self.unet.out_channels, COLOURS * (1 + self.diffusion.learned_variance)),
        ):
            if given != wanted:
                raise ValueError(f"unet.{name}: {given}, but this network has {wanted}")


class Adm(nn.Module):
    """(x_t, t, class) → prediction, and the small picture beside x_t where there is one.

    The class joins the time embedding, so that it scales and shifts in every residual block (Dhariwal &
    Nichol 2021, section 3.1). There is no class for "any", and so no guidance without a classifier.
    """

    def __init__(self, config: AdmConfig) -> None:
        super().__init__()
        self.config = config
        width = config.unet.embedding_width
        self.labels = None if config.classes is None else nn.Embedding(config.classes, width)
        self.unet = UNet(config.unet)

    def forward(
        self,
        x: Float[Tensor, "b 3 h w"],
        t: Float[Tensor, "b"],
        *,
        label: Int[Tensor, "b"] | None = None,
        low: Float[Tensor, "b 3 h2 w2"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict from the noised picture: ε, and where it is learned the fraction of variance behind it.

        `label` is needed by a network with classes and by no other, `low` by one that enlarges: ValueError.
        """
        for name, given, known in (("label", label, self.config.classes), ("low", low, self.config.low)):
            if (given is None) != (known is None):
                raise ValueError(
                    f"{name}: {'missing' if given is None else 'given'}, but this network "
                    f"{'takes none' if known is None else 'needs it'}"
                )
        if low is not None:
            x = torch.cat([x, F.interpolate(low, size=x.shape[-2:], mode="bilinear")], dim=1)
        condition = None
        if label is not None:
            assert self.labels is not None
            most = self.labels.num_embeddings
            if not 0 <= int(label.min()) <= int(label.max()) < most:
                raise ValueError(f"label: {label.tolist()}, but the classes are 0 to {most - 1}")
            condition = self.labels(label)
        out: Tensor = self.unet(x, t, condition=condition)
        return out


def imagenet(side: int) -> AdmConfig:
    """ImageNet's by class, of 64, 128, 256 or 512 pixels: 296, 422, 554 and 559 million parameters."""
    return AdmConfig(
        resolution=side,
        low=None,
        classes=IMAGENET,
        unet=unet(side),
        diffusion=spec("cosine" if side == 64 else "linear"),
    )


def unconditional(side: int) -> AdmConfig:
    """256 pixels of ImageNet or of LSUN, told nothing: 552,814,086 parameters."""
    return AdmConfig(resolution=side, low=None, classes=None, unet=unet(side), diffusion=spec("linear"))


def enlarging(side: int) -> AdmConfig:
    """To 256 or 512 pixels from a quarter of that, by class: 311,795,910 and 308,835,270 parameters."""
    backbone = UNetConfig(
        in_channels=2 * COLOURS,
        out_channels=2 * COLOURS,
        channels=192,
        depth=2,
        multipliers=(1, 1, 2, 2, 4, 4),
        # Where there are 32, 16 and 8 pixels a side; the larger one has none at 8, whatever its table says.
        attention=(8, 16, 32) if side == 256 else (16, 32),
        head_width=64,
        heads=4 if side == 256 else None,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    return AdmConfig(
        resolution=side, low=side // 4, classes=IMAGENET, unet=backbone, diffusion=spec("linear")
    )


def unet(side: int) -> UNetConfig:
    """The U-Net for pictures of 64, 128, 256 or 512 pixels: table 11 of the paper, and the released flags."""
    multipliers = {
        64: (1, 2, 3, 4),
        128: (1, 1, 2, 3, 4),
        256: (1, 1, 2, 2, 4, 4),
        512: (1, 2, 2, 4, 4, 8, 8),
    }
    if side not in multipliers:
        raise ValueError(f"side: {side}; ADM was published for {', '.join(map(str, multipliers))} pixels")
    return UNetConfig(
        in_channels=COLOURS,
        out_channels=2 * COLOURS,
        # 512's first level is half as wide as its time is.
        channels={64: 192, 128: 256, 256: 256, 512: 128}[side],
        time_width=256 if side == 512 else None,
        depth=3 if side == 64 else 2,
        multipliers=multipliers[side],
        attention=(side // 32, side // 16, side // 8),
        head_width=64,
        heads=4 if side == 128 else None,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=1,
        canvas=0,
    )


def spec(schedule: Literal["linear", "cosine"]) -> DiffusionSpec:
    """1000 levels, noise predicted, the variance learned."""
    return DiffusionSpec(schedule=schedule, steps=1000, prediction="eps", learned_variance=True)
