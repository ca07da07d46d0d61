"""What noise does to data, and how a network's output is read.

x_t = √ᾱ x_0 + √(1−ᾱ) ε. From x_t, any one of ε, x_0 and v = √ᾱ ε − √(1−ᾱ) x_0 gives the others, so a
network may predict whichever it likes; samplers and guidance only ever see x_0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from limner.diffusion.schedule import Schedule

Prediction: TypeAlias = Literal["eps", "x0", "v"]


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """A guess at the clean data, and the raw learned fraction of variance in [−1, 1] if there is one."""

    x0: Float[Tensor, "b *d"]
    variance: Float[Tensor, "b *d"] | None = None


Network: TypeAlias = Callable[[Float[Tensor, "b *d"], Float[Tensor, "b"]], Float[Tensor, "b *o"]]
Denoiser: TypeAlias = Callable[[Float[Tensor, "b *d"], Float[Tensor, "b"]], Denoised]
# (x_t, t) → ∇ ln p(y | x_t), where to go for what is wanted.
Steer: TypeAlias = Callable[[Float[Tensor, "b *d"], Float[Tensor, "b"]], Float[Tensor, "b *d"]]


def per_row(values: Float[Tensor, "b"], like: Float[Tensor, "b *d"]) -> Float[Tensor, "b *ones"]:
    """One number for each row, shaped to multiply `like`, in its type and on its device."""
    return values.to(like.dtype).to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def at(values: Float[Tensor, "steps"], index: Int[Tensor, "b"], like: Float[Tensor, "b *d"]) -> Tensor:
    """A schedule's `values` at each row's level, shaped to multiply `like`."""
    return per_row(values.to(like.dtype).to(like.device)[index.to(like.device)], like)


def q_sample(
    schedule: Schedule, x0: Float[Tensor, "b *d"], index: Int[Tensor, "b"], noise: Float[Tensor, "b *d"]
) -> Float[Tensor, "b *d"]:
    """Noise each row to its level in one go: x_t = √ᾱ x_0 + √(1−ᾱ) ε; DDPM eq. 4."""
    signal = at(schedule.alpha_bar.sqrt(), index, x0)
    return signal * x0 + at((1 - schedule.alpha_bar).sqrt(), index, x0) * noise


def target(
    prediction: Prediction,
    x0: Float[Tensor, "b *d"],
    noise: Float[Tensor, "b *d"],
    alpha_bar: Float[Tensor, "b"],
) -> Float[Tensor, "b *d"]:
    """What a network that predicts `prediction` should say."""
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    if prediction == "v":
        return per_row(alpha_bar.sqrt(), x0) * noise - per_row((1 - alpha_bar).sqrt(), x0) * x0
    raise ValueError(f"prediction is {prediction!r}: choose 'eps', 'x0' or 'v'")


def to_x0(
    prediction: Prediction,
    output: Float[Tensor, "b *d"],
    x_t: Float[Tensor, "b *d"],
    alpha_bar: Float[Tensor, "b"],
) -> Float[Tensor, "b *d"]:
    """Read a network's output as a guess at x_0."""
    signal, noise = per_row(alpha_bar.sqrt(), x_t), per_row((1 - alpha_bar).sqrt(), x_t)
    if prediction == "eps":
        return (x_t - noise * output) / signal
    if prediction == "x0":
        return output
    if prediction == "v":
        return signal * x_t - noise * output
    raise ValueError(f"prediction is {prediction!r}: choose 'eps', 'x0' or 'v'")


def to_eps(
    x_t: Float[Tensor, "b *d"], x0: Float[Tensor, "b *d"], alpha_bar: Float[Tensor, "b"]
) -> Float[Tensor, "b *d"]:
    """The noise that makes x_t out of x_0."""
    return (x_t - per_row(alpha_bar.sqrt(), x_t) * x0) / per_row((1 - alpha_bar).sqrt(), x_t)


def posterior_mean(
    schedule: Schedule, index: Int[Tensor, "b"], x0: Float[Tensor, "b *d"], x_t: Float[Tensor, "b *d"]
) -> Float[Tensor, "b *d"]:
    """The mean of q(x_{t−1} | x_t, x_0); DDPM eq. 7."""
    return at(schedule.posterior_x0, index, x_t) * x0 + at(schedule.posterior_xt, index, x_t) * x_t


def log_variance(
    fraction: Float[Tensor, "b *d"], schedule: Schedule, index: Int[Tensor, "b"]
) -> Float[Tensor, "b *d"]:
    """ln of the learned variance, between ln β̃ (fraction −1) and ln β (fraction 1); iDDPM eq. 15."""
    small = at(schedule.posterior_log_variance, index, fraction)
    large = at(schedule.betas.log(), index, fraction)
    return torch.lerp(small, large, (fraction + 1) / 2)


