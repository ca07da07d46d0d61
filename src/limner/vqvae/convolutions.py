"""What both autoencoders are built of: residual blocks, halvings and doublings. No normalisation anywhere."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv 1×1 (ReLU (conv 3×3 (ReLU x))): van den Oord et al. 2017, section 4.1."""

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine a feature map."""
        return x + self.out(F.relu(self.conv(F.relu(x))))


def residual_blocks(*, channels: int, hidden: int, blocks: int) -> list[nn.Module]:
    """A stack of blocks and the ReLU that their sum has not been through."""
    return [*(ResidualBlock(channels=channels, hidden=hidden) for _ in range(blocks)), nn.ReLU()]


def halving(channels: int, out: int) -> nn.Conv2d:
    """Half the height and width, by a 4×4 convolution of stride 2."""
    return nn.Conv2d(channels, out, 4, stride=2, padding=1)


def doubling(channels: int, out: int) -> nn.ConvTranspose2d:
    """Twice the height and width: a 4×4 transposed convolution of stride 2."""
    return nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
