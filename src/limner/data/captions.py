"""From what is known about a drawing to captions of it, from two words to a full sentence."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from limner.data.colours import NAMES
from limner.data.splits import fraction
from limner.data.words import listed, named, stem


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a set is spoken of: after a comma, after the noun, and as the thing that is drawn.

    The first of `tags` is the canonical one.
    """

    tags: tuple[str, ...]
    manners: tuple[str, ...]
    works: tuple[str, ...]


STYLES: dict[str, Style] = {
    "noto": Style(
        tags=("Noto style", "Noto emoji", "Noto"),
        manners=("in the Noto style", "in Noto emoji style", "drawn the Noto way"),
        works=("a Noto emoji of", "a Noto drawing of", "a drawing in the Noto style of"),
    ),
    "twemoji": Style(
        tags=("Twemoji style", "Twemoji", "simple Twemoji shapes"),
        manners=("in the Twemoji style", "as a Twemoji", "in simple Twemoji shapes"),
        works=("a Twemoji of", "a Twemoji drawing of", "a drawing in the Twemoji style of"),
    ),
    "fluent-3d": Style(
        tags=("3D style", "3D", "3D render", "soft 3D"),
        manners=("in 3D", "in 3D style", "as a 3D render", "as a soft 3D model"),
        works=("a 3D render of", "a 3D emoji of", "a 3D model of"),
    ),
    "fluent-flat": Style(
        tags=("flat style", "flat", "flat design", "flat colours"),
        manners=("in flat style", "in flat colours", "as a flat drawing", "in the Fluent flat style"),
        works=("a flat drawing of", "a flat emoji of", "a flat icon of"),
    ),
    "fluent-color": Style(
        tags=("glossy gradient style", "glossy", "gradient style", "smooth gradients"),
        manners=(
            "in glossy gradient style",
            "with glossy gradients",
            "in smooth gradients",
            "in the Fluent colour style",
        ),
        works=("a glossy drawing of", "a glossy gradient emoji of", "a glossy icon of"),
    ),
    "openmoji": Style(
        tags=("OpenMoji style", "OpenMoji", "outlined"),
        manners=("in the OpenMoji style", "with black outlines", "as an OpenMoji"),
        works=("an OpenMoji of", "an outlined drawing of"),
    ),
    "emojione": Style(
        tags=("EmojiOne style", "EmojiOne"),
        manners=("in the EmojiOne style", "as an EmojiOne emoji"),
        works=("an EmojiOne emoji of", "an EmojiOne drawing of"),
    ),
    "emojione-v1": Style(
        tags=("old EmojiOne style", "first EmojiOne"),
        manners=("in the old EmojiOne style", "as in the first EmojiOne"),
        works=("an old EmojiOne emoji of", "an old EmojiOne drawing of"),
    ),
    "streamline": Style(
        tags=("Streamline style", "Streamline"),
        manners=("in the Streamline style", "as a Streamline icon"),
        works=("a Streamline icon of", "a Streamline drawing of"),
    ),
}
PLAIN_STYLE = Style(tags=("emoji",), manners=("as an emoji",), works=("an emoji of", "a drawing of"))


def captions(
    name: str,
    style: str,
    keywords: Sequence[str],
    colours: Sequence[str],
    rng: random.Random,
    count: int = 20,
) -> list[str]:
    """`count` different captions of one drawing, from two words to a full sentence.

    The first is always the plain name ("a red apple"), the second the name and its style ("a red apple, 3D
    style"); the others are drawn by `rng` from every template that the facts can fill. A colour that the
    name says already is not said twice. Fewer come back only when the facts fill fewer templates.
    """
    if not name.strip():
        raise ValueError("name must hold at least one word, got an empty one")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    name = " ".join(name.split())
    spoken_style = STYLES.get(style, PLAIN_STYLE)
    noun = named(name)
    chosen = [noun, f"{noun}, {spoken_style.tags[0]}"]
    pool = _templates(name, spoken_style, keywords, colours, rng)
    rng.shuffle(pool)
    chosen += [caption for caption in pool if caption not in chosen]
    return list(dict.fromkeys(chosen))[:count]


