"""How well pictures go with words, by a CLIP that did not paint them: DALL-E 1's re-ranking, section 2.6."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.clip import Clip
from limner.pipelines.embedding import pictured, reader, worded
from limner.pipelines.settings import checked_prompt
from limner.pipelines.stages import Developed, Ranked
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


@torch.inference_mode()
def best(
    clip: Clip,
    tokenizer: ClipTokenizer,
    developed: Developed,
    *,
    count: int,
    of: int | None,
    advance: Callable[[int], None],
) -> Ranked:
    """The best `count` of every `of` pictures in a row, which share a prompt; None: of all.

    Pictures are judged as a file would hold them, in 8 bits. Of equals the first comes first.
    """
    total = len(developed.commissions)
    each = total if of is None else of
    images, scores = developed.images(), []
    for start in range(0, total, each):
        prompt = developed.commissions[start].prompt
        scores.append(cosines(clip, tokenizer, prompt, images[start : start + each]))
        advance(each)
    table = torch.stack(scores)
    kept = table.sort(dim=1, descending=True, stable=True).indices[:, :count]
    rows = rearrange(kept + each * torch.arange(len(table))[:, None], "p k -> (p k)")
    there = rows.to(developed.tokens.device)
    return Ranked(
        commissions=tuple(developed.commissions[row] for row in rows.tolist()),
        tokens=developed.tokens[there],
        pictures=developed.pictures[there],
        scores=table.flatten()[rows],
    )
