from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from limner.dalle1 import NOTHING, Dalle1, Dalle1Config


class Tiny(NamedTuple):
    """A DALL-E 1 with every kind of layer, small enough to look into."""

    config: Dalle1Config

    def model(self, *pattern: str, seed: int = 0) -> Dalle1:
        """In double precision, with weights large enough for every token to matter."""
        torch.manual_seed(seed)
        model = Dalle1(replace(self.config, pattern=pattern or self.config.pattern)).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            model.head.weight.mul_(5)
        return model

    def captions(self, *lengths: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        text = torch.randint(
            self.config.text_vocabulary, (len(lengths), self.config.caption), generator=generator
        )
        for row, length in zip(text, lengths, strict=True):
            row[length:] = NOTHING
        return text

    def images(self, count: int, seed: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(self.config.image_vocabulary, (count, self.config.image), generator=generator)


@pytest.fixture
def tiny():
    return Tiny(
        Dalle1Config(
            text_context=6,
            text_vocabulary=13,
            image_vocabulary=17,
            grid=4,
            width=24,
            heads=3,
            pattern=("row", "column", "dense", "convolution"),
            kernel=3,
            activation="gelu",
        )
    )
