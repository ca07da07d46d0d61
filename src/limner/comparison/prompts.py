"""What is asked for: a text file, a prompt a line, or a list that is built in. Needs no torch.

Built in is the fixed evaluation, `emoji600`, whole or a group of it (`emoji600:pair`), and `held-out`: what
of it training has seen in no picture, unseen pairs, colour bindings, counts and relations.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from limner.errors import LimnerError
from limner.pipelines.settings import checked_prompt

if TYPE_CHECKING:
    from limner.evaluation.emoji600 import Request

HELD_OUT = "held-out"
FIXED = "emoji600"
GROUPS = ("name", "pair", "paraphrase", "colour", "relation", "count")
UNSEEN = ("pair", "colour", "relation", "count")
BUILT_IN = (HELD_OUT, FIXED, *(f"{FIXED}:{group}" for group in GROUPS))
# More are a mistake, such as a file of captions.
MOST = 100_000


@dataclass(frozen=True)
class Asked:
    """What is asked for, in its order, by the name of its list or file.

    `requests`: for each prompt of a built-in list what must be seen in its picture; None of a file's.
    """

    name: str
    prompts: tuple[str, ...]
    requests: "tuple[Request | None, ...]"

    @property
    def digest(self) -> str:
        """The first digits of the SHA-256 of all prompts, a line each."""
        return hashlib.sha256("\n".join(self.prompts).encode()).hexdigest()[:12]


def asked(given: str, *, most: int | None = None) -> Asked:
    """The prompts of a built-in list or a file, the first `most` of them; of groups in turn.

    Raises ValueError for a name that is neither, LimnerError for a file that cannot be read or holds none.
    """
    if most is not None and most < 1:
        raise ValueError(f"most is {most}: give a whole number from 1")
    return built_in(given, most) if given in BUILT_IN else of_file(given, most)


def checked(given: str, *, most: int | None = None) -> None:
    """Raise as `asked` does, reading no built-in list."""
    if most is not None and most < 1:
        raise ValueError(f"most is {most}: give a whole number from 1")
    if given not in BUILT_IN:
        of_file(given, most)


def built_in(name: str, most: int | None) -> Asked:
    """A list of that name: its groups in turn, so that the first so many are of all of them."""
    from limner.evaluation.emoji600 import requests

    wanted = {HELD_OUT: UNSEEN, FIXED: GROUPS}.get(name, (name.partition(":")[2],))
    by_group = [[one for one in requests() if one.group == group] for group in wanted]
    mixed = [one for one in chain.from_iterable(zip_longest(*by_group)) if one is not None][:most]
    return Asked(name, tuple(one.prompt for one in mixed), tuple(mixed))


def of_file(given: str, most: int | None) -> Asked:
    """A file's lines that are not empty, each once."""
    path = Path(given)
    if not path.exists():
        raise ValueError(
            f"prompts is '{given}', no file and no list: give a text file with a prompt a line, or one of "
            f"{', '.join(BUILT_IN)}"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LimnerError(f"{path} is no text in UTF-8 (byte {error.start}): save it as such") from error
    except OSError as error:
        raise LimnerError(f"cannot read {path}: {error.strerror or error}; give a text file") from error
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise LimnerError(f'{path} holds no prompt: write some, one a line, such as "a red apple"')
    if len(prompts) > MOST:
        raise LimnerError(f"{path} holds {len(prompts)} prompts: give at most {MOST}")
    for number, prompt in enumerate(prompts, start=1):
        checked_prompt(prompt, f"prompt {number} of {path}")
    kept = tuple(prompts[:most])
    return Asked(path.name, kept, (None,) * len(kept))


def recognisable(
    prompts: Sequence[str], names: Sequence[str], hexcodes: Sequence[str]
) -> "list[Request | None]":
    """For each prompt the one thing in it that a judge of these names can be asked for.

    Of the fixed evaluation's what it asks for; of any other the longest name whose words stand in it, None
    where there is none, or where another name stands besides.
    """
    from limner.evaluation.emoji600 import Request, requests

    fixed = {one.prompt: one for one in requests()}
    known = sorted(zip(names, hexcodes, strict=True), key=lambda one: -len(one[0]))
    found: list[Request | None] = []
    for prompt in prompts:
        if prompt in fixed:
            found.append(fixed[prompt])
            continue
        rest = (
            f" {' '.join(''.join(c if c.isalnum() or c in '-’' else ' ' for c in prompt.lower()).split())} "
        )
        here = []
        for name, hexcode in known:
            if f" {name.lower()} " in rest:
                here.append((name, hexcode))
                rest = rest.replace(f" {name.lower()} ", " · ")
        one = here[0] if len(here) == 1 else None
        found.append(
            None
            if one is None
            else Request(group="name", prompt=prompt, names=(one[0],), hexcodes=(one[1],), styles=())
        )
    return found
