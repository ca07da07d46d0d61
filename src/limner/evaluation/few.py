"""When a sample is too small to mean anything: every measure says how many pictures it wants."""

import warnings


class FewPicturesWarning(UserWarning):
    """A number is of fewer pictures than it needs, and says little."""


def few(measure: str, given: int, *, wanted: int, why: str, of: str = "pictures") -> str | None:
    """What is to be said where there are fewer than are `wanted`; None where there are enough."""
    if given >= wanted:
        return None
    return f"{measure} of {given} {of} says little: it wants {wanted} or more, {why}"


def few_for_frechet(pictures: int, features: int, measure: str = "a Fréchet distance") -> str | None:
    """Below so many pictures as there are features, some directions have no variance at all."""
    return few(
        measure,
        pictures,
        wanted=features + 1,
        why=f"for {features} features have a variance each, and fewer pictures leave some at none; the "
        "number is too large, and compares only with that of as many pictures",
    )


def few_for_score(pictures: int, classes: int) -> str | None:
    """The score counts classes, and no more of them can be seen than there are pictures."""
    return few(
        "an Inception-style score",
        pictures,
        wanted=10 * classes,
        why=f"ten for each of {classes} classes; it cannot exceed the number of pictures",
    )


def few_for_balls(pictures: int) -> str | None:
    """Balls around few points are large, and hold nearly everything or nothing."""
    return few(
        "precision and recall",
        pictures,
        wanted=1000,
        why="for balls reach to the third neighbour, which among few is far away",
    )


def few_for_kernel(pictures: int) -> str | None:
    """CMMD compares each row with itself as well, which weighs as one in so many."""
    return few("CMMD", pictures, wanted=1000, why="for rows compared with themselves count as one in so many")


def few_for_interval(groups: int) -> str | None:
    """Few groups drawn again and again are always the same ones."""
    return few("an interval", groups, wanted=30, why="for prompts are drawn again whole", of="prompts")


def warn(said: str) -> None:
    """A `FewPicturesWarning`."""
    warnings.warn(said, FewPicturesWarning, stacklevel=2)
