"""Who looks: three networks that turn pictures into features, which every measure of clouds is a measure of.

EfficientNet-Lite0 comes with its weights and needs no network; CLIP is the one that ships, or another; and
Inception, whose features published distances are of, is torch-fidelity's, an extra that fetches its weights
when it is first asked. Distances by different eyes do not compare.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.errors import LimnerError
from limner.evaluation.features import BATCH, SIDE, WIDTH, Trunk, in_batches
from limner.pipelines.embedding import Reader, pictured
from limner.progress import watched

INCEPTION_WIDTH = 2048
# The layer whose features published distances are of.
POOLED = "2048"


@dataclass(frozen=True)
class Eyes:
    """What looks, by its `name`, at a few PIL pictures at a time: features (b, width) on the CPU.

    `known_as`: the network and its weights, so that kept features are not taken for those of another.
    """

    name: str
    known_as: str
    width: int
    see: Callable[[Sequence[Image.Image]], Float[Tensor, "b d"]]


def stream(
    eyes: Eyes, images: Iterable[Image.Image], *, total: int, label: str = "looking at pictures"
) -> Iterator[Float[Tensor, "b d"]]:
    """Features of `total` pictures as they come, some at a time: neither pictures nor features are kept."""
    rest = iter(images)
    batches = iter(lambda: list(islice(rest, BATCH)), [])
    for some in watched(batches, label, total=-(-total // BATCH)):
        yield eyes.see(some)


def look(
    eyes: Eyes, images: Iterable[Image.Image], *, total: int, label: str = "looking at pictures"
) -> Float[Tensor, "n d"]:
    """The features of all of them, which do fit: thirty thousand of 1280 numbers are 150 MB."""
    found = list(stream(eyes, images, total=total, label=label))
    return torch.cat(found) if found else torch.empty(0, eyes.width)


def efficientnet(trunk: Trunk, *, side: int = SIDE) -> Eyes:
    """EfficientNet-Lite0's pooled features of pictures brought to `side` pixels."""
    device = next(trunk.parameters()).device

    @torch.inference_mode()
    def see(images: Sequence[Image.Image]) -> Float[Tensor, "b d"]:
        (batch,) = in_batches(images, side)
        return trunk(batch.to(device), side=side).cpu()

    return Eyes("EfficientNet-Lite0", f"efficientnet-lite0 at {side}", WIDTH, see)


def clip(read: Reader) -> Eyes:
    """A CLIP's unit embeddings of pictures."""

    def see(images: Sequence[Image.Image]) -> Float[Tensor, "b d"]:
        return pictured(read.clip, images).float().cpu()

    return Eyes("CLIP", f"clip {read.digest}", read.clip.config.embedding, see)


def inception(device: torch.device | str = "cpu") -> Eyes:
    """Inception-v3 as published distances have it, by torch-fidelity: 2048 features.

    Raises LimnerError, with the remedy, where the package is missing or its weights cannot be fetched.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise LimnerError(
            f"Inception's features need torch-fidelity, and {error.name} is not installed: "
            'pip install "limner[inception]", or leave it out: EfficientNet-Lite0 and CLIP measure without'
        ) from error
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", [POOLED]).to(device).eval()
    except (OSError, RuntimeError) as error:
        raise LimnerError(
            f"Inception's weights could not be fetched ({error}): ask where the network is open, or leave it "
            "out: EfficientNet-Lite0 and CLIP measure without"
        ) from error

    @torch.inference_mode()
    def see(images: Sequence[Image.Image]) -> Float[Tensor, "b d"]:
        pixels = torch.from_numpy(np.stack([np.array(image.convert("RGB")) for image in images]))
        (found,) = network(rearrange(pixels, "b h w c -> b c h w").to(device))
        return found.cpu()

    return Eyes("Inception-v3", f"inception-v3-compat {POOLED}", INCEPTION_WIDTH, see)
