"""How much of a picture comes back, and at what price: PSNR, SSIM, bits, and the words in use.

PSNR and SSIM are of single pictures, so that means and their intervals can be taken over concepts. Pictures
are (B, 3, H, W) in [-1, 1], and compared as they are seen, in [0, 1]: SSIM asks how bright a place is, from
black as 0.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

# Wang et al. 2004, section III-C: an 11×11 Gaussian window, σ = 1.5, K₁ = 0.01, K₂ = 0.03.
WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def psnr(
    originals: Float[Tensor, "b 3 h w"], reconstructions: Float[Tensor, "b2 3 h2 w2"]
) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio, −10 log₁₀ of the mean squared error, in dB; ∞ where nothing differs."""
    x, y = _seen(originals, reconstructions)
    return -10 * torch.log10(reduce((x - y).square(), "b c h w -> b", "mean"))


def ssim(
    originals: Float[Tensor, "b 3 h w"], reconstructions: Float[Tensor, "b2 3 h2 w2"]
) -> Float[Tensor, "b"]:
    """Structural similarity: 1 for the same picture, less for a flatter, noisier, shifted or recoloured one.

    Wang et al. 2004, eq. 13, averaged over every place where the whole window fits and over the colours.
    Pictures smaller than the window have no such place: ValueError.
    """
    x, y = _seen(originals, reconstructions)
    if min(originals.shape[-2:]) < WINDOW:
        raise ValueError(
            f"originals: {originals.shape[-1]}×{originals.shape[-2]} pixels, but SSIM looks through a window "
            f"of {WINDOW}×{WINDOW}"
        )
    mean_x, mean_y = smoothed(x), smoothed(y)
    variance_x = smoothed(x.square()) - mean_x.square()
    variance_y = smoothed(y.square()) - mean_y.square()
    covariance = smoothed(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return reduce(luminance * structure, "b c h w -> b", "mean")


def smoothed(pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Gaussian-weighted local means, where the whole window fits."""
    offsets = torch.arange(WINDOW, dtype=pictures.dtype, device=pictures.device) - WINDOW // 2
    weights = torch.softmax(-offsets.square() / (2 * SIGMA**2), dim=0)
    planes = rearrange(pictures, "b c h w -> (b c) 1 h w")
    across = F.conv2d(planes, rearrange(weights, "k -> 1 1 1 k"))
    whole = F.conv2d(across, rearrange(weights, "k -> 1 1 k 1"))
    return rearrange(whole, "(b c) 1 h w -> b c h w", b=len(pictures))


def bits_per_picture(tokens: int, vocabulary: int) -> float:
    """Bits that store this many tokens of a vocabulary, each by its plain number: tokens · log₂ K.

    For several grids, as VQ-VAE-2's, add theirs. A VAE's picture takes KL / ln 2 bits instead: what sending a
    draw from q(z|x) costs somebody who knows the prior (Hinton & van Camp 1993).
    """
    if tokens < 0 or vocabulary < 1:
        raise ValueError(f"tokens, vocabulary: {tokens} of {vocabulary}; give counts")
    return tokens * math.log2(vocabulary)


@dataclass(frozen=True, kw_only=True)
class WordUse:
    """How a set of pictures uses a vocabulary of `vocabulary` words: `used` of them at least once.

    `perplexity`: exp of the entropy of their frequencies, as if that many words were used alike.
    """

    vocabulary: int
    used: int
    perplexity: float

    @property
    def share(self) -> float:
        """The part of the vocabulary that is in use, of 1."""
        return self.used / self.vocabulary


def word_use(ids: Int[Tensor, "*n"], vocabulary: int) -> WordUse:
    """Count the words of a set of tokens of any shape. Raises ValueError for no token, or one of no word."""
    flat = ids.reshape(-1)
    if not len(flat) or not 0 <= int(flat.min()) <= int(flat.max()) < vocabulary:
        found = f"{int(flat.min())} to {int(flat.max())}" if len(flat) else "none"
        raise ValueError(f"ids: {found}; give at least one, between 0 and {vocabulary - 1}")
    counts = torch.bincount(flat, minlength=vocabulary).double()
    entropy = torch.special.entr(counts / counts.sum()).sum()
    return WordUse(
        vocabulary=vocabulary, used=int(counts.count_nonzero()), perplexity=math.exp(float(entropy))
    )


def _seen(originals: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
    """Both in [0, 1] and float64."""
    if originals.shape != reconstructions.shape:
        raise ValueError(
            f"reconstructions: {tuple(reconstructions.shape)}, originals: {tuple(originals.shape)}; "
            "give as many, of one size"
        )
    return (originals.double() + 1) / 2, (reconstructions.double() + 1) / 2
