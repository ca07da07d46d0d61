"""What is in a picture, of the classes that somebody names: CLIP was trained for none of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.clip import TEMPLATES, class_embeddings, probabilities
from limner.pipelines.embedding import Reader, pictured, reader
from limner.pipelines.settings import checked_labels, checked_templates
from limner.pipelines.words import checked_words, told_of_unknown


def classify(
    images: Sequence[Image.Image],
    labels: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    weights: Path | None = None,
    device: str = "cpu",
) -> list[dict[str, float]]:
    """For each picture the probability of each label, in the labels' order; they add up to one.

    `templates`: sentences with {} for the label, which are averaged; "a {}" stands for whatever article the
    label takes. `weights`: a CLIP's folder, or a line's that holds one; the CLIP that ships without. Pictures
    of any size and shape; transparent ones are seen on white. Raises ValueError for no picture, fewer than
    two labels, a label twice, a template without {}.
    """
    checked_labels(labels)
    checked_templates(templates)
    if not images:
        raise ValueError("images is empty: give at least one picture")
    read = reader(weights, device)
    classes = classes_of(read, labels, templates)
    found = probabilities(pictured(read.clip, images), classes, read.clip.scale).tolist()
    return [dict(zip(labels, row, strict=True)) for row in found]


@torch.inference_mode()
def classes_of(read: Reader, labels: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "classes d"]:
    """A unit vector for each label. ValueError for one of which cleaning leaves nothing."""
    checked_words(labels, "label")
    told_of_unknown(read.tokenizer, labels)
    return class_embeddings(read.clip, read.tokenizer, labels, templates)