def denoiser(
    network: Network,
    schedule: Schedule,
    prediction: Prediction,
    *,
    learned_variance: bool = False,
    clip: float | None = None,
) -> Denoiser:
    """A network and how to read it, as one denoiser.

    `schedule` is the one of training: it knows ᾱ at every time, fractional ones too. With
    `learned_variance` the output has twice x_t's channels (dim 1): prediction, then variance fraction.
    `clip` bounds |x_0|; under guidance leave it None and clip the guided denoiser instead.
    """

    def denoise(x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Denoised:
        # Up to the sampler's type at once: dividing by a small √ᾱ in half precision loses the picture.
        output = network(x_t, t).to(x_t.dtype)
        variance = None
        if learned_variance:
            if output.shape[1] != 2 * x_t.shape[1]:
                raise ValueError(
                    f"network gave {output.shape[1]} channels for {x_t.shape[1]}: "
                    "learned variance needs twice as many"
                )
            output, variance = output.chunk(2, dim=1)
        if output.shape != x_t.shape:
            raise ValueError(f"network gave shape {tuple(output.shape)} for x_t of {tuple(x_t.shape)}")
        x0 = to_x0(prediction, output, x_t, schedule.alpha_bar_at(t))
        return Denoised(x0=x0 if clip is None else x0.clamp(-clip, clip), variance=variance)

    return denoise


def simple_loss(output: Float[Tensor, "b *d"], target: Float[Tensor, "b *d"]) -> Float[Tensor, "b"]:
    """Mean squared error of each row, in float32; DDPM eq. 14."""
    return reduce((output.float() - target.float()).square(), "b ... -> b", "mean")


def min_snr(prediction: Prediction, alpha_bar: Float[Tensor, "b"], gamma: float) -> Float[Tensor, "b"]:
    """Weight of `simple_loss` that makes it min(SNR, γ)·‖x_0 − x̂_0‖² whatever is predicted; Min-SNR eq. 7.

    For x_0 prediction: near 1/σ² where noise is small, at most γ.
    """
    snr = alpha_bar / (1 - alpha_bar)
    capped = snr.clamp(max=gamma)
    if prediction == "eps":
        return capped / snr
    if prediction == "x0":
        return capped
    if prediction == "v":
        return capped / (snr + 1)
    raise ValueError(f"prediction is {prediction!r}: choose 'eps', 'x0' or 'v'")


def vlb_term(
    schedule: Schedule,
    index: Int[Tensor, "b"],
    *,
    x0: Float[Tensor, "b *d"],
    x_t: Float[Tensor, "b *d"],
    x0_hat: Float[Tensor, "b *d"],
    fraction: Float[Tensor, "b *d"],
) -> Float[Tensor, "b"]:
    """One term of the variational bound for each row, in bits per dimension; iDDPM eq. 4-7.

    KL(q(x_{t−1} | x_t, x_0) ‖ p) above level 0; at level 0 the log-likelihood of 8-bit values in [−1, 1].
    """
    mean = posterior_mean(schedule, index, x0_hat, x_t)
    log_var = log_variance(fraction.to(x_t.dtype), schedule, index)
    true_mean = posterior_mean(schedule, index, x0, x_t)
    true_log_var = at(schedule.posterior_log_variance, index, x_t)
    distance = (true_mean - mean).square() * torch.exp(-log_var)
    divergence = 0.5 * (log_var - true_log_var - 1 + torch.exp(true_log_var - log_var) + distance)
    likelihood = discretised_log_likelihood(x0, mean, log_var)
    nats = torch.where(per_row(index.float(), x0) == 0, -likelihood, divergence)
    return reduce(nats, "b ... -> b", "mean") / math.log(2)


def variance_loss(
    schedule: Schedule,
    index: Int[Tensor, "b"],
    *,
    x0: Float[Tensor, "b *d"],
    x_t: Float[Tensor, "b *d"],
    x0_hat: Float[Tensor, "b *d"],
    fraction: Float[Tensor, "b *d"],
) -> Float[Tensor, "b"]:
    """What iDDPM adds to `simple_loss` to learn the variance: 0.001·L_vlb, as one sampled term of T.

    The mean is held fixed, so that only the variance learns from it. x̂_0 is to be unclipped.
    """
    term = vlb_term(schedule, index, x0=x0, x_t=x_t, x0_hat=x0_hat.detach(), fraction=fraction)
    return term * (len(schedule) / 1000)


def discretised_log_likelihood(
    x: Float[Tensor, "b *d"], mean: Float[Tensor, "b *d"], log_var: Float[Tensor, "b *d"]
) -> Float[Tensor, "b *d"]:
    """ln of a Gaussian's mass in the bin of x, one of 256 over [−1, 1], in nats; DDPM eq. 13.

    The first and the last bin reach to infinity.
    """
    scale = torch.exp(-0.5 * log_var)
    centred = (x - mean) * scale
    half = scale / 255
    # By erfc on the mirrored side, where a difference of tails keeps its digits even in single precision.
    upper, lower = (centred.abs() - half) / math.sqrt(2), (centred.abs() + half) / math.sqrt(2)
    log_inner = (0.5 * (torch.erfc(upper) - torch.erfc(lower))).clamp(min=1e-12).log()
    floor = math.log(1e-12)
    first = torch.special.log_ndtr(centred + half).clamp(min=floor)
    last = torch.special.log_ndtr(half - centred).clamp(min=floor)
    return torch.where(x < -0.999, first, torch.where(x > 0.999, last, log_inner))
