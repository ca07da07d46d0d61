"""What a tower says, and what every picture tower does before anything else."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Published pixel statistics of CLIP's pictures in [0, 1]. Ours are fed in [-1, 1] and converted here, so
# that every room of the house speaks [-1, 1].
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


class Features(NamedTuple):
    """What a tower says: `pooled` (B, embedding), not normalised, and `tokens` (B, N, width)."""

    pooled: Tensor
    tokens: Tensor


class PictureTower(nn.Module):
    """A tower that reads square pictures of one size."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        # Real numbers even where a network is built without memory, for no checkpoint brings them.
        for name, values in (("mean", PIXEL_MEAN), ("std", PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values, device="cpu").view(3, 1, 1), persistent=False)

    def standardised(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1] with the published mean taken off, in units of the published deviation."""
        side = self.resolution
        if pictures.shape[2:] != (side, side):
            raise ValueError(f"pictures: {tuple(pictures.shape[2:])} pixels, this tower reads {side}×{side}")
        return ((pictures + 1) / 2 - self.mean) / self.std
