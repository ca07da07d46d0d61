"""ruDALL-E: DALL-E 1's sequence and masks with CogView's sandwiched norms, as it was published in Russian.

Malevich (ru-DALL-E's released code; Ding et al. 2021, "CogView", section 2.4, for the norms). Reading order:
the convolution's mask, a block, the transformer, a reader that remembers, sampling. CogView's other remedy
for half precision, scores divided before the softmax and multiplied after, changes no value and is left out.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.autoregression import Sampling, decode
from limner.dalle1.masks import Kind, mask, published_order
from limner.dalle1.model import Logits
from limner.draws import Draws
from limner.layers.transformer import Attend, SelfAttention

# Ids of its own BPE: behind a caption's end, before its beginning, at its end.
PADDING, START, END = 0, 2, 3

Release = Literal["v2", "v3"]


@dataclass(frozen=True, kw_only=True)
class RuDalleConfig:
    """`text` positions of `text_vocabulary` ids, the last `text` of which are one for each place of padding.

    `grid`: side of the image in tokens; `kernel`: side of the convolution's window, odd. `release`: v2 has a
    `START` more before every caption, so that an image begins one position later, and a window that comes
    back in at the other side of the image; v3 has neither.
    """

    text: int
    text_vocabulary: int
    image_vocabulary: int
    grid: int
    width: int
    layers: int
    heads: int
    kernel: int
    release: Release

    @property
    def image(self) -> int:
        """Tokens of an image."""
        return self.grid**2


def window(text: int, grid: int, kernel: int, release: Release) -> Bool[Tensor, "n n"]:
    """The last layer's mask over T + W² positions: text causally, then what is near in the image.

    Unlike in `masks`, it does not go on around the ends of rows: v3's is cut there. v2's lies on a torus, but
    looks only back, so that the last rows see the first.
    """
    seen = torch.ones(text + grid**2, text + grid**2, dtype=torch.bool).tril()
    row, column = torch.arange(grid**2) // grid, torch.arange(grid**2) % grid

    def near(places: Int[Tensor, "n"]) -> Bool[Tensor, "n n"]:
        apart = (places[:, None] - places[None, :]).abs()
        return (torch.minimum(apart, grid - apart) if release == "v2" else apart) <= kernel // 2

    seen[text:, text:] &= near(row) & near(column)
    return seen


class SandwichBlock(nn.Module):
    """x += norm(attention(norm(x))); x += norm(mlp(norm(x))): what is added is normed as well."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width=width, heads=heads)
        self.norm_attended = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.norm_narrowed = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b n d"], *, attend: Attend) -> Float[Tensor, "b n d"]:
        """Refine rows; `attend` decides who looks at whom."""
        x = x + self.norm_attended(self.attention(self.norm_attention(x), attend=attend))
        h = F.gelu(self.widen(self.norm_mlp(x)), approximate="tanh")
        return x + self.norm_narrowed(self.narrow(h))


