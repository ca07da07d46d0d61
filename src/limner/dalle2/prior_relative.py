"""The diffusion prior as DALLE2-pytorch builds it and LAION trained it: another transformer, the same task.

Attention compares directions, not lengths: softmax of 16 cos(q, k) plus a bias for how far apart two
positions are (Raffel et al. 2020, T5). All heads share one key and one value (Shazeer 2019), the first
dimensions are rotated by their position (Su et al. 2021), every query may look at a learned nothing, and what
leaves an attention is normed. No layer has a bias. P. Wang, `dalle2-pytorch` 1.15; before 1.4.3 it is the
softmax of q·k/√d plus 128 times that bias, and before 1.9 nothing stands for a caption that is not told.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.diffusion.spec import DiffusionSpec

SHARPNESS, RELAXED = 16.0, 128.0
BUCKETS, FARTHEST = 32, 128
ROTATED = 32


@dataclass(frozen=True, kw_only=True)
class RelativePriorConfig:
    """`embedding`: of CLIP, and width of everything; `context`: CLIP's text tokens; `scale`: `PriorConfig`'s.

    `text_rows`, `time_rows`, `picture_rows`: how many rows of the sequence each of the three becomes.
    `times`: how many have an embedding of their own, or None where they are sinusoids. `self_conditioning`:
    whether the last guess is a row as well. `cosine`: how attention compares; `guided`: whether there is
    something that stands for a caption that is not told. The others: what the transformer has besides.
    """

    embedding: int
    context: int
    layers: int
    heads: int
    head_width: int
    hidden: int
    text_rows: int
    time_rows: int
    picture_rows: int
    times: int | None
    self_conditioning: bool
    cosine: bool
    guided: bool
    norm_in: bool
    norm_out: bool
    norm_hidden: bool
    project: bool
    rotary: bool
    scale: float
    diffusion: DiffusionSpec

    @property
    def rows(self) -> int:
        """Of the whole sequence."""
        fixed = self.text_rows + self.time_rows + self.picture_rows
        return self.context + fixed + int(self.self_conditioning) + 1


class Norm(nn.LayerNorm):
    """A layer norm without a bias; one that is `divided` divides by the largest component first."""

    def __init__(self, width: int, *, divided: bool = False) -> None:
        super().__init__(width, bias=False)
        self.divided = divided

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Over the last dimension."""
        return super().forward(x / x.amax(dim=-1, keepdim=True) if self.divided else x)


def buckets(queries: int, keys: int) -> Int[Tensor, "q k"]:
    """How far key j lies before query i, i - j, in one of 32 buckets: 0 to 15 each alone, then by logarithm.

    The nothing that comes first among the keys is counted, so a position is as near as the one before it.
    """
    back = (torch.arange(queries)[:, None] - torch.arange(keys)[None, :]).clamp(min=0)
    alone = BUCKETS // 2
    growth = torch.log(back.clamp(min=1) / alone) / math.log(FARTHEST / alone)
    far = (alone + (growth * (BUCKETS - alone)).long()).clamp(max=BUCKETS - 1)
    return torch.where(back < alone, back, far)


def rotated(x: Float[Tensor, "*b n d"], frequencies: Float[Tensor, "f"]) -> Float[Tensor, "*b n d"]:
    """Turn the first 2F dimensions, in pairs of neighbours, by position times frequency."""
    turned = 2 * len(frequencies)
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * frequencies
    even, odd = rearrange(x[..., :turned], "... (f two) -> two ... f", two=2)
    pairs = [even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin()]
    return torch.cat([rearrange(pairs, "two ... f -> ... (f two)"), x[..., turned:]], dim=-1)


class RelativeAttention(nn.Module):
    """Causal, of many queries to one key and one value, and to the nothing before them."""

    def __init__(self, config: RelativePriorConfig) -> None:
        super().__init__()
        inside = config.heads * config.head_width
        self.heads = config.heads
        self.cosine = config.cosine
        self.norm = Norm(config.embedding)
        self.nothing = nn.Parameter(torch.randn(2, config.head_width))
        self.query = nn.Linear(config.embedding, inside, bias=False)
        self.key_value = nn.Linear(config.embedding, 2 * config.head_width, bias=False)
        self.out = nn.Linear(inside, config.embedding, bias=False)
        self.norm_out = Norm(config.embedding)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        *,
        bias: Float[Tensor, "h n n1"],
        frequencies: Float[Tensor, "f"] | None,
    ) -> Float[Tensor, "b n w"]:
        """`bias`: what is added to every pair's score, -inf where it is later."""
        x = self.norm(x)
        q = rearrange(self.query(x), "b n (h d) -> b h n d", h=self.heads)
        k, v = self.key_value(x).chunk(2, dim=-1)
        if frequencies is not None:
            q, k = rotated(q, frequencies), rotated(k, frequencies)
        none_k, none_v = repeat(self.nothing, "two d -> two b 1 d", b=len(x))
        k, v = torch.cat([none_k, k], dim=1), torch.cat([none_v, v], dim=1)
        k, v = (repeat(one, "b n d -> b h n d", h=self.heads) for one in (k, v))
        if self.cosine:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        scale = SHARPNESS if self.cosine else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        return self.norm_out(self.out(rearrange(y, "b h n d -> b n (h d)")))


