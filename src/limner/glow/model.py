"""Glow: levels of flow steps, each of which tells half of what it made apart as noise."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from limner.draws import Draws
from limner.glow.steps import Coupled, FlowStep, Gaussian, log_normal

COLOURS = 3


# A thousand times what the data-dependent first scales make of anything that a picture gives.
FAR = 1e4


@dataclass(frozen=True, kw_only=True)
class GlowConfig:
    """Sizes: `levels` (L) of `steps` (K) each, whose networks are `width` channels wide.

    `bits`: of each colour value, 8 or fewer. `lu`: how channels are mixed (`steps.Mix`). `condition`: numbers
    of a vector that the top prior hears of, such as a CLIP embedding; None: none. `floor`: the least that an
    affine coupling scales by, 0 as published (`steps.Coupling`).
    """

    resolution: int
    levels: int
    steps: int
    width: int
    coupling: Coupled
    bits: int
    lu: bool
    condition: int | None
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that do not halve."""
        if self.resolution % 2**self.levels:
            raise ValueError(
                f"resolution: {self.resolution} cannot be halved {self.levels} times; give a multiple of "
                f"{2**self.levels}"
            )
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor: {self.floor}; give a share from 0, as published, to below 1")
        for name in ("levels", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}; give at least 1")
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits: {self.bits}; a colour value has 1 to 8")


class Encoded(NamedTuple):
    """The noise of each level, fine ones first, each (B, C, H, W); ln p of the dequantised pictures, (B,)."""

    noise: tuple[Tensor, ...]
    log_density: Tensor