class RuDalle(nn.Module):
    """Caption, its padding, image in raster order: each token from those before it."""

    def __init__(self, config: RuDalleConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed_text = nn.Embedding(config.text_vocabulary, width)
        self.embed_image = nn.Embedding(config.image_vocabulary, width)
        # One more than a caption has, for v2's.
        self.positions = nn.Parameter(0.02 * torch.randn(config.text + 1, width))
        self.rows = nn.Parameter(0.02 * torch.randn(config.grid, width))
        self.columns = nn.Parameter(0.02 * torch.randn(config.grid, width))
        self.blocks = nn.ModuleList(
            SandwichBlock(width=width, heads=config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.text_vocabulary + config.image_vocabulary)
        # As in the paper, but that a last layer which is a column's stays one.
        self.pattern: tuple[Kind, ...] = tuple(
            "column" if number % 4 == 1 else kind
            for number, kind in enumerate(published_order(config.layers))
        )

    @property
    def start(self) -> int:
        """The position that predicts the first image token."""
        return self.config.text if self.config.release == "v2" else self.config.text - 1

    def forward(self, text: Int[Tensor, "b l"], image: Int[Tensor, "b n"]) -> Logits:
        """Read captions (B, text), `PADDING` behind their ends, and images (B, W²).

        Of the caption v3 predicts all but the first id, which is `START`; v2, with one more before it, all.
        """
        x = torch.cat([self.text_rows(text), self.image_rows(image[:, :-1])], dim=1)
        masks, n = self.masks(x.device), x.shape[1]
        for block, kind in zip(self.blocks, self.pattern, strict=True):
            x = block(x, attend=partial(F.scaled_dot_product_attention, attn_mask=masks[kind][:n, :n]))
        of_text, of_image = x.tensor_split([self.start], dim=1)
        words = self.config.text_vocabulary
        return Logits(self.logits(of_text)[..., :words], self.logits(of_image)[..., words:])

    def text_rows(self, text: Int[Tensor, "b l"]) -> Float[Tensor, "b t d"]:
        """Every caption with ids of their own for its padding. Raises ValueError for another length."""
        length, words = self.config.text, self.config.text_vocabulary
        if text.shape[1] != length:
            raise ValueError(f"text: {text.shape[1]} positions, but this model pads to {length}")
        places = torch.arange(words - length, words, device=text.device)
        ids = torch.where(text == PADDING, places, text)
        if self.config.release == "v2":
            ids = F.pad(ids, (1, 0), value=START)
        return self.embed_text(ids) + self.positions[: ids.shape[1]]

    def image_rows(self, image: Int[Tensor, "b n"], past: int = 0) -> Float[Tensor, "b n d"]:
        """Image tokens behind `past` others, each with its row and its column."""
        if past + image.shape[1] >= self.config.image:
            raise ValueError(
                f"image: {past + image.shape[1]} tokens to go on from, but there are {self.config.image}"
            )
        places = rearrange(self.rows[:, None] + self.columns[None, :], "r c d -> (r c) d")
        return self.embed_image(image) + places[past : past + image.shape[1]]

    def logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """Of both vocabularies, on rows as the last block leaves them. They are normed twice."""
        return self.head(self.norm_head(self.norm(x)))

    def masks(self, device: torch.device) -> dict[Kind, Tensor]:
        """Who sees whom, (T + W², T + W²) for each kind of layer."""
        return {kind: mask_of(self.config, kind).to(device) for kind in dict.fromkeys(self.pattern)}


def mask_of(config: RuDalleConfig, kind: Kind) -> Bool[Tensor, "n n"]:
    """The mask of a kind. v2's longer caption does not move it: its last id has the image's first place."""
    if kind == "convolution":
        return window(config.text, config.grid, config.kernel, config.release)
    return mask(kind, text=config.text, grid=config.grid, kernel=config.kernel)


class MaskedCache:
    """One layer's keys and values so far; a position sees what its row of the mask shows."""

    def __init__(self, mask: Bool[Tensor, "n n"]) -> None:
        self.mask = mask
        self.rows: tuple[Tensor, Tensor] | None = None

    def attend(
        self, q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
    ) -> Float[Tensor, "b h n d"]:
        """Remember n more positions, and mix them with all that they may see."""
        if self.rows is not None:
            k, v = torch.cat([self.rows[0], k], dim=2), torch.cat([self.rows[1], v], dim=2)
        self.rows = k, v
        seen = self.mask[k.shape[2] - q.shape[2] : k.shape[2], : k.shape[2]]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


class RuDalleReader:
    """The model in the middle of its images: captions are read with the first tokens, in one pass."""

    def __init__(self, model: RuDalle, text: Int[Tensor, "b l"]) -> None:
        self.model = model
        self.text: Tensor | None = text
        self.past = 0
        masks = model.masks(text.device)
        self.caches = [MaskedCache(masks[kind]) for kind in model.pattern]

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more image tokens; the logits of the one after them."""
        x = self.model.image_rows(ids, self.past)
        if self.text is not None:
            x, self.text = torch.cat([self.model.text_rows(self.text), x], dim=1), None
        for block, cache in zip(self.model.blocks, self.caches, strict=True):
            x = block(x, attend=cache.attend)
        self.past += ids.shape[1]
        return self.model.logits(x[:, -1])[:, self.model.config.text_vocabulary :]


def sample(
    model: RuDalle, text: Int[Tensor, "b l"], *, draws: Draws, sampling: Sampling
) -> Int[Tensor, "b w w"]:
    """Image tokens for captions (B, text), one random stream a picture; `limner.vqgan` paints them."""
    prefix = torch.zeros(len(text), 0, dtype=torch.int64, device=text.device)
    reader = RuDalleReader(model, text)
    columns = decode(reader, prefix=prefix, length=model.config.image, draws=draws, sampling=sampling)
    return rearrange(torch.stack(list(columns), dim=1), "b (r w) -> b r w", w=model.config.grid)


def malevich(release: Release) -> RuDalleConfig:
    """The published size, as v2 (Emojich as well) or v3: 1,310,410,880 parameters."""
    return RuDalleConfig(
        text=128,
        text_vocabulary=16_384 + 128,
        image_vocabulary=8192,
        grid=32,
        width=2048,
        layers=24,
        heads=16,
        kernel=11,
        release=release,
    )