def _templates(
    name: str, style: Style, keywords: Sequence[str], colours: Sequence[str], rng: random.Random
) -> list[str]:
    noun = named(name)

    def tag() -> str:
        return rng.choice(style.tags)

    def manner() -> str:
        return rng.choice(style.manners)

    def work() -> str:
        return rng.choice(style.works)

    pool = [
        name,
        f"{name}, {tag()}",
        f"{noun} {manner()}",
        f"{noun} {manner()}",
        f"{work()} {noun}",
        f"{work()} {noun}",
        f"{tag()}, {name}",
        rng.choice(
            (f"a picture of {noun}", f"a drawing of {noun}", f"an emoji of {noun}", f"an icon of {noun}")
        ),
    ]
    said = set(re.findall(r"[a-z]+", name.lower()))
    fresh = [colour for colour in colours if colour not in said and not (colour == "grey" and "gray" in said)]
    if fresh:
        paints = listed(fresh)
        joint = "in" if len(fresh) == len(colours) else "with"
        # "a red apple, with green and brown" beside "a house in brown, red and white".
        pool += [
            f"{noun} {joint} {paints}",
            f"{noun} {joint} {paints}, {tag()}",
            f"{noun} {manner()}, {joint} {paints}",
            f"{work()} {noun} {joint} {paints}",
            f"{name}, {', '.join(fresh)}",
        ]
        if joint == "in":
            rest = f" with some {listed(fresh[1:])}" if len(fresh) > 1 else ""
            pool += [
                f"{noun}, mostly {fresh[0]}{rest}, {tag()}",
                f"{_sentence(noun)} drawn {_drawn(manner())}, mostly {fresh[0]}{rest}.",
            ]
        else:
            pool.append(f"{_sentence(noun)} {manner()}, with some {paints}.")
    words = list(keywords)
    rng.shuffle(words)
    if words:
        pool += [
            f"{noun}, {', '.join(words[:2])}",
            f"{noun}, {', '.join(words[:3])}, {tag()}",
            f"{name}: {', '.join(words[-3:])}",
            f"{noun} ({words[0]}) {manner()}",
        ]
        # Keywords alone, as somebody asks who does not know the name. Never three, nor two and a tag: so the
        # fixed evaluation asks.
        for most in (2, 2, 4, 4):
            alone = rng.sample(words, min(most, len(words)))
            if len(alone) != 3:
                pool += [rng.choice((", ".join(alone), f"{work()} {' '.join(alone)}"))]
            pool += [f"{', '.join(rng.sample(words, min(2, len(words))))}, {manner()}"]
        if fresh:
            pool.append(f"{work()} {noun}, {', '.join(words[:2])}, {joint} {paints}")
            pool.append(f"{_sentence(noun)}, {', '.join(words[-2:])}, {manner()}, {joint} {paints}.")
    return pool


def _drawn(manner: str) -> str:
    return manner.removeprefix("drawn ")


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


_GROUND_FORMS = ("on {} ground", "on {} background", "on {} ground", "against {} background")


def with_ground(caption: str, colour: str) -> str:
    """The caption with its ground named: "a red apple on a pale blue ground".

    The wording is fixed by hash, so the same caption and colour always read the same.
    """
    form = _GROUND_FORMS[int(fraction("ground", caption, colour) * len(_GROUND_FORMS))]
    ground = form.format(f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}")
    body = caption.rstrip()
    end = "." if body.endswith(".") else ""
    body = body[: len(body) - len(end)]
    return f"{body}{',' if ',' in body or ':' in body else ''} {ground}{end}"


def trimmed_keywords(name: str, *lists: Sequence[str], rank: dict[str, int], most: int = 8) -> list[str]:
    """The keywords worth saying: new words, no colours, no chat shorthand; the commonest first."""
    said = {stem(word) for word in re.findall(r"\w+", name.lower())}
    banned = {*NAMES, name.lower(), *(_SEXES if said & _SEXES else ())}
    seen: dict[str, str] = {}
    for words in lists:
        for word in words:
            clean = word.strip().replace("’", "'")
            parts = [stem(part) for part in re.findall(r"\w+", clean.lower())]
            if len(clean) < 3 or not re.fullmatch(r"[A-Za-z' -]+", clean) or clean.isupper():
                continue
            if not set(parts) <= said and clean.lower() not in banned:
                seen.setdefault(" ".join(parts), clean)
    return sorted(seen.values(), key=lambda word: (-rank.get(word, 0), word))[:most]


_SEXES = frozenset("man men woman women boy girl male female person".split())
