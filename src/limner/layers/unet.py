"""The ADM U-Net (Dhariwal & Nichol 2021) with GLIDE's text attention (Nichol et al. 2021).

Reading order: residual block, attention block, the level they form, the U-Net. A level is `depth`
residual blocks, each followed by attention at the chosen resolutions, then a residual block that halves
the picture; the way up mirrors it with one residual block more a level, since every feature map of the
way down is concatenated once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limner.layers.embeddings import TimeEmbedding

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net.

    `patch`: pixels are first folded into channels, patch × patch at a time (1 in the papers; 4 makes a 64²
    picture a 16² map, which is what a CPU can train). `attention`: the downsampling factors, counted after
    folding, at which residual blocks are followed by attention, as they then are in the middle too; () leaves
    attention out altogether, as unCLIP's upsamplers do. `context_width`: width of the text tokens that
    attention reads, None without. `scale_shift`: whether the time embedding scales and shifts (AdaGN) or is
    only added.

    `canvas`: channels of a map beside the folded picture at the input, 0 without (as in the papers).
    A shallow network that starts from pure noise cannot turn one global vector into a layout by itself; on a
    canvas whoever makes the vector may lay it out first.

    `norm`: "group" as in the papers, over all of a picture; "pixel", over the channels of each place alone,
    so that without attention a network does to a part of a picture what it does to the whole.

    `heads`: as many heads in every attention block, in place of heads of one width; `time_width`: of the
    sinusoids of the time where they are not as many as `channels`. Some of ADM's networks have them.
    """

    in_channels: int
    out_channels: int
    channels: int
    depth: int
    multipliers: tuple[int, ...]
    attention: tuple[int, ...]
    head_width: int
    context_width: int | None
    scale_shift: bool
    dropout: float
    patch: int
    canvas: int
    norm: Literal["group", "pixel"] = "group"
    heads: int | None = None
    time_width: int | None = None

    @property
    def sinusoids(self) -> int:
        """Width of the time before it is embedded."""
        return self.channels if self.time_width is None else self.time_width

    @property
    def embedding_width(self) -> int:
        """Width of the time embedding, and of whatever is added to it."""
        return 4 * self.sinusoids

    def heads_of(self, channels: int) -> int:
        """How many heads attention over so many channels has; ValueError where they do not divide."""
        if self.heads is None and channels % self.head_width:
            raise ValueError(f"head_width: {self.head_width} does not divide {channels} channels")
        if self.heads is not None and channels % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {channels} channels")
        return channels // self.head_width if self.heads is None else self.heads


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with the 32 groups of every ADM-style network."""
    if channels % 32:
        raise ValueError(f"channels: {channels} is not a multiple of GroupNorm's 32 groups")
    return nn.GroupNorm(32, channels)


class PixelNorm(nn.LayerNorm):
    """Mean 0 and variance 1 over the channels of each place, then a learned scale and shift."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalize every place of a feature map."""
        return rearrange(super().forward(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")


def normalized(channels: int, config: UNetConfig) -> nn.Module:
    """The normalization that a network is made with."""
    return group_norm(channels) if config.norm == "group" else PixelNorm(channels)


def zeroed(module: M) -> M:
    """Zero the parameters, so that a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResidualBlock(nn.Module):
    """GN-SiLU-(resample)-conv → AdaGN(embedding) → SiLU-dropout-zero conv, plus the (resampled) input."""

    def __init__(self, *, channels: int, out: int, config: UNetConfig, resample: float = 1.0) -> None:
        super().__init__()
        self.resample = resample
        self.scale_shift = config.scale_shift
        self.norm_in = normalized(channels, config)
        self.conv_in = nn.Conv2d(channels, out, 3, padding=1)
        self.embed = nn.Linear(config.embedding_width, 2 * out if config.scale_shift else out)
        self.norm_out = normalized(out, config)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def _resampled(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        if self.resample == 2.0:
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.avg_pool2d(x, 2) if self.resample == 0.5 else x

    def forward(
        self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b c2 h2 w2"]:
        """Refine a feature map, twice or half the size where this block resamples."""
        h = self.conv_in(self._resampled(F.silu(self.norm_in(x))))
        shift = rearrange(self.embed(F.silu(embedding)), "b c -> b c 1 1")
        if self.scale_shift:
            scale, shift = shift.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm_out(h), 1 + scale)
        else:
            h = self.norm_out(h + shift)
        h = self.conv_out(self.dropout(F.silu(h)))
        out: Tensor = self.skip(self._resampled(x)) + h
        return out


class AttentionBlock(nn.Module):
    """Self-attention over pixels, with text tokens as further keys and values.

    The text rows get this block's own projection, are not group-normed, stand before the pixels on the key
    axis and ask no queries (GLIDE, section 2; its released code).
    """

    def __init__(self, *, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = config.heads_of(channels)
        self.norm = normalized(channels, config)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.context_kv = (
            None if config.context_width is None else nn.Linear(config.context_width, 2 * channels)
        )
        self.out = zeroed(nn.Linear(channels, channels))

    def read(self, context: Float[Tensor, "b l w"]) -> Float[Tensor, "two b g l d"]:
        """Keys and values of the text rows, which do not change from step to step."""
        assert self.context_kv is not None
        return rearrange(self.context_kv(context), "b l (two g d) -> two b g l d", two=2, g=self.heads)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        context: Float[Tensor, "two b g l d"] | None,
        context_mask: Bool[Tensor, "b l"] | None,
    ) -> Float[Tensor, "b c h w"]:
        """Let every pixel look at every other and at what was `read` where `context_mask` shows it."""
        height = x.shape[2]
        tokens = rearrange(self.norm(x), "b c h w -> b (h w) c")
        q, k, v = rearrange(self.qkv(tokens), "b n (three g d) -> three b g n d", three=3, g=self.heads)
        mask = None
        if context is not None:
            k_text, v_text = context.to(k.dtype)
            k, v = torch.cat([k_text, k], dim=2), torch.cat([v_text, v], dim=2)
            if context_mask is not None:
                pixels = context_mask.new_ones(x.shape[0], q.shape[2])
                mask = rearrange(torch.cat([context_mask, pixels], dim=1), "b n -> b 1 1 n")
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = self.out(rearrange(y, "b g n d -> b n (g d)"))
        return x + rearrange(y, "b (h w) c -> b c h w", h=height)


class Level(nn.Module):
    """One residual block, perhaps attention, perhaps a change of resolution: a step of the U."""

    def __init__(
        self, block: ResidualBlock, attention: AttentionBlock | None, resample: ResidualBlock | None
    ) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.resample = resample

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        embedding: Float[Tensor, "b e"],
        context: Float[Tensor, "two b g l d"] | None,
        context_mask: Bool[Tensor, "b l"] | None,
    ) -> Float[Tensor, "b c2 h2 w2"]:
        """Pass a feature map through this step; `context` is what its attention has read, if it has any."""
        x = self.block(x, embedding)
        if self.attention is not None:
            x = self.attention(x, context, context_mask)
        if self.resample is not None:
            x = self.resample(x, embedding)
        return x


def descent(config: UNetConfig) -> tuple[list[Level | ResidualBlock], list[int]]:
    """The way down, and the channels of each feature map that it passes, the stem's first."""
    down: list[Level | ResidualBlock] = []
    widths = [config.channels * config.multipliers[0]]
    for level, multiplier in enumerate(config.multipliers):
        out = config.channels * multiplier
        for _ in range(config.depth):
            block = ResidualBlock(channels=widths[-1], out=out, config=config)
            attends = 2**level in config.attention
            attention = AttentionBlock(channels=out, config=config) if attends else None
            down.append(Level(block, attention, None))
            widths.append(out)
        if level < len(config.multipliers) - 1:
            down.append(ResidualBlock(channels=out, out=out, config=config, resample=0.5))
            widths.append(out)
    return down, widths


class UNet(nn.Module):
    """(x_t, t, condition) → prediction at the resolution of x_t."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        patch_area = config.patch**2
        self.time = TimeEmbedding(width=config.sinusoids, out=config.embedding_width)
        first = config.channels * config.multipliers[0]
        self.stem = nn.Conv2d(config.in_channels * patch_area + config.canvas, first, 3, padding=1)
        down, skips = descent(config)
        self.down = nn.ModuleList(down)
        channels = skips[-1]

        self.middle_in = ResidualBlock(channels=channels, out=channels, config=config)
        self.middle_attention = AttentionBlock(channels=channels, config=config) if config.attention else None
        self.middle_out = ResidualBlock(channels=channels, out=channels, config=config)

        up: list[Level] = []
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            out = config.channels * multiplier
            for i in range(config.depth + 1):
                block = ResidualBlock(channels=channels + skips.pop(), out=out, config=config)
                grow = level > 0 and i == config.depth
                resample = ResidualBlock(channels=out, out=out, config=config, resample=2.0) if grow else None
                attends = 2**level in config.attention
                attention = AttentionBlock(channels=out, config=config) if attends else None
                up.append(Level(block, attention, resample))
                channels = out
        self.up = nn.ModuleList(up)

        self.norm = normalized(channels, config)
        self.head = zeroed(nn.Conv2d(channels, config.out_channels * patch_area, 3, padding=1))

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of: the pixels of a place at the last level."""
        return int(self.config.patch * 2 ** (len(self.config.multipliers) - 1))

    @property
    def reach(self) -> int:
        """How many pixels away, at most, an output looks: half of the receptive field, without attention.

        Each 3×3 convolution looks one place further, and a place at level l is patch · 2^l pixels.
        """
        depth, last = self.config.depth, len(self.config.multipliers) - 1
        convolutions = [2 * depth + 2 * (depth + 1) for _ in self.config.multipliers]
        convolutions[0] += 2  # stem and head
        convolutions[last] += 4  # the middle
        for level in range(last):
            convolutions[level] += 2  # the block that doubles works at the level it doubles to,
            convolutions[level + 1] += 2  # and the one that halves at the level it halves to.
        return self.multiple + sum(self.config.patch * 2**level * n for level, n in enumerate(convolutions))

    @property
    def attentions(self) -> list[AttentionBlock]:
        """The attention blocks, from the way down over the middle to the way up."""
        found = [step.attention for step in self.down if isinstance(step, Level)]
        found += [self.middle_attention, *(step.attention for step in self.up if isinstance(step, Level))]
        return [one for one in found if one is not None]

    def read(self, context: Float[Tensor, "b l d"]) -> tuple[Tensor, ...]:
        """Text rows as each attention block's keys and values, (2, B, heads, L, width).

        A picture takes many steps and its caption stays, so a sampler reads it once and gives `forward` this.
        """
        return tuple(block.read(context) for block in self.attentions)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, "b"],
        *,
        condition: Float[Tensor, "b e"] | None = None,
        context: Float[Tensor, "b l d"] | tuple[Tensor, ...] | None = None,
        context_mask: Bool[Tensor, "b l"] | None = None,
        canvas: Float[Tensor, "b k h2 w2"] | None = None,
    ) -> Float[Tensor, "b c_out h w"]:
        """Predict from the noised picture `x` at times `t`.

        `condition` is added to the time embedding; `context` are text rows for attention, or what `read` made
        of them, of which `context_mask` False are hidden; `canvas` lies beside x after folding, patch times
        smaller. Height and width must be multiples of patch · 2^(levels-1).
        """
        patch = self.config.patch
        if x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(
                f"x: {x.shape[2]}×{x.shape[3]} pixels, but both must be multiples of {self.multiple}"
            )
        embedding = self.time(t)
        if condition is not None:
            embedding = embedding + condition
        folded = rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=patch, q=patch)
        if (0 if canvas is None else canvas.shape[1]) != self.config.canvas:
            given = "none" if canvas is None else f"{canvas.shape[1]} channels"
            raise ValueError(
                f"canvas: this network reads {self.config.canvas} channels and was given {given}"
            )
        texts = self._texts(context)

        def text(attention: AttentionBlock | None) -> Tensor | None:
            return None if attention is None else next(texts)

        h = self.stem(folded if canvas is None else torch.cat([folded, canvas.to(folded.dtype)], dim=1))
        skips = [h]
        for step in self.down:
            if isinstance(step, Level):
                h = step(h, embedding, text(step.attention), context_mask)
            else:
                h = step(h, embedding)
            skips.append(h)
        h = self.middle_in(h, embedding)
        if self.middle_attention is not None:
            h = self.middle_attention(h, text(self.middle_attention), context_mask)
        h = self.middle_out(h, embedding)
        for step in self.up:
            assert isinstance(step, Level)
            h = step(torch.cat([h, skips.pop()], dim=1), embedding, text(step.attention), context_mask)
        h = self.head(F.silu(self.norm(h)))
        return rearrange(h, "b (c p q) h w -> b c (h p) (w q)", p=patch, q=patch)

    def _texts(self, context: Float[Tensor, "b l d"] | tuple[Tensor, ...] | None) -> Iterator[Tensor | None]:
        """What each attention block has read, in the order of `attentions`; None where it reads nothing."""
        if self.config.context_width is None:
            return repeat(None)
        if context is None:
            raise ValueError("context: this network reads text tokens and was given none")
        return iter(self.read(context) if isinstance(context, Tensor) else context)
