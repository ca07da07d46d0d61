"""Captions to image tokens, for `limner.autoregression.decode`; all is read anew for every token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limner.dalle_pytorch.model import DallePytorch


class ImageReader:
    """The model in the middle of its images. A caption of zeros is the empty one, for guidance."""

    def __init__(self, model: DallePytorch, text: Int[Tensor, "b l"]) -> None:
        self.model = model
        self.text = text
        self.image = text.new_zeros(len(text), 0)

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more image tokens; logits of the one after them."""
        self.image = torch.cat([self.image, ids], dim=1)
        return self.model(self.text, self.image).image[:, -1]
