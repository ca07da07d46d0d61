"""CLIP's two towers: a vision transformer over patches and a causal transformer over text tokens.

The other picture tower, a residual network, has a file of its own, `resnet.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from limner.clip.resnet import ResNetConfig, ResNetTower
from limner.clip.tower import Features, PictureTower
from limner.layers.transformer import Activation, Transformer

INITIAL_TEMPERATURE = 0.07
MAX_SCALE = 100.0

_LENGTHS = 16


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Sizes of the picture tower that is a transformer; `patch` divides `resolution`, both in pixels.

    `layout`: numbers of each patch that reach the embedding directly, 0 as published. The class token of a
    shallow tower looks at the picture through few heads and so through few patterns; what stands where is
    lost on the way, unless every place has a line of its own.

    `hidden`: width of the blocks' MLPs, None for four times `width` as published by OpenAI.

    `times`: noise levels that the tower reads pictures at, with an embedding for each in the class token's
    place, which is GLIDE's noised CLIP (Nichol et al. 2021, section 2.3); None: clean pictures alone.
    """

    resolution: int
    patch: int
    width: int
    layers: int
    heads: int
    layout: int = 0
    times: int | None = None
    hidden: int | None = None


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of the text tower; `context` tokens at most, `vocabulary` with start and end as its last two."""

    context: int
    vocabulary: int
    width: int
    layers: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Both towers, the width of the shared space, and the activation ("quick_gelu" in published weights).

    The activation is that of transformers; a residual picture tower has ReLU.

    `thumbnail`: side of the small picture that a linear head reads back from the embedding while training;
    None as published. A small CLIP trained by contrast alone tells styles and colours apart and forgets
    layout, and what the embedding forgets a decoder cannot paint.
    """

    vision: VisionConfig | ResNetConfig
    text: TextConfig
    embedding: int
    activation: Activation
    thumbnail: int | None = None


class Pair(NamedTuple):
    """Unit embeddings of pictures and of captions, (B, embedding) each, and the inverse temperature.

    `thumbnails`: (B, 3, side, side) in [-1, 1], what the embeddings recall of their pictures; None without
    the head.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    thumbnails: Tensor | None


def in_chunks(encode: Callable[[Tensor], Tensor], rows: Tensor, chunk: int | None) -> Tensor:
    """Encode rows a chunk at a time, keeping no activations within a chunk."""
    if chunk is None or chunk >= len(rows):
        return encode(rows)
    parts = [checkpoint(encode, part, use_reentrant=False) for part in rows.split(chunk)]
    return torch.cat(parts)


def trimmed(ids: Int[Tensor, "b l"]) -> Int[Tensor, "b l2"]:
    """Without the columns that are padding in every row: most captions are far shorter than the context.

    The length that stays is a multiple of 16, or the whole context: a compiled network is compiled anew for
    each length that it meets.
    """
    longest = int(ids.argmax(dim=1).max()) + 1
    return ids[:, : _LENGTHS * -(-longest // _LENGTHS)]


def spoken(ids: Int[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
    """Where a caption's tokens are its own: up to the end token, which has the largest id."""
    return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(dim=1, keepdim=True)


