"""Pictures of training: a batch laid out as one image."""

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def grid(pictures: Float[Tensor, "n 3 h w"], *, columns: int) -> Image.Image:
    """Lay pictures in [-1, 1] out row by row; a last row that is short is filled with white."""
    missing = -len(pictures) % columns
    filled = torch.cat([pictures, pictures.new_ones(missing, *pictures.shape[1:])])
    sheet = rearrange(filled, "(r k) c h w -> (r h) (k w) c", k=columns)
    return Image.fromarray(((sheet.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())
