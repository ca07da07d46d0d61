"""DALLE-pytorch's transformer: a caption and an image in one sequence, as in DALL-E 1, otherwise built."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.dalle_pytorch.layers import Attention, GatedUnit, Kind, angles, shifted, visible

# Behind a caption's end its row of ids goes on with this.
PADDING = 0


@dataclass(frozen=True, kw_only=True)
class DallePytorchConfig:
    """Sizes. `text_context`: tokens of a caption; `grid`: side of the image in tokens; `pattern`: by layer.

    `rotary`: places are turns of queries, keys and values, else they are learned and added. `shifted`: rows
    take parts of their neighbours'. `sandwich`: what leaves a branch is normed. `divided`: the last rows are
    divided by their largest component. `reversible`: two streams that add to one another.
    """

    text_context: int
    text_vocabulary: int
    image_vocabulary: int
    grid: int
    width: int
    hidden: int
    heads: int
    head_width: int
    pattern: tuple[Kind, ...]
    rotary: bool
    shifted: bool
    sandwich: bool
    divided: bool
    reversible: bool

    @property
    def texts(self) -> int:
        """Ids of text: words, then a padding of its own for each position."""
        return self.text_vocabulary + self.text_context

    @property
    def rows(self) -> int:
        """Of text, with the one that everything begins with."""
        return self.text_context + 1


class Logits(NamedTuple):
    """Of every token, given those before: `text` (B, context, words and paddings), `image` (B, n, codes)."""

    text: Tensor
    image: Tensor


class Branch(nn.Module):
    """What surrounds a part: norm and shift before it, (a norm and) a small scale behind."""

    def __init__(self, config: DallePytorchConfig) -> None:
        super().__init__()
        self.shift = config.shifted
        self.text, self.grid = config.rows, config.grid
        self.norm = nn.LayerNorm(config.width)
        self.norm_out = nn.LayerNorm(config.width) if config.sandwich else nn.Identity()
        self.scale = nn.Parameter(torch.full((config.width,), 0.1))

    def before(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """What the part reads."""
        h = self.norm(x)
        return shifted(h, text=self.text, grid=self.grid) if self.shift else h

    def behind(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """What is added of what the part says."""
        return self.norm_out(x) * self.scale


class AttentionBranch(Branch):
    """Rows that look at one another."""

    def __init__(self, config: DallePytorchConfig) -> None:
        super().__init__(config)
        self.part = Attention(width=config.width, heads=config.heads, head_width=config.head_width)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        *,
        seen: Bool[Tensor, "n n"],
        angles: Float[Tensor, "n a"] | None,
    ) -> Float[Tensor, "b n w"]:
        """`seen` and `angles` are the attention's."""
        return self.behind(self.part(self.before(x), seen=seen, angles=angles))


class UnitBranch(Branch):
    """Each row for itself."""

    def __init__(self, config: DallePytorchConfig) -> None:
        super().__init__(config)
        self.part = GatedUnit(width=config.width, hidden=config.hidden)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """What is added to every row."""
        return self.behind(self.part(self.before(x)))


class Places(nn.Module):
    """Learned: one for each text position, and a row's plus a column's for those of the image."""

    def __init__(self, config: DallePytorchConfig) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.randn(config.rows, config.width))
        self.rows = nn.Parameter(torch.randn(config.grid, config.width))
        self.columns = nn.Parameter(torch.randn(config.grid, config.width))

    def forward(self, length: int) -> Float[Tensor, "n w"]:
        """Of the first `length` positions."""
        image = rearrange(self.rows[:, None] + self.columns[None, :], "r c w -> (r c) w")
        return torch.cat([self.text, image])[:length]


class DallePytorch(nn.Module):
    """Start, caption, its padding, image; every padding has an id of its own position. P. Wang 2021."""

    angles: Tensor

    def __init__(self, config: DallePytorchConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_text = nn.Embedding(config.texts, config.width)
        self.embed_image = nn.Embedding(config.image_vocabulary, config.width)
        self.places = None if config.rotary else Places(config)
        found = angles(text=config.rows, grid=config.grid, head_width=config.head_width)
        # Kept with the weights: some libraries had other frequencies.
        self.register_buffer("angles", found if config.rotary else None)
        self.attentions = nn.ModuleList(AttentionBranch(config) for _ in config.pattern)
        self.units = nn.ModuleList(UnitBranch(config) for _ in config.pattern)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.texts + config.image_vocabulary)

    def forward(self, text: Int[Tensor, "b l"], image: Int[Tensor, "b n"]) -> Logits:
        """Read captions (B, context), 0 behind their ends, and n codes of images; n + 1 are foretold.

        All codes but the last of an image are enough to foretell it whole.
        """
        config = self.config
        if text.shape[1] != config.text_context or image.shape[1] >= config.grid**2:
            raise ValueError(
                f"text and image: {text.shape[1]} and {image.shape[1]} tokens; this model reads "
                f"{config.text_context}, and at most {config.grid**2 - 1} to go on from"
            )
        own = config.text_vocabulary + torch.arange(config.text_context, device=text.device)
        text = F.pad(torch.where(text == PADDING, own, text), (1, 0))
        x = torch.cat([self.embed_text(text), self.embed_image(image)], dim=1)
        n = x.shape[1]
        x = x if self.places is None else x + self.places(n)
        x = self.blocks(x, None if self.angles is None else self.angles[:n])
        if config.divided:
            x = x / x.amax(dim=-1, keepdim=True)
        logits = self.head(self.norm(x))
        of_text, of_image = logits.tensor_split([config.text_context], dim=1)
        return Logits(of_text[..., : config.texts], of_image[..., config.texts :])

    def blocks(self, x: Float[Tensor, "b n w"], angles: Float[Tensor, "n a"] | None) -> Tensor:
        """One stream that everything adds to; or two, of which each adds to the other (Gomez et al. 2017)."""
        n, text, grid = x.shape[1], self.config.rows, self.config.grid
        sees = {
            kind: visible(kind, text=text, grid=grid)[:n, :n].to(x.device)
            for kind in dict.fromkeys(self.config.pattern)
        }
        first, second = x, x
        for kind, attention, unit in zip(self.config.pattern, self.attentions, self.units, strict=True):
            seen = sees[kind]
            if self.config.reversible:
                first = first + attention(second, seen=seen, angles=angles)
                second = second + unit(first)
            else:
                first = first + attention(first, seen=seen, angles=angles)
                first = first + unit(first)
        return (first + second) / 2 if self.config.reversible else first
