"""Six hundred prompts that every painter is asked for, fixed once: training changes weights, never these.

Five groups, each of what the judge knows, chosen by hash: 200 names in a style that training has seen them
in; 100 pairs of style and name that it has never seen together; 100 names paraphrased, by keywords that share
no word with them; 100 colour bindings, thing, its colour and the ground's, of things and colours that it has
never seen together; 100 counts and relations, of things that it has never seen so many or so placed.

The list is `emoji600.json` beside this file. `chosen` is how it came about.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations, product
from typing import Literal, get_args

import dacite

from limner.data.captions import STYLES
from limner.data.colours import GROUNDS
from limner.data.colours import NAMES as COLOURS
from limner.data.folder import Record
from limner.data.scenes import (
    COUNTS,
    PAINTS,
    RELATIONS,
    Relation,
    Sprite,
    held_out,
    one_way_round,
    paintable,
    plural,
    sprites,
)
from limner.data.splits import fraction
from limner.data.words import named, stem
from limner.evaluation.names import plain

Group = Literal["name", "pair", "paraphrase", "colour", "relation", "count"]
GROUPS: tuple[Group, ...] = get_args(Group)
FILE = "emoji600.json"
NAMES, PAIRS, PARAPHRASES, BINDINGS, LAYOUTS = 200, 100, 100, 100, 100
# A thing takes part in so many colour bindings at most, each of another ground.
PER_THING = 4
# A paraphrase says from two to three keywords, one of which says nearly all: so few things share it.
KEYWORDS, FEWEST, SHARED = 3, 2, 2


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt, and what must be seen in its picture.

    `names` and `hexcodes` are of the things, `styles` of the real drawings of them that stand beside the
    painting; the prompt says a style where the group is of single drawings. `colour` and `ground` are a
    binding's, `relation` is of the first thing to the second, `count` is of the one thing there is.
    """

    group: Group
    prompt: str
    names: tuple[str, ...]
    hexcodes: tuple[str, ...]
    styles: tuple[str, ...]
    colour: str | None = None
    ground: str | None = None
    relation: Relation | None = None
    count: int = 1


@cache
def requests() -> tuple[Request, ...]:
    """The list, in its order: group by group."""
    rows = json.loads((files("limner.evaluation") / FILE).read_bytes())
    return tuple(dacite.from_dict(Request, row, dacite.Config(cast=[tuple], strict=True)) for row in rows)


def written(asked: Sequence[Request]) -> str:
    """A list as it lies in the file: JSON, a line for each prompt, without what a request does not say."""
    lines = []
    for one in asked:
        said = {key: value for key, value in vars(one).items() if value is not None}
        if one.group != "count":
            del said["count"]
        lines.append(json.dumps(said, ensure_ascii=False))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def digest(asked: Sequence[Request]) -> str:
    """The first digits of the SHA-256 of a list: tables of one digest are of the same prompts."""
    return hashlib.sha256(written(asked).encode()).hexdigest()[:12]


def chosen(drawings: Sequence[Record], scenes: Sequence[Record], known: Mapping[str, str]) -> list[Request]:
    """What the hash takes of the painters' folder, for a judge that knows `known` (hexcode → name).

    `scenes`: the composed pictures of the painters, for what stands together there already.
    """
    ours = [record for record in drawings if plain(record) and record.facts["hexcode"] in known]
    trained = [record for record in ours if record.facts["split"] == "train"]
    by_name = _names(trained)
    taken = {(one.styles[0], one.hexcodes[0]) for one in by_name}
    pool = sprites(trained)
    counts = _counts(pool)
    relations = _relations(pool, scenes)[: LAYOUTS - len(counts)]
    return [
        *by_name,
        *_pairs([record for record in ours if record.facts["split"] == "pair"]),
        *_paraphrases(trained, [record for record in drawings if plain(record)], taken),
        *_bindings(pool, trained),
        *relations,
        *counts,
    ]


def order(group: Group, *words: str) -> float:
    """Where the hash puts something within its group; no random state and no order of files."""
    return fraction("emoji600", group, *words)


def _facts(record: Record) -> tuple[str, str, str]:
    return str(record.facts["name"]), str(record.facts["hexcode"]), str(record.facts["style"])


def _single(group: Group, record: Record, prompt: str) -> Request:
    name, hexcode, style = _facts(record)
    return Request(group=group, prompt=prompt, names=(name,), hexcodes=(hexcode,), styles=(style,))


def _names(trained: Iterable[Record]) -> list[Request]:
    """Each name once, in the first of its styles."""

    def place(record: Record) -> float:
        _, hexcode, style = _facts(record)
        return order("name", style, hexcode)

    first: dict[str, Record] = {}
    for record in sorted(trained, key=place):
        first.setdefault(_facts(record)[1], record)
    best = sorted(first.values(), key=place)[:NAMES]
    return [_single("name", record, f"{named(_facts(record)[0])}, {_tag(record)}") for record in best]


def _tag(record: Record) -> str:
    return STYLES[_facts(record)[2]].tags[0]


def _pairs(held: Iterable[Record]) -> list[Request]:
    """All pairs that are held out, in the words of the caption; then some again in other words."""
    ordered = sorted(held, key=lambda record: order("pair", _facts(record)[2], _facts(record)[1]))
    said = [_single("pair", record, f"{named(_facts(record)[0])}, {_tag(record)}") for record in ordered]
    again = [
        _single("pair", record, f"{STYLES[_facts(record)[2]].works[0]} {named(_facts(record)[0])}")
        for record in ordered
    ]
    return (said + again)[:PAIRS]


