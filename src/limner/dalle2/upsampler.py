"""unCLIP's upsamplers: convolutions alone, so that they train on crops and run on whole pictures."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.diffusion.spec import DiffusionSpec
from limner.layers.unet import UNet, UNetConfig


@dataclass(frozen=True, kw_only=True)
class UpsamplerConfig:
    """From `low` to `high` pixels a side; the U-Net has no attention and sees six channels."""

    low: int
    high: int
    unet: UNetConfig
    diffusion: DiffusionSpec


class Upsampler(nn.Module):
    """(x_t, t, low-resolution picture) → prediction at high resolution.

    The low-resolution picture is enlarged (bicubic) and concatenated to x_t (Ramesh et al. 2022, section
    2.1, after Saharia et al. 2021). Unconditional otherwise: no text, no CLIP, no guidance.
    """

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        if config.unet.attention:
            raise ValueError(f"unet.attention: {config.unet.attention}, but an upsampler must have none")
        self.config = config
        self.unet = UNet(config.unet)

    def forward(
        self, x: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"], *, low: Float[Tensor, "b 3 h2 w2"]
    ) -> Float[Tensor, "b c h w"]:
        """Predict from the noised high-resolution `x`; `low` may be of any smaller size."""
        out: Tensor = self.unet(torch.cat([x, enlarged(low, x.shape[-2:])], dim=1), t)
        return out


def enlarged(low: Float[Tensor, "b 3 h2 w2"], size: torch.Size) -> Float[Tensor, "b 3 h w"]:
    """Bicubic enlargement to (height, width), kept within [-1, 1]."""
    return F.interpolate(low, size=tuple(size), mode="bicubic").clamp(-1, 1)


def blurred(low: Float[Tensor, "b 3 h w"], sigma: float) -> Float[Tensor, "b 3 h w"]:
    """The paper's corruption of the first upsampler's condition: Gaussian blur, kernel 3 (σ = 0.6 there).

    The decoder's pictures are softer than real ones; an upsampler that only ever saw real ones would take
    their softness for truth.
    """
    offsets = torch.arange(-1, 2, device=low.device, dtype=low.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0)
    weight = torch.outer(kernel, kernel).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(low, (1, 1, 1, 1), mode="replicate"), weight, groups=3)


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


def karlo_256() -> UpsamplerConfig:
    """Karlo's 64 → 256 network, without AdaGN: 691,579,523 parameters."""
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
    return UpsamplerConfig(low=64, high=256, unet=unet, diffusion=spec)
