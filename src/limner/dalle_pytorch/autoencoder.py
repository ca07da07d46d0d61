"""DALLE-pytorch's own discrete autoencoder: pictures to codes and back, by convolutions."""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ConvolutionalVaeConfig:
    """`resolution`: pixels a side; `vocabulary`: codes; `codebook`: their width; `halvings` of the side.

    `hidden`: channels everywhere else; `blocks`: residual ones, where the picture is smallest.
    """

    resolution: int
    vocabulary: int
    codebook: int
    hidden: int
    halvings: int
    blocks: int


class ResidualBlock(nn.Module):
    """x + three convolutions of x: 3 × 3, 3 × 3, 1 × 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same size."""
        return self.net(x) + x


class ConvolutionalVae(nn.Module):
    """Halve and halve, then a logit for each code; from codes, double and double: its `DiscreteVAE`."""

    def __init__(self, config: ConvolutionalVaeConfig) -> None:
        super().__init__()
        self.config = config
        width, steps = config.hidden, range(config.halvings)
        self.codebook = nn.Embedding(config.vocabulary, config.codebook)
        self.halvings = nn.ModuleList(
            nn.Conv2d(width if step else 3, width, 4, stride=2, padding=1) for step in steps
        )
        self.encoder_blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.to_logits = nn.Conv2d(width, config.vocabulary, 1)
        # With blocks, a layer of its own brings codes to their width.
        self.from_codes = nn.Conv2d(config.codebook, width, 1) if config.blocks else nn.Identity()
        self.decoder_blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        before = width if config.blocks else config.codebook
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(width if step else before, width, 4, stride=2, padding=1) for step in steps
        )
        self.to_pixels = nn.Conv2d(width, 3, 1)

    def logits(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b v h2 w2"]:
        """How well each code names each place; pictures in [-1, 1]."""
        x = pictures
        for layer in self.halvings:
            x = F.relu(layer(x))
        return self.to_logits(self.encoder_blocks(x))

    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b h2 w2"]:
        """The likeliest codes."""
        return self.logits(pictures).argmax(dim=1)

    def decode(self, codes: Int[Tensor, "b h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Pictures, about [-1, 1]."""
        x = rearrange(self.codebook(codes), "b h w c -> b c h w")
        x = self.decoder_blocks(self.from_codes(x))
        for layer in self.doublings:
            x = F.relu(layer(x))
        return self.to_pixels(x)