def _paraphrases(
    trained: Iterable[Record], everything: Iterable[Record], taken: set[tuple[str, str]]
) -> list[Request]:
    """Things by what else they are called or stand for: "bunny, pet, flat style" for a rabbit."""
    said = {_facts(record)[1]: _keywords(record) for record in everything}
    sharing = Counter(word for words in said.values() for word in words)
    names = {_facts(record)[0] for record in trained}
    free = sorted(
        (record for record in trained if (_facts(record)[2], _facts(record)[1]) not in taken),
        key=lambda record: order("paraphrase", _facts(record)[2], _facts(record)[1]),
    )
    found: dict[str, Request] = {}
    for record in free:
        name, hexcode, _ = _facts(record)
        words = [word for word in said[hexcode] if fresh(word, name)]
        words.sort(key=lambda word: (sharing[word], order("paraphrase", hexcode, word)))
        if len(words) < FEWEST or sharing[words[0]] > SHARED:
            continue
        # "shooting, star" for a dizzy spell would ask for something else.
        if not any(_words(other) <= _words(" ".join(words[:KEYWORDS])) for other in names):
            prompt = f"{', '.join(words[:KEYWORDS])}, {_tag(record)}"
            found.setdefault(hexcode, _single("paraphrase", record, prompt))
    return [*found.values()][:PARAPHRASES]


def _keywords(record: Record) -> list[str]:
    words: object = record.facts.get("keywords", ())
    assert isinstance(words, list | tuple)
    return [str(word).lower() for word in words]


def fresh(words: str, name: str) -> bool:
    """Whether `words` hold none of the name's, nor one that begins alike ("swim" and "swimming")."""

    def roots(text: str) -> set[str]:
        return {stem(word)[:4] for word in _words(text)}

    return not roots(words) & roots(name)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def _bindings(pool: Sequence[Sprite], trained: Iterable[Record]) -> list[Request]:
    """Things in colours that no scene of training gives them, nor any drawing; on a ground of another hue."""
    natural: dict[str, set[str]] = {}
    hexcodes: dict[str, str] = {}
    for record in trained:
        name, hexcode, _ = _facts(record)
        colours: object = record.facts["colours"]
        assert isinstance(colours, list | tuple)
        natural.setdefault(name, set()).update(str(colour) for colour in colours)
        hexcodes[name] = hexcode
    options: list[tuple[float, Request]] = []
    for name, colour in product(sorted({sprite.name for sprite in pool}), PAINTS):
        if (
            set(COLOURS) & set(name.split())
            or colour in natural[name]
            or not held_out("colour", name, colour)
        ):
            continue
        able = [s for s in pool if s.name == name and paintable(s, colour)]
        if not able:
            continue
        grounds = [ground for ground in GROUNDS if ground != "white" and colour not in ground.split()]
        grounds.sort(key=lambda ground: order("colour", name, colour, ground))
        for ground in grounds[:PER_THING]:
            drawn = min(able, key=lambda s: order("colour", name, colour, ground, s.style))
            one = Request(
                group="colour",
                prompt=f"{named(f'{colour} {name}')} on {_a(ground)} ground",
                names=(name,),
                hexcodes=(hexcodes[name],),
                styles=(drawn.style,),
                colour=colour,
                ground=ground,
            )
            # Every thing once before any comes twice.
            options.append((grounds.index(ground) + order("colour", name, colour, ground), one))
    return [one for _, one in sorted(options, key=lambda option: option[0])][:BINDINGS]


def _a(ground: str) -> str:
    return f"{'an' if ground[0] in 'aeiou' else 'a'} {ground}"


def _hexcode(sprite: Sprite) -> str:
    return sprite.file.stem.upper()


def _one_of(pool: Sequence[Sprite], group: Group, name: str) -> Sprite:
    """The drawing of a name that the hash takes."""
    return min((s for s in pool if s.name == name), key=lambda s: order(group, name, s.style))


def _counts(pool: Sequence[Sprite]) -> list[Request]:
    """All things in numbers that are held out."""
    found = []
    for name, count in product(sorted({sprite.name for sprite in pool}), COUNTS):
        # "two wine glass": some plurals are not what one would say.
        if named(name) != name and not name.endswith("s") and held_out("count", name, str(count)):
            sprite = _one_of(pool, "count", name)
            found.append(
                Request(
                    group="count",
                    prompt=f"{COUNTS[count]} {plural(name)}",
                    names=(name,),
                    hexcodes=(_hexcode(sprite),),
                    styles=(sprite.style,),
                    count=count,
                )
            )
    return sorted(found, key=lambda one: order("count", one.prompt))


def _relations(pool: Sequence[Sprite], scenes: Iterable[Record]) -> list[Request]:
    """Two things placed as they are never seen, that stand together in no scene of training; each once."""
    together = {pair for scene in scenes if scene.facts["split"] == "train" for pair in _together(scene)}
    names = sorted({sprite.name for sprite in pool})
    options = [
        (first, second, relation)
        for first, second, relation in product(names, names, RELATIONS)
        if first != second
        and held_out("pair", *one_way_round(first, second, relation))
        and (min(first, second), max(first, second)) not in together
    ]
    options.sort(key=lambda option: order("relation", *option))
    used: set[str] = set()
    found = []
    for first, second, relation in options:
        if used & {first, second}:
            continue
        used |= {first, second}
        drawn = [_one_of(pool, "relation", name) for name in (first, second)]
        found.append(
            Request(
                group="relation",
                prompt=f"{named(first)} {relation} {named(second)}",
                names=(first, second),
                hexcodes=tuple(_hexcode(sprite) for sprite in drawn),
                styles=tuple(sprite.style for sprite in drawn),
                relation=relation,
            )
        )
    return found


def _together(scene: Record) -> Iterator[tuple[str, str]]:
    items: object = scene.facts["items"]
    assert isinstance(items, list | tuple)
    yield from combinations(sorted({str(item["name"]) for item in items}), 2)
