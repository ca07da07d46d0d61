"""DALL-E 1's transformer: a sequence of text and image tokens, each predicted from those before it."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.dalle1.attention import SparseAttention
from limner.dalle1.masks import Kind, published_order
from limner.layers.transformer import Activation, Block, Transformer

# Where a caption has ended, its row of ids goes on with this.
NOTHING = -1


@dataclass(frozen=True, kw_only=True)
class Dalle1Config:
    """Sizes. `text_context` counts start-of-text, so a caption has at most one token fewer.

    `grid`: side of the image in tokens; `pattern`: the kind of every layer's attention, first to last
    (`masks.published_order` is the paper's); `kernel`: side of the convolution's window, odd.
    """

    text_context: int
    text_vocabulary: int
    image_vocabulary: int
    grid: int
    width: int
    heads: int
    pattern: tuple[Kind, ...]
    kernel: int
    activation: Activation

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: {self.kernel} is even; the window has a middle, so give an odd side")
        if self.text_context < 2:
            raise ValueError(
                f"text_context: {self.text_context} leaves no room beside start-of-text; give 2 or more"
            )

    @property
    def caption(self) -> int:
        """Tokens of the longest caption."""
        return self.text_context - 1

    @property
    def image(self) -> int:
        """Tokens of an image."""
        return self.grid**2


class Logits(NamedTuple):
    """Of every token, given those before it: `text` (B, caption, text vocabulary), `image` (B, W², codes)."""

    text: Tensor
    image: Tensor


class Dalle1(nn.Module):
    """start-of-text, caption, its padding; start-of-image, image in raster order, all but its last token.

    A token is its embedding plus where it is: in the caption a position, in the image a row and a column.
    Every position behind the caption's end has a learned embedding of its own instead, and is seen like any
    other. Text predicts text and image predicts image: one head of both vocabularies, each read where it
    belongs.
    """

    def __init__(self, config: Dalle1Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed_text = nn.Embedding(config.text_vocabulary, width)
        self.embed_image = nn.Embedding(config.image_vocabulary, width)
        self.start_of_text = nn.Parameter(0.02 * torch.randn(width))
        self.start_of_image = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.01 * torch.randn(config.text_context, width))
        self.padding = nn.Parameter(0.01 * torch.randn(config.text_context, width))
        self.rows = nn.Parameter(0.01 * torch.randn(config.grid, width))
        self.columns = nn.Parameter(0.01 * torch.randn(config.grid, width))
        self.transformer = Transformer(
            width=width, layers=len(config.pattern), heads=config.heads, activation=config.activation
        )
        self.attention = nn.ModuleDict(
            {
                kind: SparseAttention(kind, text=config.text_context, grid=config.grid, kernel=config.kernel)
                for kind in dict.fromkeys(config.pattern)
            }
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.text_vocabulary + config.image_vocabulary)
        for module in (self.embed_text, self.embed_image, self.head):
            nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, text: Int[Tensor, "b l"], image: Int[Tensor, "b n"]) -> Logits:
        """Read captions (B, caption), `NOTHING` behind their ends, and images (B, W²)."""
        x = torch.cat([self.text_rows(text), self.image_rows(image[:, :-1])], dim=1)
        for block, kind in zip(self.transformer.blocks, self.config.pattern, strict=True):
            assert isinstance(block, Block)
            x = block(x, attend=self.attention[kind])
        of_text, of_image = self.norm(x).tensor_split([self.config.text_context], dim=1)
        # The last text position is followed by the image, which it does not predict.
        return Logits(self.text_logits(of_text[:, :-1]), self.image_logits(of_image))

    def text_rows(self, text: Int[Tensor, "b l"]) -> Float[Tensor, "b t d"]:
        """Start-of-text, then the caption's tokens and its padding."""
        if text.shape[1] != self.config.caption:
            raise ValueError(f"text: {text.shape[1]} positions, but this model pads to {self.config.caption}")
        real = rearrange(text != NOTHING, "b l -> b l 1")
        tokens = self.embed_text(text.clamp(min=0)) + self.positions[1:]
        start = repeat(self.start_of_text + self.positions[0], "d -> b 1 d", b=len(text))
        return torch.cat([start.to(tokens.dtype), torch.where(real, tokens, self.padding[1:])], dim=1)

    def image_rows(self, image: Int[Tensor, "b n"]) -> Float[Tensor, "b n1 d"]:
        """Start-of-image, then as many image tokens as are given."""
        if image.shape[1] >= self.config.image:
            raise ValueError(
                f"image: {image.shape[1]} tokens to go on from, but there are {self.config.image}"
            )
        tokens = self.embed_image(image) + self.places()[: image.shape[1]]
        start = repeat(self.start_of_image, "d -> b 1 d", b=len(image))
        return torch.cat([start.to(tokens.dtype), tokens], dim=1)

    def places(self) -> Float[Tensor, "n d"]:
        """Row plus column embedding of every image position, in raster order."""
        return rearrange(self.rows[:, None] + self.columns[None, :], "r c d -> (r c) d")

    def text_logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """The head's text half, on normalised rows."""
        v = self.config.text_vocabulary
        return nn.functional.linear(x, self.head.weight[:v], self.head.bias[:v])

    def image_logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """The head's image half, on normalised rows."""
        v = self.config.text_vocabulary
        return nn.functional.linear(x, self.head.weight[v:], self.head.bias[v:])


def paper() -> Dalle1Config:
    """The published size (section 2.2 and appendix B): 12,292,840,960 parameters."""
    return Dalle1Config(
        text_context=256,
        text_vocabulary=16_384,
        image_vocabulary=8192,
        grid=32,
        width=3968,
        heads=62,
        pattern=published_order(64),
        kernel=11,
        activation="gelu",
    )
