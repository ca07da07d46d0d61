"""The Gaussian VAE: convolutions down to one vector, and back up. Read downwards to `Vae.forward`."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from limner.draws import Draws

# Outside, exp() of it is 0 or ∞ for all that float32 can say; a wild first step must not end the run.
LOG_VARIANCE = (-30.0, 20.0)


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Sizes: `widths` are the channels after each halving of a picture of side `resolution`.

    `blocks`: residual blocks at each of these sizes, 0 as published. `hidden`: width of the layer between the
    last map and the `latent` numbers. `sigma`: standard deviation of p(x|z), for pictures in [-1, 1].
    """

    resolution: int
    widths: tuple[int, ...]
    blocks: int
    hidden: int
    latent: int
    sigma: float

    @property
    def corner(self) -> int:
        """Side of the smallest feature map."""
        return self.resolution // 2 ** len(self.widths)


class Posterior(NamedTuple):
    """q(z|x): `mean` and `log_variance` of each latent number, (B, latent) each."""

    mean: Tensor
    log_variance: Tensor


class Reconstruction(NamedTuple):
    """`pictures`: the mean of p(x|z) (B, 3, H, W), not clamped; `posterior`: where z was drawn from."""

    pictures: Tensor
    posterior: Posterior


class Traversals(NamedTuple):
    """What single latent numbers do: row i of `pictures` (d, steps, 3, H, W) moves number `numbers[i]`.

    `kl`: mean KL of these numbers in nats, most first: how much of the picture each of them carries.
    """

    numbers: Tensor
    kl: Tensor
    pictures: Tensor


def kl_to_normal(posterior: Posterior) -> Float[Tensor, "b d"]:
    """KL(N(μ, σ²) ‖ N(0, 1)) of each latent number, in nats: Kingma & Welling, appendix B."""
    mean, log_variance = posterior.mean.float(), posterior.log_variance.float()
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance)


class ResidualBlock(nn.Module):
    """x + conv 1×1 (ReLU (conv 3×3 (ReLU x))), half as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.out = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine a feature map."""
        out: Tensor = x + self.out(F.relu(self.conv(F.relu(x))))
        return out