class RelativeBlock(nn.Module):
    """x += norm(attention(norm(x))); x += narrow(a · silu(b)), a and b from the same norm of x."""

    def __init__(self, config: RelativePriorConfig) -> None:
        super().__init__()
        self.attention = RelativeAttention(config)
        self.norm = Norm(config.embedding)
        self.widen = nn.Linear(config.embedding, 2 * config.hidden, bias=False)
        self.norm_hidden = Norm(config.hidden) if config.norm_hidden else nn.Identity()
        self.narrow = nn.Linear(config.hidden, config.embedding, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        *,
        bias: Float[Tensor, "h n n1"],
        frequencies: Float[Tensor, "f"] | None,
    ) -> Float[Tensor, "b n w"]:
        """Refine rows."""
        x = x + self.attention(x, bias=bias, frequencies=frequencies)
        value, gate = self.widen(self.norm(x)).chunk(2, dim=-1)
        return x + self.narrow(self.norm_hidden(value * F.silu(gate)))


class Sinusoids(nn.Module):
    """Any time to rows: [sin, cos] with frequencies 10⁻⁴ˡ, l from 0 to 1, then two SiLU layers and a last."""

    def __init__(self, *, width: int, rows: int) -> None:
        super().__init__()
        self.width = width
        inside = 2 * width * rows
        self.net = nn.Sequential(
            *(nn.Linear(width, inside), nn.SiLU()),
            *(nn.Linear(inside, inside), nn.SiLU()),
            nn.Linear(inside, width * rows),
        )

    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b w"]:
        """Rows side by side."""
        half = self.width // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / (half - 1))
        angles = t[:, None] * frequencies
        return self.net(torch.cat([angles.sin(), angles.cos()], dim=-1))


class RelativePrior(nn.Module):
    """[caption tokens, z_t, time, noised z_i, (last guess,) learned query] → causal transformer → z_i.

    Padding of the caption is learned, one row for each position, and so is what stands for an unknown caption
    and an unknown picture. Nothing is hidden from anybody but what comes later.
    """

    def __init__(self, config: RelativePriorConfig) -> None:
        super().__init__()
        self.config = config
        width, rows = config.embedding, config.text_rows
        self.query = nn.Parameter(torch.randn(width))
        self.no_tokens = nn.Parameter(torch.randn(config.context, width))
        self.no_caption = nn.Parameter(torch.randn(rows, width)) if config.guided else None
        self.no_picture = nn.Parameter(torch.randn(width)) if config.guided else None
        self.from_caption = nn.Linear(width, width * rows) if rows > 1 else nn.Identity()
        picture = config.picture_rows
        self.from_picture = nn.Linear(width, width * picture) if picture > 1 else nn.Identity()
        self.time: nn.Module = (
            Sinusoids(width=width, rows=config.time_rows)
            if config.times is None
            else nn.Embedding(config.times, width * config.time_rows)
        )
        self.norm_in = Norm(width) if config.norm_in else nn.Identity()
        self.distances = nn.Embedding(BUCKETS, config.heads)
        turned = min(ROTATED, config.head_width)
        self.frequencies = (
            nn.Parameter(10_000 ** (-torch.arange(0, turned, 2) / turned), requires_grad=False)
            if config.rotary
            else None
        )
        self.blocks = nn.ModuleList(RelativeBlock(config) for _ in range(config.layers))
        self.norm_out = Norm(width, divided=True) if config.norm_out else nn.Identity()
        self.to_picture = nn.Linear(width, width, bias=False) if config.project else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "b d"],
        t: Float[Tensor, "b"],
        *,
        tokens: Float[Tensor, "b l d"],
        caption: Float[Tensor, "b d"],
        mask: Bool[Tensor, "b l"],
        known: Bool[Tensor, "b"] | None = None,
        guess: Float[Tensor, "b d"] | None = None,
    ) -> Float[Tensor, "b d"]:
        """What `config.diffusion` says it predicts, from the noised, scaled picture embedding `x`.

        `tokens`, `caption` and `mask` are those of `Prior`. `known` is False where the caption is not told,
        for guidance: then the noised embedding is not told either, which is how it was trained. `guess`: what
        came of the step before, where it conditions itself on that; zero by default.
        """
        b, length = mask.shape
        context = self.config.context
        if length > context:
            raise ValueError(f"tokens: {length} positions, but this prior has {context}")
        real = rearrange(F.pad(mask, (0, context - length)), "b l -> b l 1")
        captions = rearrange(self.from_caption(caption), "b (n d) -> b n d", n=self.config.text_rows)
        pictures = rearrange(self.from_picture(x), "b (n d) -> b n d", n=self.config.picture_rows)
        if known is not None:
            if self.no_caption is None or self.no_picture is None:
                raise ValueError("known: this prior has nothing that stands for a caption that is not told")
            told = rearrange(known, "b -> b 1 1")
            real = real & told
            captions = torch.where(told, captions, self.no_caption)
            pictures = torch.where(told, pictures, self.no_picture)
        times = self.time(t if self.config.times is None else t.long())
        sequence = [
            torch.where(real, F.pad(tokens, (0, 0, 0, context - length)), self.no_tokens),
            captions,
            rearrange(times, "b (n d) -> b n d", n=self.config.time_rows),
            pictures,
            repeat(self.query, "d -> b 1 d", b=b),
        ]
        if self.config.self_conditioning:
            sequence.insert(4, rearrange(torch.zeros_like(x) if guess is None else guess, "b d -> b 1 d"))
        h = self.norm_in(torch.cat(sequence, dim=1))
        bias = self.bias()
        for block in self.blocks:
            h = block(h, bias=bias, frequencies=self.frequencies)
        return self.to_picture(self.norm_out(h))[:, -1]

    def bias(self) -> Float[Tensor, "h n n1"]:
        """What distances add to scores, -inf where a key is later; the first key is nothing."""
        n = self.config.rows
        device = self.distances.weight.device
        later = torch.ones(n, n + 1, dtype=torch.bool, device=device).triu(2)
        found = rearrange(self.distances(buckets(n, n + 1).to(device)), "n m h -> h n m")
        found = found if self.config.cosine else RELAXED * found
        return found.masked_fill(later, -torch.inf)
