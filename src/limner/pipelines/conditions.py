"""What unCLIP's decoder is told of a picture, and how far each of it leads: the sides of one guided step."""

from typing import NamedTuple

from limner.pipelines.settings import Condition


class Told(NamedTuple):
    """One side: whether it is told the picture's CLIP embedding z_i, and whether the words."""

    embedding: bool
    words: bool


WHOLE = {
    "both": Told(embedding=True, words=True),
    "clip": Told(embedding=True, words=False),
    "text": Told(embedding=False, words=True),
    "neither": Told(embedding=False, words=False),
}
NOTHING = WHOLE["neither"]


def sides(
    condition: Condition, guidance: float, text_guidance: float | None
) -> tuple[tuple[Told, ...], tuple[float, ...]]:
    """The sides of a step, the one that is told most first, and the scales from each to the one before.

    Guidance leads from nothing to what the decoder is told. With a `text_guidance` of their own, words follow
    the embedding: nothing + guidance·(embedding − nothing) + text_guidance·(both − embedding). Sides that
    would not count are left out. The scales are in the order of `classifier_free_batched`.
    """
    if condition == "both" and text_guidance is not None and text_guidance != guidance:
        if text_guidance == 0:
            return sides("clip", guidance, None)
        both, alone = WHOLE["both"], WHOLE["clip"]
        if guidance == 1:
            return (both, alone), (text_guidance,)
        return (both, alone, NOTHING), (guidance, text_guidance)
    told = WHOLE[condition]
    if told == NOTHING or guidance == 0:
        return (NOTHING,), ()
    return (told,) if guidance == 1 else (told, NOTHING), _unless_one(guidance)


def _unless_one(scale: float) -> tuple[float, ...]:
    return () if scale == 1 else (scale,)