class Encoder(nn.Module):
    """Pictures → q(z|x)."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, out in pairwise((3, *config.widths)):
            layers += [nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.ReLU()]
            layers += [ResidualBlock(out) for _ in range(config.blocks)]
        self.convs = nn.Sequential(*layers)
        self.hidden = nn.Linear(config.widths[-1] * config.corner**2, config.hidden)
        self.out = nn.Linear(config.hidden, 2 * config.latent)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Posterior:
        """Mean and log-variance."""
        flat = rearrange(self.convs(pictures), "b c h w -> b (c h w)")
        mean, log_variance = self.out(F.relu(self.hidden(flat))).float().chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE))


class Decoder(nn.Module):
    """Latent numbers → the mean of p(x|z); the encoder read backwards."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.corner = config.corner
        self.hidden = nn.Linear(config.latent, config.hidden)
        self.spread = nn.Linear(config.hidden, config.widths[-1] * config.corner**2)
        layers: list[nn.Module] = []
        for channels, out in pairwise((*reversed(config.widths), 3)):
            layers += [ResidualBlock(channels) for _ in range(config.blocks)]
            layers += [nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1), nn.ReLU()]
        self.convs = nn.Sequential(*layers[:-1])

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures, near [-1, 1]."""
        flat = F.relu(self.spread(F.relu(self.hidden(z))))
        return self.convs(rearrange(flat, "b (c h w) -> b c h w", h=self.corner, w=self.corner)).float()


class Vae(nn.Module):
    """Picture → q(z|x) → z → picture: Kingma & Welling 2014, figure 1 and section 2.4."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        if config.resolution % 2 ** len(config.widths):
            raise ValueError(
                f"resolution: {config.resolution} cannot be halved {len(config.widths)} times, once for each "
                f"of widths; give a multiple of {2 ** len(config.widths)}"
            )
        if config.sigma <= 0:
            raise ValueError(f"sigma: {config.sigma} is no standard deviation; give a positive number")
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, pictures: Float[Tensor, "b 3 h w"], noise: Float[Tensor, "b d"]) -> Reconstruction:
        """Encode, draw z = μ + σε with this `noise`, decode."""
        posterior = self.encode(pictures)
        z = posterior.mean + (0.5 * posterior.log_variance).exp() * noise
        return Reconstruction(self.decoder(z), posterior)

    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Posterior:
        """q(z|x). Raises ValueError for pictures of another size."""
        if pictures.shape[-2:] != (self.config.resolution, self.config.resolution):
            height, width = pictures.shape[-2:]
            raise ValueError(
                f"pictures: {width}×{height} pixels, this model takes "
                f"{self.config.resolution}×{self.config.resolution}"
            )
        posterior: Posterior = self.encoder(pictures)
        return posterior

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """Latent numbers → pictures within [-1, 1]."""
        pictures: Tensor = self.decoder(z)
        return pictures.clamp(-1, 1)

    @torch.no_grad()
    def sample(self, draws: Draws) -> Float[Tensor, "b 3 h w"]:
        """New pictures: z from the standard normal, one for each stream of `draws`."""
        return self.decode(draws.normal(self.config.latent))

    @torch.no_grad()
    def reconstruct(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The pictures through the mean of their posterior, without noise."""
        return self.decode(self.encode(pictures).mean)

    @torch.no_grad()
    def interpolate(
        self, a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"], steps: int
    ) -> Float[Tensor, "steps 3 h w"]:
        """A strip of `steps` pictures from `a` to `b`: the straight line between their posterior means.

        The ends are the reconstructions of `a` and `b`. Raises ValueError for fewer than two steps.
        """
        checked_steps(steps)
        if a.shape != b.shape:
            raise ValueError(f"b: shape {tuple(b.shape)}, and a has {tuple(a.shape)}; give two of one size")
        start, end = self.encode(torch.stack([a, b])).mean
        share = torch.linspace(0, 1, steps, device=start.device)
        return self.decode(torch.lerp(start, end, rearrange(share, "s -> s 1")))

    @torch.no_grad()
    def traversals(
        self, pictures: Float[Tensor, "b 3 h w"], dims: int, *, steps: int = 7, span: float = 2.0
    ) -> Traversals:
        """Move each of the `dims` most telling latent numbers of the first picture from -span to span.

        Most telling: of the largest mean KL over `pictures`; a number that the model does not use has KL 0.
        Raises ValueError for more numbers than there are, fewer than two steps, or no picture.
        """
        latent = self.config.latent
        checked_steps(steps)
        if len(pictures) == 0:
            raise ValueError("pictures: none; the first is the one that is moved, so give at least one")
        if not 1 <= dims <= latent:
            raise ValueError(f"dims: {dims}; this model has {latent} latent numbers, give 1 to {latent}")
        posterior = self.encode(pictures)
        kl, numbers = kl_to_normal(posterior).mean(dim=0).topk(dims)
        values = torch.linspace(-span, span, steps, device=kl.device)
        z = posterior.mean[0].repeat(dims, steps, 1)
        z[torch.arange(dims, device=kl.device), :, numbers] = values
        moved = self.decode(rearrange(z, "d s n -> (d s) n"))
        return Traversals(numbers, kl, rearrange(moved, "(d s) c h w -> d s c h w", d=dims))


def checked_steps(steps: int) -> None:
    """Raise ValueError for fewer steps than a strip has ends."""
    if steps < 2:
        raise ValueError(f"steps: {steps}; a strip has two ends, so give 2 or more")


def paper() -> VaeConfig:
    """The CelebA network of Higgins et al. 2017 (appendix, table of architectures): 783,235 parameters.

    The published VAE for 64×64 colour pictures nearest to Kingma & Welling's own, whose networks are two
    dense layers for 28×28 digits and 28×20 faces. σ = 2 on [-1, 1] is unit variance on [0, 1].
    """
    return VaeConfig(resolution=64, widths=(32, 32, 64, 64), blocks=0, hidden=256, latent=32, sigma=2.0)
