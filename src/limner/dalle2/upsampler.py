"""unCLIP's upsamplers: convolutions alone, so that they train on crops and run on whole pictures."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.diffusion.spec import DiffusionSpec
from limner.layers.unet import UNet, UNetConfig

Enlarging: TypeAlias = Literal["clamped", "antialiased"]


@dataclass(frozen=True, kw_only=True)
class UpsamplerConfig:
    """From `low` to `high` pixels a side; the U-Net has no attention and sees six channels.

    `enlarging`: how the low-resolution picture is brought to size; "clamped": bicubic, cut off at [-1, 1];
    "antialiased": bicubic as Pillow has it, and not cut off, as Karlo does. `rounded`: whether it comes in
    the 256 values that a file can hold. `finisher`: whether the last step, at time 0, is another network's.
    """

    low: int
    high: int
    unet: UNetConfig
    diffusion: DiffusionSpec
    enlarging: Enlarging = "clamped"
    rounded: bool = True
    finisher: bool = False


class Upsampler(nn.Module):
    """(x_t, t, low-resolution picture) → prediction at high resolution.

    The low-resolution picture is enlarged (bicubic) and concatenated to x_t (Ramesh et al. 2022, section
    2.1, after Saharia et al. 2021). Unconditional otherwise: no text, no CLIP, no guidance. Karlo has a
    second network of the same sizes for the last step, made sharp by adversarial and perceptual losses.
    """

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        if config.unet.attention:
            raise ValueError(f"unet.attention: {config.unet.attention}, but an upsampler must have none")
        self.config = config
        self.unet = UNet(config.unet)
        self.finisher = UNet(config.unet) if config.finisher else None

    @property
    def unets(self) -> tuple[UNet, ...]:
        """Its networks, one or two."""
        return (self.unet,) if self.finisher is None else (self.unet, self.finisher)

    def forward(
        self,
        x: Float[Tensor, "b 3 h w"],
        t: Float[Tensor, "b"],
        *,
        low: Float[Tensor, "b 3 h2 w2"],
        tile: int | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict from the noised high-resolution `x`; `low` may be of any smaller size.

        With `tile`, piece after piece of so many pixels a side, each with as much around it as the network
        can see: the same prediction in less memory. Raises ValueError where it sees the whole picture.
        """
        pair = torch.cat([x, enlarged(low, x.shape[-2:], self.config.enlarging)], dim=1)
        unet = self.unet if self.finisher is None or bool((t > 0).all()) else self.finisher
        if tile is None:
            out: Tensor = unet(pair, t)
            return out
        return self._in_tiles(unet, pair, t, tile)

    def check_tile(self, tile: int) -> None:
        """Raise ValueError unless tiles of so many pixels would fit together."""
        step = self.unet.multiple
        if self.config.unet.norm != "pixel":
            raise ValueError(
                f"tile is {tile}, but this network normalizes over whole pictures, so its tiles would not "
                "fit together: leave it out"
            )
        if tile < step or tile % step:
            raise ValueError(f"tile is {tile}: give a multiple of {step} pixels")

    def _in_tiles(
        self, unet: UNet, pair: Float[Tensor, "b 6 h w"], t: Float[Tensor, "b"], tile: int
    ) -> Float[Tensor, "b c h w"]:
        self.check_tile(tile)
        step = unet.multiple
        around = -(-unet.reach // step) * step
        height, width = pair.shape[-2:]
        rows = []
        for top in range(0, height, tile):
            row = []
            for left in range(0, width, tile):
                y, x = max(0, top - around), max(0, left - around)
                seen = pair[..., y : top + tile + around, x : left + tile + around]
                row.append(unet(seen, t)[..., top - y : top - y + tile, left - x : left - x + tile])
            rows.append(torch.cat(row, dim=3))
        return torch.cat(rows, dim=2)


def enlarged(
    low: Float[Tensor, "b 3 h2 w2"], size: torch.Size, enlarging: Enlarging = "clamped"
) -> Float[Tensor, "b 3 h w"]:
    """Bicubic enlargement to (height, width); see `UpsamplerConfig`."""
    if enlarging == "antialiased":
        return F.interpolate(low, size=tuple(size), mode="bicubic", antialias=True)
    return F.interpolate(low, size=tuple(size), mode="bicubic").clamp(-1, 1)


def paper_256() -> UpsamplerConfig:
    """64 → 256 as in the paper's table 3 (320 channels, depth 3): 729,702,083 parameters."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=320,
        depth=3,
        multipliers=(1, 2, 3, 4),
        attention=(),
        head_width=64,
        context_width=None,
        scale_shift=True,
        dropout=0.1,
        patch=1,
        canvas=0,
    )
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=False)
    return UpsamplerConfig(low=64, high=256, unet=unet, diffusion=spec)


def paper_1024() -> UpsamplerConfig:
    """256 → 1024 as in the paper's table 3 (192 channels, linear schedule): 282,059,139 parameters."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=192,
        depth=2,
        multipliers=(1, 1, 2, 2, 4, 4),
        attention=(),
        head_width=64,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    spec = DiffusionSpec(schedule="linear", steps=1000, prediction="eps", learned_variance=False)
    return UpsamplerConfig(low=256, high=1024, unet=unet, diffusion=spec)


def karlo_256() -> UpsamplerConfig:
    """Karlo's 64 → 256, without AdaGN: two networks of 691,579,523 parameters each."""
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=320,
        depth=3,
        multipliers=(1, 2, 3, 4),
        attention=(),
        head_width=64,
        context_width=None,
        scale_shift=False,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=False)
    return UpsamplerConfig(
        low=64,
        high=256,
        unet=unet,
        diffusion=spec,
        enlarging="antialiased",
        rounded=False,
        finisher=True,
    )