def unit(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Scale vectors to length one."""
    return F.normalize(x, dim=-1)


class VisionTower(PictureTower):
    """Patches → tokens, a class token before them; the class token after the last block is the picture."""

    def __init__(self, config: VisionConfig, *, embedding: int, activation: Activation) -> None:
        super().__init__(resolution=config.resolution)
        if config.resolution % config.patch:
            raise ValueError(f"patch: {config.patch} does not divide the resolution {config.resolution}")
        self.config = config
        tokens = (config.resolution // config.patch) ** 2 + 1
        std = config.width**-0.5
        self.patches = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        first = std * torch.randn(config.width if config.times is None else (config.times, config.width))
        self.class_token = nn.Parameter(first)
        self.positions = nn.Parameter(std * torch.randn(tokens, config.width))
        self.norm_in = nn.LayerNorm(config.width)
        self.transformer = Transformer(
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            activation=activation,
            hidden=config.hidden,
        )
        self.norm_out = nn.LayerNorm(config.width)
        self.projection = nn.Parameter(std * torch.randn(config.width, embedding))
        self.layout = None
        if config.layout:
            self.layout = nn.Sequential(
                nn.Linear(config.width, config.layout),
                nn.Flatten(),
                nn.Linear((tokens - 1) * config.layout, embedding, bias=False),
            )

    def forward(self, pictures: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"] | None = None) -> Features:
        """Read pictures in [-1, 1], noised to the levels `t` where the tower knows those.

        Tokens come with the class token, or the level's, first.
        """
        x = rearrange(self.patches(self.standardised(pictures)), "b d h w -> b (h w) d")
        x = torch.cat([self._first(t, len(x)).to(x.dtype), x], dim=1)
        x = self.transformer(self.norm_in(x + self.positions))
        pooled = self.norm_out(x[:, 0]) @ self.projection
        if self.layout is not None:
            pooled = pooled + self.layout(x[:, 1:])
        return Features(pooled, x)

    def _first(self, t: Float[Tensor, "b"] | None, rows: int) -> Float[Tensor, "b 1 d"]:
        """The class token, or the level's between two that are whole."""
        times = self.config.times
        if (t is None) != (times is None):
            raise ValueError(
                f"t: this tower reads pictures at {times} noise levels, so say which"
                if t is None
                else "t: this tower reads clean pictures; leave it out"
            )
        if t is None or times is None:
            return repeat(self.class_token, "d -> b 1 d", b=rows)
        below = t.floor().long().clamp(0, times - 1)
        above = (below + 1).clamp(max=times - 1)
        share = rearrange(t - below, "b -> b 1").to(self.class_token.dtype)
        return rearrange(torch.lerp(self.class_token[below], self.class_token[above], share), "b d -> b 1 d")


class TextTower(nn.Module):
    """Tokens → causal transformer; the end-of-text token's row is the caption.

    Padding comes after the end token, so causality hides it and no mask is needed. Pooling looks for the
    largest id, which is the end token's in CLIP's vocabulary and in every cut of it.
    """

    def __init__(self, config: TextConfig, *, embedding: int, activation: Activation) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.transformer = Transformer(
            width=config.width, layers=config.layers, heads=config.heads, activation=activation
        )
        self.norm_out = nn.LayerNorm(config.width)
        self.projection = nn.Parameter(config.width**-0.5 * torch.randn(config.width, embedding))
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "b l"]) -> Features:
        """Read token ids, (B, L ≤ context)."""
        length = ids.shape[1]
        if length > self.config.context:
            raise ValueError(f"ids: {length} tokens, this tower reads at most {self.config.context}")
        x = self.embed(ids) + self.positions[:length]
        x = self.norm_out(self.transformer(x, causal=True))
        end = ids.argmax(dim=-1)
        return Features(x[torch.arange(len(x), device=x.device), end] @ self.projection, x)


@dataclass(frozen=True, kw_only=True)
class TextWithProjectionConfig:
    """A text tower that travels without the picture tower it learned beside; see `ClipConfig`."""

    text: TextConfig
    embedding: int
    activation: Activation


