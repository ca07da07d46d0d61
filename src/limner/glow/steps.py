"""The steps of the flow. Each maps x to z and back, and says ln |det dz/dx| of each row."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

Coupled: TypeAlias = Literal["affine", "additive"]
# What a logarithm is multiplied by, so that it learns as fast as the other numbers.
LOG_FACTOR = 3.0


class ActNorm(nn.Module):
    """z = (x + b) exp(3 s), one b and s a channel: mean 0 and variance 1 on the first batch; section 3.1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "b c h w"]) -> None:
        """Take b and s from a batch."""
        mean: Tensor = reduce(x, "b c h w -> c 1 1", "mean")
        variance = reduce((x - mean).square(), "b c h w -> c 1 1", "mean")
        self.bias.copy_(-mean)
        self.log_scale.copy_(-(variance.sqrt() + 1e-6).log() / LOG_FACTOR)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """z, and ln |det| of any row: H W Σ 3 s."""
        logs = LOG_FACTOR * self.log_scale
        return (x + self.bias) * logs.exp(), x.shape[2] * x.shape[3] * logs.sum()

    def inverse(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x again."""
        return z * (-LOG_FACTOR * self.log_scale).exp() - self.bias


class Mix(nn.Module):
    """The invertible 1×1 convolution z = W x, begun as a random rotation; section 3.2.

    `lu`: W = P L (U + diag(s)) with P fixed (equation 10), whose determinant is a sum over s. L, U and ln |s|
    lie in one matrix, below, above and on its diagonal.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int, *, lu: bool) -> None:
        super().__init__()
        self.lu = lu
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
        if not lu:
            self.weight = nn.Parameter(rotation.float())
            return
        order, lower, upper = torch.linalg.lu(rotation)
        scale = upper.diagonal()
        packed = lower.tril(-1) + upper.triu(1) + scale.abs().log().diag()
        self.weight = nn.Parameter(packed.float())
        self.register_buffer("order", order.float())
        self.register_buffer("sign", scale.sign().float())

    def matrix(self) -> Float[Tensor, "c c"]:
        """W."""
        if not self.lu:
            return self.weight
        lower = self.weight.tril(-1) + torch.eye(len(self.weight)).to(self.weight)
        upper = self.weight.triu(1) + (self.sign * self.weight.diagonal().exp()).diag()
        return self.order @ lower @ upper

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """z, and ln |det| of any row: H W ln |det W|."""
        log_det = self.weight.diagonal().sum() if self.lu else torch.linalg.slogdet(_exact(self.weight))[1]
        return _mixed(x, self.matrix()), x.shape[2] * x.shape[3] * log_det.to(x.dtype).to(x.device)

    def inverse(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x again, by W⁻¹."""
        return _mixed(z, torch.linalg.inv(_exact(self.matrix())).to(z.dtype).to(z.device))


def _exact(matrix: Float[Tensor, "c c"]) -> Float[Tensor, "c c"]:
    """In float64, on the CPU where the device has none: determinants and inverses are long products."""
    return matrix.to("cpu", torch.float64) if matrix.device.type == "mps" else matrix.double()


def _mixed(x: Float[Tensor, "b c h w"], matrix: Float[Tensor, "c c"]) -> Float[Tensor, "b c h w"]:
    return F.conv2d(x, rearrange(matrix, "o i -> o i 1 1"))


class EdgedConv(nn.Module):
    """A convolution that sees where the picture ends: a further channel is 1 in the padding and 0 inside."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool) -> None:
        super().__init__()
        self.around = kernel // 2
        self.conv = nn.Conv2d(inputs + (kernel > 1), outputs, kernel, bias=bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """The same height and width."""
        if self.around:
            inside = x.new_zeros(1, 1, *x.shape[2:])
            edge = F.pad(inside, [self.around] * 4, value=1.0)
            padded = F.pad(x, [self.around] * 4)
            x = torch.cat([padded, edge.expand(len(x), -1, -1, -1)], dim=1)
        y: Tensor = self.conv(x)
        return y


class ZeroConv(nn.Module):
    """A 3×3 convolution that begins at zero, its output times exp(3 s), so that a step begins as nothing."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = EdgedConv(inputs, outputs, 3, bias=True)
        self.log_scale = nn.Parameter(torch.zeros(outputs, 1, 1))
        nn.init.zeros_(self.conv.conv.weight)
        assert self.conv.conv.bias is not None
        nn.init.zeros_(self.conv.conv.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """The same height and width."""
        y: Tensor = self.conv(x)
        return y * (LOG_FACTOR * self.log_scale).exp()


class Coupling(nn.Module):
    """The second half of the channels, moved as the first half says; section 3.3.

    z₂ = (x₂ + shift) · scale with scale = σ(s + 2), or z₂ = x₂ + shift; z₁ = x₁. With a `floor` the scale is
    floor + (1 − floor) σ(s + 2): the way back divides by it, and a shallow network that meets noise which no
    picture gave may say a scale near zero, after which nothing is a number any more.
    """

    def __init__(self, channels: int, width: int, *, kind: Coupled, floor: float) -> None:
        super().__init__()
        self.kind = kind
        self.floor = floor
        half = channels // 2
        self.read = EdgedConv(half, width, 3, bias=False)
        self.norm_read = ActNorm(width)
        self.think = EdgedConv(width, width, 1, bias=False)
        self.norm_think = ActNorm(width)
        self.say = ZeroConv(width, channels if kind == "affine" else half)
        for convolution in (self.read.conv, self.think.conv):
            nn.init.normal_(convolution.weight, std=0.05)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "b c h w"]) -> None:
        """Normalise what the network makes of a batch."""
        h = self.read(x.chunk(2, dim=1)[0])
        self.norm_read.initialise(h)
        h = self.think(self.norm_read(h)[0].relu())
        self.norm_think.initialise(h)

    def told(self, half: Float[Tensor, "b h2 h w"]) -> tuple[Tensor, Tensor | None]:
        """Shift and ln scale for the other half."""
        h = self.norm_read(self.read(half))[0].relu()
        h = self.norm_think(self.think(h))[0].relu()
        y: Tensor = self.say(h)
        if self.kind == "additive":
            return y, None
        shift, scale = rearrange(y, "b (c two) h w -> two b c h w", two=2)
        if self.floor == 0:
            return shift, F.logsigmoid(scale + 2)
        return shift, (self.floor + (1 - self.floor) * torch.sigmoid(scale + 2)).log()

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """z, and ln |det| of each row: the sum of ln scale."""
        first, second = x.chunk(2, dim=1)
        shift, log_scale = self.told(first)
        if log_scale is None:
            return torch.cat([first, second + shift], dim=1), x.new_zeros(len(x))
        z = (second + shift) * log_scale.exp()
        return torch.cat([first, z], dim=1), reduce(log_scale, "b c h w -> b", "sum")

    def inverse(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x again: the first half is as it was, so it says the same."""
        first, second = z.chunk(2, dim=1)
        shift, log_scale = self.told(first)
        if log_scale is not None:
            second = second * (-log_scale).exp()
        return torch.cat([first, second - shift], dim=1)


class FlowStep(nn.Module):
    """ActNorm, Mix, Coupling: figure 2a of the paper."""

    def __init__(self, channels: int, width: int, *, kind: Coupled, floor: float, lu: bool) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = Mix(channels, lu=lu)
        self.coupling = Coupling(channels, width, kind=kind, floor=floor)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Set all scales by a batch, and pass it on as the step then makes it."""
        self.norm.initialise(x)
        mixed = self.mix(self.norm(x)[0])[0]
        self.coupling.initialise(mixed)
        z: Tensor = self.coupling(mixed)[0]
        return z

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """z, and ln |det| of each row."""
        z, normed = self.norm(x)
        z, mixed = self.mix(z)
        z, moved = self.coupling(z)
        return z, normed + mixed + moved

    def inverse(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x again."""
        return self.norm.inverse(self.mix.inverse(self.coupling.inverse(z)))


class Gaussian(nn.Module):
    """What half of the channels is expected to be, seen from the other half; equation 3 of the paper's code.

    Noise e and numbers z are z = mean + exp(s) e.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ZeroConv(inputs, 2 * outputs)

    def expected(
        self, seen: Float[Tensor, "b i h w"], beside: Float[Tensor, "b o2"] | None = None
    ) -> tuple[Float[Tensor, "b o h w"], Float[Tensor, "b o h w"]]:
        """Mean and ln standard deviation; `beside`: what a condition adds to both, at every place."""
        y = self.conv(seen)
        if beside is not None:
            y = y + rearrange(beside, "b c -> b c 1 1")
        mean, logs = rearrange(y, "b (c two) h w -> two b c h w", two=2)
        return mean, logs


def log_normal(e: Float[Tensor, "b c h w"], logs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """ln N(z; mean, exp(s)²) of each row, by its noise e."""
    density = -0.5 * (e.square() + math.log(2 * math.pi)) - logs
    total: Tensor = reduce(density, "b c h w -> b", "sum")
    return total
