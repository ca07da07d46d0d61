"""Sinusoidal embedding of the diffusion time, and the small network that every U-Net puts after it."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

MAX_PERIOD = 10_000.0


def sinusoidal(t: Float[Tensor, "b"], width: int) -> Float[Tensor, "b width"]:
    """Embed times as [cos, sin] with frequencies exp(-ln(10⁴) i / half), the ADM and GLIDE convention.

    DDPM's own code has [sin, cos] and divides by (half - 1); the two are not interchangeable.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=t.device) / half)
    angles = rearrange(t.float(), "b -> b 1") * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """sinusoid → Linear → SiLU → Linear (Dhariwal & Nichol 2021, section 3)."""

    def __init__(self, *, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.net = nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b out"]:
        """Embed times, integers or fractions between them."""
        first = self.net[0]
        assert isinstance(first, nn.Linear)
        # Angles need single precision; what the network makes of them has that of its weights.
        out: Tensor = self.net(sinusoidal(t, self.width).to(first.weight.dtype))
        return out