class TextWithProjection(nn.Module):
    """CLIP's text tower alone, as an unCLIP that never looks at pictures comes with it."""

    def __init__(self, config: TextWithProjectionConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextTower(config.text, embedding=config.embedding, activation=config.activation)

    def encode_text(self, ids: Int[Tensor, "b l"]) -> Features:
        """Read token ids from `ClipTokenizer`, (B, L ≤ context); embeddings come un-normalised."""
        features: Features = self.text(ids)
        return features


class Clip(nn.Module):
    """Both towers and the learned temperature of their agreement."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision: VisionTower | ResNetTower
        if isinstance(config.vision, ResNetConfig):
            self.vision = ResNetTower(config.vision, embedding=config.embedding)
        else:
            self.vision = VisionTower(config.vision, embedding=config.embedding, activation=config.activation)
        self.text = TextTower(config.text, embedding=config.embedding, activation=config.activation)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / INITIAL_TEMPERATURE)))
        side = config.thumbnail
        self.recall = None if side is None else nn.Linear(config.embedding, 3 * side**2)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Inverse temperature, kept at or below 100."""
        return self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()

    def encode_image(
        self, pictures: Float[Tensor, "b 3 h w"], t: Float[Tensor, "b"] | None = None
    ) -> Features:
        """Read pictures in [-1, 1] at this model's resolution; embeddings come un-normalised.

        `t`: the noise levels of a noised CLIP's pictures, fractional ones too.
        """
        features: Features = self.vision(pictures, t)
        return features

    def encode_text(self, ids: Int[Tensor, "b l"]) -> Features:
        """Read token ids from `ClipTokenizer`, (B, L ≤ context); embeddings come un-normalised."""
        features: Features = self.text(ids)
        return features

    def forward(
        self,
        pictures: Float[Tensor, "b 3 h w"],
        ids: Int[Tensor, "b2 l"],
        *,
        chunk: int | None = None,
        t: Float[Tensor, "b"] | None = None,
    ) -> Pair:
        """Unit embeddings of pictures (at noise levels `t`) and captions, and the scale of their cosine.

        With `chunk`, each tower reads that many rows at a time and keeps only their embeddings; the inside
        of a chunk is computed anew on the way back. A batch then needs the memory of a chunk, and the
        gradient is exactly that of the whole batch (gradient caching, Gao et al. 2021). A residual picture
        tower normalises by the rows it sees together, so in training it refuses to see a part of them.
        """
        if chunk is not None and self.training and isinstance(self.vision, ResNetTower):
            raise ValueError(
                f"chunk: {chunk}, but a residual picture tower's batch statistics are of the whole batch; "
                "give None"
            )

        def seen(rows: Tensor) -> Tensor:
            return unit(self.encode_image(pictures[rows], None if t is None else t[rows]).pooled)

        images = in_chunks(seen, torch.arange(len(pictures), device=pictures.device), chunk)
        texts = in_chunks(lambda rows: unit(self.encode_text(rows).pooled), ids, chunk)
        return Pair(images, texts, self.scale, None if self.recall is None else self.recalled(images))

    def recalled(self, embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 side side"]:
        """The small pictures that unit embeddings remember; only with a `thumbnail` head."""
        if self.recall is None or self.config.thumbnail is None:
            raise ValueError("thumbnail: this CLIP was trained without a head that recalls pictures")
        flat = self.recall(embeddings * self.config.embedding**0.5)
        return rearrange(flat, "b (c h w) -> b c h w", c=3, h=self.config.thumbnail)


def vit_b_32() -> ClipConfig:
    """ViT-B/32 as published (Radford et al. 2021, table 20): 151,277,313 parameters."""
    return ClipConfig(
        vision=VisionConfig(resolution=224, patch=32, width=768, layers=12, heads=12),
        text=TextConfig(context=77, vocabulary=49_408, width=512, layers=12, heads=8),
        embedding=512,
        activation="quick_gelu",
    )


def vit_b_16() -> ClipConfig:
    """ViT-B/16 as published: 149,620,737 parameters."""
    return ClipConfig(
        vision=VisionConfig(resolution=224, patch=16, width=768, layers=12, heads=12),
        text=TextConfig(context=77, vocabulary=49_408, width=512, layers=12, heads=8),
        embedding=512,
        activation="quick_gelu",
    )


def vit_l_14(resolution: int) -> ClipConfig:
    """ViT-L/14 as published, at 224 (427,616,513 parameters) or 336 pixels (427,944,193)."""
    return ClipConfig(
        vision=VisionConfig(resolution=resolution, patch=14, width=1024, layers=24, heads=16),
        text=TextConfig(context=77, vocabulary=49_408, width=768, layers=12, heads=12),
        embedding=768,
        activation="quick_gelu",
    )


def vit_h_16() -> ClipConfig:
    """The CLIP that DALL-E 2 was trained on (Ramesh et al. 2022, appendix C): 986,339,841 parameters."""
    return ClipConfig(
        vision=VisionConfig(resolution=256, patch=16, width=1280, layers=32, heads=16),
        text=TextConfig(context=77, vocabulary=49_408, width=1024, layers=24, heads=16),
        embedding=1024,
        activation="quick_gelu",
    )


def vit_bigg_14() -> ClipConfig:
    """open_clip's ViT-bigG/14, which Kandinsky 2.2 reads words with: 2,539,567,105 parameters."""
    return ClipConfig(
        vision=VisionConfig(resolution=224, patch=14, width=1664, layers=48, heads=16, hidden=8192),
        text=TextConfig(context=77, vocabulary=49_408, width=1280, layers=32, heads=20),
        embedding=1280,
        activation="gelu",
    )


def rn50() -> ClipConfig:
    """RN50 as published (Radford et al. 2021, table 19): 102,007,137 parameters."""
    return ClipConfig(
        vision=ResNetConfig(resolution=224, width=64, blocks=(3, 4, 6, 3), heads=32),
        text=TextConfig(context=77, vocabulary=49_408, width=512, layers=12, heads=8),
        embedding=1024,
        activation="quick_gelu",
    )


def rn101() -> ClipConfig:
    """RN101 as published: 119,688,033 parameters."""
    return ClipConfig(
        vision=ResNetConfig(resolution=224, width=64, blocks=(3, 4, 23, 3), heads=32),
        text=TextConfig(context=77, vocabulary=49_408, width=512, layers=12, heads=8),
        embedding=512,
        activation="quick_gelu",
    )


def rn50x4() -> ClipConfig:
    """RN50x4 as published, four times the arithmetic of RN50: 178,300,601 parameters."""
    return ClipConfig(
        vision=ResNetConfig(resolution=288, width=80, blocks=(4, 6, 10, 6), heads=40),
        text=TextConfig(context=77, vocabulary=49_408, width=640, layers=12, heads=10),
        embedding=640,
        activation="quick_gelu",
    )


def rn50x16() -> ClipConfig:
    """RN50x16 as published, sixteen times: 290,979,217 parameters."""
    return ClipConfig(
        vision=ResNetConfig(resolution=384, width=96, blocks=(6, 8, 18, 8), heads=48),
        text=TextConfig(context=77, vocabulary=49_408, width=768, layers=12, heads=12),
        embedding=768,
        activation="quick_gelu",
    )


def rn50x64() -> ClipConfig:
    """RN50x64 as published, sixty-four times: 623,258,305 parameters."""
    return ClipConfig(
        vision=ResNetConfig(resolution=448, width=128, blocks=(3, 15, 36, 10), heads=64),
        text=TextConfig(context=77, vocabulary=49_408, width=1024, layers=12, heads=16),
        embedding=1024,
        activation="quick_gelu",
    )
