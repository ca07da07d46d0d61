"""DALL-E 1's tokenizer: a picture as a small grid of words from a learned vocabulary of patches.

Reading order: bottleneck block, encoder, decoder, the dVAE. There is no norm layer anywhere; a small gain on
every residual branch keeps the sum in range instead.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.dvae.likelihood import drawn_in, drawn_out
from limner.quantize import gumbel_softmax


@dataclass(frozen=True, kw_only=True)
class DVaeConfig:
    """Sizes: `widths` are the channels of the groups of `blocks` blocks, each narrowest at the pixels.

    After each of the first `poolings` groups the encoder halves the map; the decoder mirrors it. `stem`:
    kernel of the first convolution. `codebook`: length of the vector that each of the `vocabulary` words
    stands for. `gain`: of the residual branches; 1/n² for n blocks in a row in the paper. `patch`: pixels are
    first folded into channels, patch × patch at a time (1 in the paper). `resolution`: side of the pictures
    trained on; any other that is a multiple of `factor` works too.
    """

    resolution: int
    vocabulary: int
    codebook: int
    widths: tuple[int, ...]
    blocks: int
    poolings: int
    stem: int
    gain: float
    patch: int

    @property
    def factor(self) -> int:
        """Side in pixels of what one token stands for."""
        return self.patch * 2**self.poolings

    @property
    def grid(self) -> int:
        """Side in tokens of a picture of side `resolution`."""
        return self.resolution // self.factor


class Relaxed(NamedTuple):
    """What training compares: the likelihood's parameters (B, 3, H, W) each, and the logits (B, h, w, K).

    `location` and `log_scale` are μ and ln b of the logit-Laplace over `likelihood.drawn_in(pictures)`.
    """

    location: Tensor
    log_scale: Tensor
    logits: Tensor


def convolution(channels: int, out: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size; weights of variance 1/fan-in, so that signals keep theirs."""
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
    nn.init.normal_(conv.weight, std=1 / math.sqrt(channels * kernel**2))
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def in_float32(layer: nn.Module, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """The layers at the tokens speak full precision, whatever the rest does: the paper's section 2.1."""
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = layer(x.float())
        return out


class Bottleneck(nn.Module):
    """skip(x) + gain · (four times ReLU-convolution, a quarter as wide inside)."""

    def __init__(self, channels: int, out: int, *, kernels: tuple[int, ...], gain: float) -> None:
        super().__init__()
        self.gain = gain
        widths = (channels, *[out // 4] * (len(kernels) - 1), out)
        self.skip = nn.Identity() if channels == out else convolution(channels, out, 1)
        self.convs = nn.ModuleList(
            convolution(w, v, kernel) for (w, v), kernel in zip(pairwise(widths), kernels, strict=True)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Refine a feature map."""
        h = x
        for conv in self.convs:
            h = conv(F.relu(h))
        out: Tensor = self.skip(x) + self.gain * h
        return out


def groups(
    channels: int, widths: tuple[int, ...], config: DVaeConfig, kernels: tuple[int, ...]
) -> nn.ModuleList:
    """A group of bottlenecks of each width; the first block of a group changes the width."""
    return nn.ModuleList(
        nn.Sequential(
            *[
                Bottleneck(before if i == 0 else width, width, kernels=kernels, gain=config.gain)
                for i in range(config.blocks)
            ]
        )
        for before, width in pairwise((channels, *widths))
    )


class Encoder(nn.Module):
    """Colour values in (0, 1) → a logit for each word at each place."""

    def __init__(self, config: DVaeConfig) -> None:
        super().__init__()
        self.patch, self.poolings = config.patch, config.poolings
        self.stem = convolution(3 * config.patch**2, config.widths[0], config.stem)
        self.groups = groups(config.widths[0], config.widths, config, kernels=(3, 3, 3, 1))
        self.out = convolution(config.widths[-1], config.vocabulary, 1)

    def forward(self, values: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h2 w2"]:
        """How well each word names each place, unnormalised."""
        return in_float32(self.out, self.features(values))

    def features(self, values: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """What the words are compared with: fold, look, halve, look closer."""
        x = self.stem(F.pixel_unshuffle(values, self.patch))
        for number, group in enumerate(self.groups):
            x = group(x)
            if number < self.poolings:
                x = F.max_pool2d(x, 2)
        return F.relu(x)


class Decoder(nn.Module):
    """Weights on the words at each place → location and log-scale of each colour value.

    The first layer is the codebook: column k of its weight, plus its bias, is the vector of word k.
    """

    def __init__(self, config: DVaeConfig) -> None:
        super().__init__()
        self.patch, self.level = config.patch, len(config.widths) - config.poolings
        widths = tuple(reversed(config.widths))
        self.codebook = convolution(config.vocabulary, config.codebook, 1)
        self.groups = groups(config.codebook, widths, config, kernels=(1, 3, 3, 3))
        self.out = convolution(widths[-1], 6 * config.patch**2, 1)

    def forward(self, words: Float[Tensor, "b h w k"]) -> Float[Tensor, "b 6 h2 w2"]:
        """Six channels: three of μ, then three of ln b. The weights may be soft or one-hot."""
        return self._painted(in_float32(self.codebook, rearrange(words, "b h w k -> b k h w")))

    def of_tokens(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b 6 h2 w2"]:
        """The same for tokens: to look a vector up is to multiply by a one-hot one, and costs nothing."""
        assert self.codebook.bias is not None
        vectors = rearrange(self.codebook.weight, "d k 1 1 -> k d") + self.codebook.bias
        return self._painted(rearrange(F.embedding(tokens, vectors), "b h w d -> b d h w"))

    def _painted(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 6 h2 w2"]:
        for number, group in enumerate(self.groups):
            if number >= self.level:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = group(x)
        return F.pixel_shuffle(self.out(F.relu(x)).float(), self.patch)


class DVae(nn.Module):
    """Picture → logits → soft words → picture in training; picture → tokens → picture in use.

    Ramesh et al. 2021, section 2.1 and appendix A. There is no straight-through and no commitment loss: the
    relaxed words themselves are decoded, and grow hard as the temperature falls.
    """

    def __init__(self, config: DVaeConfig) -> None:
        super().__init__()
        if not 0 <= config.poolings < len(config.widths):
            raise ValueError(
                f"poolings: {config.poolings} with {len(config.widths)} groups (widths); they stand between "
                f"groups, so give 0 to {len(config.widths) - 1}"
            )
        if narrow := [width for width in config.widths if width % 4]:
            raise ValueError(
                f"widths: {narrow[0]} is no multiple of 4, and blocks are a quarter as wide inside"
            )
        if config.stem % 2 == 0:
            raise ValueError(f"stem: a kernel of {config.stem} has no middle; give an odd number")
        if config.resolution % config.factor:
            raise ValueError(
                f"resolution: {config.resolution} is no multiple of {config.factor} "
                f"(patch {config.patch}, {config.poolings} poolings)"
            )
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(
        self, pictures: Float[Tensor, "b 3 h w"], noise: Float[Tensor, "b h2 w2 k"], temperature: float
    ) -> Relaxed:
        """Encode, draw soft words with this Gumbel `noise`, decode."""
        logits = self.logits(pictures)
        words = gumbel_softmax(logits, noise, temperature=temperature, hard=False)
        location, log_scale = self.decoder(words).chunk(2, dim=1)
        return Relaxed(location, log_scale, logits)

    def logits(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h2 w2 k"]:
        """How well each word names each place, unnormalised. Raises ValueError for sizes that do not fit."""
        height, width = pictures.shape[-2:]
        if height % self.config.factor or width % self.config.factor:
            raise ValueError(
                f"pictures: {width}×{height} pixels, but a token stands for {self.config.factor}×"
                f"{self.config.factor}; give sides that are multiples of {self.config.factor}"
            )
        return rearrange(self.encoder(drawn_in(pictures)), "b k h w -> b h w k")

    @torch.no_grad()
    def tokens(self, pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b h2 w2"]:
        """The likeliest word at each place, without noise."""
        return self.logits(pictures).argmax(dim=-1)

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Pictures in [-1, 1]: φ⁻¹(sigmoid(μ)); ln b is for training alone.

        Raises ValueError for numbers that name no word.
        """
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.config.vocabulary:
            raise ValueError(
                f"tokens: {int(tokens.min())} to {int(tokens.max())}, this model's words are 0 to "
                f"{self.config.vocabulary - 1}"
            )
        location = self.decoder.of_tokens(tokens)[:, :3]
        return drawn_out(torch.sigmoid(location))

    @torch.no_grad()
    def reconstruct(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The pictures as their tokens remember them."""
        return self.decode(self.tokens(pictures))


def paper() -> DVaeConfig:
    """DALL-E 1's: 256×256 pixels → 32×32 tokens of 8192; 53,786,240 + 43,829,766 parameters."""
    return DVaeConfig(
        resolution=256,
        vocabulary=8192,
        codebook=128,
        widths=(256, 512, 1024, 2048),
        blocks=2,
        poolings=3,
        stem=7,
        gain=1 / 64,
        patch=1,
    )
