"""How well pictures go with words, by a CLIP that did not paint them: DALL-E 1's re-ranking, section 2.6."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.clip import Clip
from limner.pipelines.embedding import pictured, reader, worded
from limner.pipelines.settings import checked_prompt
from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import ClipTokenizer


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
    read = reader(weights, device)
    told_of_unknown(read.tokenizer, [text])
    scores: list[float] = cosines(read.clip, read.tokenizer, text, images).tolist()
    return scores


def cosines(
    clip: Clip, tokenizer: ClipTokenizer, text: str, images: Sequence[Image.Image]
) -> Float[Tensor, "n"]:
    """Cosines of pictures with words, on the CPU."""
    return (pictured(clip, images) @ worded(clip, tokenizer, text)).float().cpu()