class Glow(nn.Module):
    """Pictures (B, 3, H, W) to noise and back; `initialise` it with a batch before it is trained.

    All of it computes in the precision of its weights, whatever autocast says: in half precision a step is
    not undone by its inverse.
    """

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.config = config
        levels, priors = [], []
        channels = COLOURS
        for level in range(config.levels):
            channels *= 4
            steps = [
                FlowStep(channels, config.width, kind=config.coupling, floor=config.floor, lu=config.lu)
                for _ in range(config.steps)
            ]
            levels.append(nn.ModuleList(steps))
            if level < config.levels - 1:
                priors.append(Gaussian(channels // 2, channels // 2))
                channels //= 2
        self.levels = nn.ModuleList(levels)
        self.priors = nn.ModuleList(priors)
        # It sees nothing but where the picture ends, and what the condition adds.
        self.top = Gaussian(2 * channels, channels)
        self.hear = None if config.condition is None else nn.Linear(config.condition, 2 * channels)
        if self.hear is not None:
            nn.init.zeros_(self.hear.weight)
            nn.init.zeros_(self.hear.bias)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Of the noise of each level, (C, H, W)."""
        side, channels, found = self.config.resolution, COLOURS, []
        for level in range(self.config.levels):
            side, channels = side // 2, channels * 4
            if level < self.config.levels - 1:
                channels //= 2
            found.append((channels, side, side))
        return found

    def forward(self, x: Float[Tensor, "b 3 h w"], condition: Float[Tensor, "b k"] | None = None) -> Encoded:
        """Dequantised pictures, as `dequantised` makes them, to noise: figure 2b of the paper."""
        with torch.autocast(x.device.type, enabled=False):
            side = self.config.resolution
            if x.shape[1:] != (COLOURS, side, side):
                raise ValueError(f"x: shape {tuple(x.shape)}; this model takes (pictures, 3, {side}, {side})")
            noise, density, z = [], x.new_zeros(len(x)), x
            for level, steps in enumerate(self.levels):
                z = squeezed(z)
                assert isinstance(steps, nn.ModuleList)
                for step in steps:
                    z, moved = step(z)
                    density = density + moved
                if level < len(self.priors):
                    z, second = z.chunk(2, dim=1)
                    mean, logs = self._prior(level).expected(z)
                else:
                    second = z
                    mean, logs = self._expected_top(len(x), condition)
                e = (second - mean) * (-logs).exp()
                noise.append(e)
                density = density + log_normal(e, logs)
            return Encoded(tuple(noise), density)

    def inverse(
        self, noise: tuple[Float[Tensor, "b _c _h _w"], ...], condition: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Noise, as `forward` tells it, to dequantised pictures.

        Values are held to ±`FAR`, where none is that a picture gave: one place of a drawn noise that no
        picture gave may grow with every step, and would leave others with what is no number.
        """
        with torch.autocast(noise[0].device.type, enabled=False):
            mean, logs = self._expected_top(len(noise[-1]), condition)
            z = mean + logs.exp() * noise[-1]
            for level in reversed(range(self.config.levels)):
                if level < len(self.priors):
                    mean, logs = self._prior(level).expected(z)
                    z = torch.cat([z, held(mean + logs.exp() * noise[level])], dim=1)
                steps = self.levels[level]
                assert isinstance(steps, nn.ModuleList)
                for step in reversed(steps):
                    assert isinstance(step, FlowStep)
                    z = held(step.inverse(z))
                z = unsqueezed(z)
            return z

    @torch.no_grad()
    def initialise(self, pictures: Float[Tensor, "b 3 h w"], draws: Draws) -> None:
        """Set every scale so that this batch, dequantised, has mean 0 and variance 1 behind each ActNorm."""
        z = self.dequantised(pictures, draws)
        for level, steps in enumerate(self.levels):
            z = squeezed(z)
            assert isinstance(steps, nn.ModuleList)
            for step in steps:
                assert isinstance(step, FlowStep)
                z = step.initialise(z)
            if level < len(self.priors):
                z = z.chunk(2, dim=1)[0]

    def dequantised(self, pictures: Float[Tensor, "b 3 h w"], draws: Draws) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1] as values of so many bits in [-1/2, 1/2), each spread over its bin."""
        return self._binned(pictures, draws.uniform(*pictures.shape[1:]).to(pictures))

    def quantised(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Dequantised values as pictures in [-1, 1], the bins evenly from end to end; the rest is clipped."""
        bins = 2**self.config.bits
        level = ((x + 0.5) * bins).floor().clamp(0, bins - 1)
        return level / (bins - 1) * 2 - 1

    @torch.no_grad()
    def encode(
        self, pictures: Float[Tensor, "b 3 h w"], condition: Float[Tensor, "b k"] | None = None
    ) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """The noise of pictures in [-1, 1], each value in the middle of its bin."""
        found: Encoded = self(self._binned(pictures, torch.full_like(pictures, 0.5)), condition)
        return found.noise

    @torch.no_grad()
    def decode(
        self, noise: tuple[Float[Tensor, "b _c _h _w"], ...], condition: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Noise to pictures in [-1, 1]."""
        return self.quantised(self.inverse(noise, condition))

    @torch.no_grad()
    def sample(
        self,
        draws: Draws,
        *,
        temperature: float,
        condition: Float[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """New pictures, one for each stream of `draws`; all noise, at all levels, times `temperature`.

        0.7 in the paper: the middle of the distribution, less varied and cleaner. Raises ValueError for a
        temperature that is negative or not finite.
        """
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature: {temperature}; give a finite number, 0 or above")
        place = next(self.parameters())
        return self.decode(
            tuple(temperature * draws.normal(*shape).to(place) for shape in self.shapes), condition
        )

    @torch.no_grad()
    def interpolate(
        self, a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"], steps: int
    ) -> Float[Tensor, "steps 3 h w"]:
        """A strip of pictures from `a` to `b`: the straight line between their noises, ends included.

        Raises ValueError for fewer than two steps.
        """
        if steps < 2:
            raise ValueError(f"steps: {steps}; a strip has two ends, so give 2 or more")
        share = torch.linspace(0, 1, steps, device=a.device).reshape(-1, 1, 1, 1)
        both = self.encode(torch.stack([a, b]))
        return self.decode(tuple(torch.lerp(e[:1], e[1:], share.to(e)) for e in both))

    def _binned(
        self, pictures: Float[Tensor, "b 3 h w"], place: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Each value at a `place` in [0, 1) of its bin."""
        levels = ((pictures + 1) * 127.5).round().clamp(0, 255)
        bin_ = (levels / 2 ** (8 - self.config.bits)).floor()
        return (bin_ + place) / 2**self.config.bits - 0.5

    def _prior(self, level: int) -> Gaussian:
        prior = self.priors[level]
        assert isinstance(prior, Gaussian)
        return prior

    def _expected_top(
        self, rows: int, condition: Float[Tensor, "b k"] | None
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        if condition is not None and self.hear is None:
            raise ValueError("condition: this model was made without one; leave it out")
        channels, height, width = self.shapes[-1]
        nothing = next(self.parameters()).new_zeros(rows, 2 * channels, height, width)
        beside = None if self.hear is None or condition is None else self.hear(condition)
        return self.top.expected(nothing, beside)


def held(z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Values within ±`FAR`."""
    return z.clamp(-FAR, FAR)


def squeezed(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c4 h2 w2"]:
    """2×2 places become four times the channels; section 3.6 (the squeeze of RealNVP)."""
    return rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=2, q=2)


def unsqueezed(z: Float[Tensor, "b c4 h2 w2"]) -> Float[Tensor, "b c h w"]:
    """The reverse of `squeezed`."""
    return rearrange(z, "b (c p q) h w -> b c (h p) (w q)", p=2, q=2)


def paper() -> GlowConfig:
    """CIFAR-10's of the published code: 44,603,604 parameters, 3.35 bits per dimension."""
    return GlowConfig(
        resolution=32, levels=3, steps=32, width=512, coupling="affine", bits=8, lu=False, condition=None
    )
