"""How well pictures go with words, by a CLIP that did not paint them: DALL-E 1's re-ranking, section 2.6."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.clip import Clip, ClipConfig, unit
from limner.pipelines.devices import device_named
from limner.pipelines.loading import loaded
from limner.pipelines.pictures import seen
from limner.pipelines.settings import checked_prompt
from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import ClipTokenizer
from limner.weights import shipped

SEEN_AT_ONCE = 64


def rank(
    text: str, images: Sequence[Image.Image], *, weights: Path | None = None, device: str = "cpu"
) -> list[float]:
    """The score of each picture, in their order: the cosine of its CLIP embedding with that of the words.

    `weights`: a CLIP's folder, or a line's that holds one; the CLIP that ships without. Pictures of any size
    and shape; transparent ones are seen on white. Raises ValueError for words or pictures that are missing.
    """
    checked_prompt(text)
    checked_words(text)
    if not images:
        raise ValueError("images is empty: give at least one picture")
    place = device_named(device)
    clip = loaded(clip_folder(weights), ClipConfig, Clip, place)
    tokenizer = ClipTokenizer(clip.config.text.vocabulary)
    told_of_unknown(tokenizer, [text])
    scores: list[float] = cosines(clip, tokenizer, text, images).tolist()
    return scores


def clip_folder(weights: Path | None) -> Path:
    """Where the CLIP that ranks lies: in `weights`, or in what ships; LimnerError where nothing ships."""
    if weights is None:
        return shipped("dalle2") / "clip"
    return weights / "clip" if (weights / "clip").is_dir() else weights


@torch.inference_mode()
def cosines(
    clip: Clip, tokenizer: ClipTokenizer, text: str, images: Sequence[Image.Image]
) -> Float[Tensor, "n"]:
    """Cosines of pictures with words, on the CPU."""
    device, side = clip.log_scale.device, clip.config.vision.resolution
    words = unit(clip.encode_text(tokenizer([text], clip.config.text.context).to(device)).pooled)[0]
    parts = [
        unit(clip.encode_image(seen(images[start : start + SEEN_AT_ONCE], side).to(device)).pooled) @ words
        for start in range(0, len(images), SEEN_AT_ONCE)
    ]
    return torch.cat(parts).float().cpu()
