"""What the fields of a form come to: an order, or a word on what is wrong with it."""

import secrets
from dataclasses import dataclass

from limner.pipelines.settings import checked_prompt, checked_seed, checked_size, checked_whole
from limner.server.painters import Doing, Order
from limner.server.service import Served
from limner.server.wire import MOST_PICTURES

# Seeds that are drawn here are short enough to be told to somebody.
LARGEST_DRAWN = 10**6
# Partial pictures of each: as many as there are steps.
SKETCHES = 1000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What somebody asks for, with None where they leave it to the painter."""

    prompt: str
    count: int = 1
    side: int | None = None
    seed: int | None = None
    guidance: float | None = None
    steps: int | None = None
    negative_prompt: str = ""


def seed_of(asked: int | None) -> int:
    """The seed that somebody gave, or one that is drawn."""
    return secrets.randbelow(LARGEST_DRAWN) if asked is None else asked


def order_of(
    painter: Served,
    asked: Asked,
    *,
    doing: Doing = "paint",
    image: bytes | None = None,
    mask: bytes | None = None,
) -> Order:
    """The order that is lined up. Raises ValueError for what cannot be painted."""
    checked_prompt(asked.prompt)
    checked_whole("count", asked.count, 1, MOST_PICTURES)
    seed = seed_of(asked.seed)
    checked_seed(seed, asked.count)
    side = max(painter.painter.sizes) if asked.side is None else asked.side
    checked_size(side, painter.painter.sizes)
    order = Order(
        painter=painter.name,
        doing=doing,
        prompt=asked.prompt,
        count=asked.count,
        seed=seed,
        side=side,
        settings=painter.settings(
            steps=asked.steps, guidance=asked.guidance, negative_prompt=asked.negative_prompt.strip()
        ),
        image=image,
        mask=mask,
        sketches=SKETCHES,
    )
    painter.refuse(order)
    return order


def whole(text: str, name: str) -> int | None:
    """The whole number in a field called `name`, or None where it is empty. ValueError for anything else."""
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} is '{text[:20]}': give a whole number, or leave it empty") from None


def number(text: str, name: str) -> float | None:
    """The same for any number."""
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} is '{text[:20]}': give a number, or leave it empty") from None
