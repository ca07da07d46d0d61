"""What a picture and its caption are together, three ways, by what a frozen CLIP makes of both.

The sum of the two embeddings, compared with the words for each class; both embeddings into a shallow network;
and both rows of tokens into a small transformer, which alone sees which word is about which place.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.clip.model import ClipConfig, VisionConfig, spoken, unit
from limner.clip.tower import Features
from limner.layers.transformer import Transformer


class Pooled(NamedTuple):
    """Unit embeddings of pictures and of captions, (B, embedding) each."""

    pictures: Tensor
    captions: Tensor


class Tokens(NamedTuple):
    """Tokens of pictures (B, P, width) and captions (B, L, width); `spoken` (B, L) is False at padding."""

    pictures: Tensor
    captions: Tensor
    spoken: Tensor


def pooled(seen: Features, read: Features) -> Pooled:
    """What the embeddings of both towers say."""
    return Pooled(unit(seen.pooled), unit(read.pooled))


def tokens(seen: Features, read: Features, ids: Int[Tensor, "b l"]) -> Tokens:
    """What the tokens of both towers say, of captions up to the end token, the largest of `ids`."""
    return Tokens(seen.tokens, read.tokens, spoken(ids))


def zero_shot_of_pairs(pair: Pooled, classes: Float[Tensor, "n d"]) -> Float[Tensor, "b n"]:
    """Cosines of picture plus caption with the unit embeddings of the words for each class; no training."""
    return unit(pair.pictures + pair.captions) @ classes.T


@dataclass(frozen=True, kw_only=True)
class MlpConfig:
    """A network of one hidden layer over both embeddings, some of whose numbers are dropped in training."""

    embedding: int
    hidden: int
    dropout: float


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    """A transformer over both rows of tokens.

    `picture_tokens` of `picture_width` and at most `context` of `text_width` are what CLIP's towers give.
    """

    picture_tokens: int
    picture_width: int
    context: int
    text_width: int
    width: int
    layers: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The labels, in the order of the answers, and the head that decides; its kind says which."""

    labels: tuple[str, ...]
    head: MlpConfig | TokenConfig


class MlpClassifier(nn.Module):
    """[picture | caption] → hidden → logits; the last layer begins at zero, where all answers are alike."""

    def __init__(self, config: MlpConfig, *, classes: int) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(2 * config.embedding, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden, classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pair: Pooled) -> Float[Tensor, "b n"]:
        """Logits of the classes."""
        x = torch.cat([pair.pictures, pair.captions], dim=1)
        # Unit vectors of many dimensions have small numbers; a linear layer is begun for numbers around one.
        x = nn.functional.gelu(self.hidden(x * self.config.embedding**0.5))
        logits: Tensor = self.out(self.dropout(x))
        return logits


class TokenClassifier(nn.Module):
    """[class | picture's tokens | caption's tokens] → transformer → the class token's row → logits.

    Every token is normalised and brought to one width, then told which of the two it is of, and where in it
    it stands. The last layer begins at zero.
    """

    def __init__(self, config: TokenConfig, *, classes: int) -> None:
        super().__init__()
        self.config = config
        std = config.width**-0.5
        self.class_token = nn.Parameter(std * torch.randn(config.width))
        self.see = nn.Sequential(
            nn.LayerNorm(config.picture_width), nn.Linear(config.picture_width, config.width)
        )
        self.read = nn.Sequential(nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.width))
        self.kinds = nn.Parameter(std * torch.randn(2, config.width))
        self.places = nn.Parameter(std * torch.randn(config.picture_tokens, config.width))
        self.positions = nn.Parameter(std * torch.randn(config.context, config.width))
        self.transformer = Transformer(
            width=config.width, layers=config.layers, heads=config.heads, activation="gelu"
        )
        self.norm_out = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pair: Tokens) -> Float[Tensor, "b n"]:
        """Logits of the classes; padding is seen by nobody."""
        rows, length = pair.spoken.shape
        if length > self.config.context:
            raise ValueError(
                f"captions: {length} tokens, this classifier reads at most {self.config.context}"
            )
        first = repeat(self.class_token, "d -> b 1 d", b=rows)
        seen = self.see(pair.pictures) + self.kinds[0] + self.places
        read = self.read(pair.captions) + self.kinds[1] + self.positions[:length]
        x = torch.cat([first, seen, read], dim=1)
        known = pair.spoken.new_ones(rows, 1 + seen.shape[1])
        x = self.transformer(x, key_mask=torch.cat([known, pair.spoken], dim=1))
        logits: Tensor = self.out(self.norm_out(x[:, 0]))
        return logits


def classifier(config: ClassifierConfig) -> MlpClassifier | TokenClassifier:
    """The network that a config describes. Raises ValueError for fewer than two labels."""
    if len(config.labels) < 2:
        raise ValueError(f"labels: {config.labels}; there is nothing to tell apart, so give at least two")
    if isinstance(config.head, MlpConfig):
        return MlpClassifier(config.head, classes=len(config.labels))
    return TokenClassifier(config.head, classes=len(config.labels))


def token_config(clip: ClipConfig, *, width: int, layers: int, heads: int) -> TokenConfig:
    """A transformer for the tokens of a CLIP: those of its patches or places, and one more before them."""
    vision = clip.vision
    step = vision.patch if isinstance(vision, VisionConfig) else vision.stride
    return TokenConfig(
        picture_tokens=(vision.resolution // step) ** 2 + 1,
        picture_width=vision.width if isinstance(vision, VisionConfig) else vision.features,
        context=clip.text.context,
        text_width=clip.text.width,
        width=width,
        layers=layers,
        heads=heads,
    )
