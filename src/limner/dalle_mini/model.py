"""DALL-E mini: a BART that reads a caption and writes an image token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.dalle_mini.layers import DecoderBlock, EncoderBlock, Remembered, causal, seeing
from limner.layers.transformer import Attend


@dataclass(frozen=True, kw_only=True)
class DalleMiniConfig:
    """Sizes. `text_context`: tokens of a caption with its beginning, end and padding, whose id is `padding`.

    `image_vocabulary`: rows of the image's embedding, of which the first `codes` are an autoencoder's codes
    and `start` is what every image begins with; `grid`: side of the image in tokens; `hidden`: of the unit.
    """

    text_context: int
    text_vocabulary: int
    padding: int
    image_vocabulary: int
    codes: int
    start: int
    grid: int
    width: int
    hidden: int
    heads: int
    encoder_layers: int
    decoder_layers: int

    def __post_init__(self) -> None:
        if not 0 < self.codes <= self.image_vocabulary:
            raise ValueError(
                f"codes: {self.codes}; give 1 to {self.image_vocabulary}, the image's vocabulary"
            )
        if not 0 <= self.start < self.image_vocabulary:
            raise ValueError(f"start: {self.start}; give one of the {self.image_vocabulary} image tokens")

    @property
    def image(self) -> int:
        """Tokens of an image."""
        return self.grid**2


class Caption(NamedTuple):
    """A caption that was read: what each block of the decoder sees of it, and which of it is no padding."""

    memories: Sequence[Remembered]
    visible: Attend


class Encoder(nn.Module):
    """Tokens and positions, normed; blocks that see all of the caption; normed again."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.text_vocabulary, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.text_context, config.width))
        self.norm_in = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(
            EncoderBlock(width=config.width, heads=config.heads, hidden=config.hidden)
            for _ in range(config.encoder_layers)
        )
        self.norm_out = nn.LayerNorm(config.width)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "b l"], *, visible: Attend) -> Float[Tensor, "b l w"]:
        """Read captions; `visible` hides their padding."""
        x = self.norm_in(self.embed(ids) + self.positions)
        for block in self.blocks:
            x = block(x, attend=visible)
        return self.norm_out(x)


class Decoder(nn.Module):
    """Image tokens and positions, normed; blocks that see what came before, and the caption; a head."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.image_vocabulary, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.image, config.width))
        self.norm_in = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(
            DecoderBlock(width=config.width, heads=config.heads, hidden=config.hidden)
            for _ in range(config.decoder_layers)
        )
        self.norm_out = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.image_vocabulary, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(
        self, ids: Int[Tensor, "b n"], caption: Caption, *, past: int, attends: Sequence[Attend]
    ) -> Float[Tensor, "b n v"]:
        """Logits of what follows each of n tokens, which come after `past` others. An `attend` a block."""
        x = self.norm_in(self.embed(ids) + self.positions[past : past + ids.shape[1]])
        for block, attend, memory in zip(self.blocks, attends, caption.memories, strict=True):
            x = block(x, attend=attend, caption=memory, visible=caption.visible)
        return self.head(self.norm_out(x))


class DalleMini(nn.Module):
    """A caption's encoder, and a decoder of the image that looks at it in every block.

    Dayma et al. 2021, "DALL·E Mini"; Lewis et al. 2019, "BART".
    """

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, text: Int[Tensor, "b l"], image: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits of every image token, given those before it and the caption; n ≤ grid²."""
        ids = torch.cat([self.starts(len(image)), image[:, :-1]], dim=1)
        attends = [causal] * self.config.decoder_layers
        return self.decoder(ids, self.read(text), past=0, attends=attends)

    def read(self, text: Int[Tensor, "b l"]) -> Caption:
        """Read captions once, for as many tokens as are to come."""
        if text.shape[1] != self.config.text_context:
            raise ValueError(
                f"text: {text.shape[1]} positions, but this model pads to {self.config.text_context}"
            )
        visible = seeing(text != self.config.padding)
        x = self.encoder(text, visible=visible)
        memories = []
        for block in self.decoder.blocks:
            assert isinstance(block, DecoderBlock)
            memories.append(block.reading.remember(x))
        return Caption(memories, visible)

    def starts(self, batch: int) -> Int[Tensor, "b 1"]:
        """What images begin with."""
        start = torch.tensor(self.config.start, device=self.decoder.positions.device)
        return repeat(start, "-> b 1", b=batch)


def mini() -> DalleMiniConfig:
    """DALL-E mini: 437,962,720 parameters."""
    return DalleMiniConfig(
        text_context=64,
        text_vocabulary=50_264,
        padding=1,
        image_vocabulary=16_385,
        codes=16_384,
        start=16_384,
        grid=16,
        width=1024,
        hidden=2730,
        heads=16,
        encoder_layers=12,
        decoder_layers=12,
    )


def mega() -> DalleMiniConfig:
    """DALL-E mega: 2,587,967,488 parameters."""
    return DalleMiniConfig(
        text_context=64,
        text_vocabulary=50_272,
        padding=1,
        image_vocabulary=16_416,
        codes=16_384,
        start=16_384,
        grid=16,
        width=2048,
        hidden=4096,
        heads=32,
        encoder_layers=24,
        decoder_layers=24,
    )
