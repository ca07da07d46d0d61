"""Captions that fit a scene beside captions that miss it by one word: does this one describe this picture?

Every scene has its own caption once and each error that such a caption can have once, all in the same form,
so that nobody who reads the captions alone knows which is which: other things, colours and counts are drawn
as often as true captions have them, and a relation is turned into its opposite, of which there are as many.
"""

import json
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from limner.data.emoji import only_made_here, replace_text
from limner.data.folder import Record, read
from limner.data.scenes import (
    BACK,
    COUNTS,
    MADE,
    PAINTS,
    RELATIONS,
    held_out,
    one_way_round,
    plural,
    without_colour,
)
from limner.data.words import named, stem
from limner.draws import mix
from limner.errors import LimnerError

Form = Literal["plain", "painted", "count", "pair", "several"]
Label = Literal["fits", "wrong colour", "wrong count", "wrong relation", "wrong thing"]
# Where a combination is held out another one is drawn, so often at most.
ATTEMPTS = 50


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """What a scene says: the names of its things, and the one word that is said of them.

    `word`: the colour of a painted thing, the count of several that are alike, or the relation of a pair.
    """

    form: Form
    names: tuple[str, ...]
    word: str = ""


@dataclass(frozen=True)
class Pair:
    """A caption for a scene, and whether it fits or what is wrong with it."""

    caption: str
    label: Label


def sentence_of(record: Record) -> Sentence:
    """What a scene's facts say. Raises LimnerError for a record that is no scene."""
    items, relation = record.facts.get("items"), record.facts.get("relation")
    if not isinstance(items, list) or not items:
        raise LimnerError(
            f"{record.file} is no scene, for its row has no items: give a folder that `limner data scenes` "
            "has made"
        )
    names = tuple(str(item["name"]) for item in items)
    if relation is not None:
        return Sentence(form="pair", names=names, word=str(relation))
    if len(names) == 1 and (colour := items[0].get("colour")) is not None:
        return Sentence(form="painted", names=names, word=str(colour))
    if len(names) == 1:
        return Sentence(form="plain", names=names)
    if len(set(names)) == 1:
        return Sentence(form="count", names=names[:1], word=COUNTS[len(names)])
    return Sentence(form="several", names=names)


def spoken(sentence: Sentence) -> str:
    """The words of a sentence, as scenes say them."""
    if sentence.form == "painted":
        return named(f"{sentence.word} {sentence.names[0]}")
    if sentence.form == "count":
        return f"{sentence.word} {plural(sentence.names[0])}"
    nouns = [named(name) for name in sentence.names]
    if sentence.form == "pair":
        return f"{nouns[0]} {sentence.word} {nouns[1]}"
    return nouns[0] if sentence.form == "plain" else ", ".join(nouns[:-1]) + " and " + nouns[-1]


def secret(sentence: Sentence) -> bool:
    """Whether scenes keep this combination from training."""
    first, word = sentence.names[0], sentence.word
    if sentence.form == "pair":
        (relation,) = (each for each in RELATIONS if each == word)
        return held_out("pair", *one_way_round(first, sentence.names[1], relation))
    if sentence.form == "count":
        (number,) = (number for number, said in COUNTS.items() if said == word)
        return held_out("count", first, str(number))
    if sentence.form == "several":
        return held_out("several", *sorted(sentence.names))
    said = word or next((each for each in first.split() if each in PAINTS), "")
    return held_out("colour", without_colour(first), said)


def wrong_word(sentence: Sentence, others: Sequence[Sentence], choose: random.Random) -> Sentence:
    """Another colour or count, as `others` of the same form have them; of a relation the opposite."""
    if sentence.form == "pair":
        (relation,) = (each for each in RELATIONS if each == sentence.word)
        return replace(sentence, word=BACK[relation])
    words = [other.word for other in others if other.word != sentence.word]
    return replace(sentence, word=choose.choice(words) if words else sentence.word)


def wrong_thing(sentence: Sentence, others: Sequence[Sentence], choose: random.Random) -> Sentence:
    """Another thing in the place of one, of `others` of the same form."""
    place = choose.randrange(len(sentence.names))
    name = choose.choice(choose.choice(others).names)
    return replace(sentence, names=(*sentence.names[:place], name, *sentence.names[place + 1 :]))


def apart(sentence: Sentence, other: Sentence) -> bool:
    """Whether they differ, and in more than "cat" and "cat face" do."""
    known = {stem(word) for name in sentence.names for word in name.split()}
    fresh = {stem(word) for name in other.names if name not in sentence.names for word in name.split()}
    return sentence != other and len(set(other.names)) == len(other.names) and not fresh & known


# The name of what is wrong, where another word is said.
WORD_ERRORS: dict[Form, Label] = {"painted": "wrong colour", "count": "wrong count", "pair": "wrong relation"}


def pairs(record: Record, said: Mapping[Form, Sequence[Sentence]]) -> list[Pair]:
    """A scene's captions: one that fits, then one of each error; a function of the record and of `said`.

    `said`: what all scenes of the folder say, by form; other words and things come from there. For a scene of
    the training split no caption, however wrong, names a combination that is held out, from either side.
    """
    choose = random.Random(mix("pairs", record.captions[0], record.file.name))
    truth = sentence_of(record)
    others = said[truth.form]
    if truth.form == "pair" and choose.random() < 0.5:
        (relation,) = (each for each in RELATIONS if each == truth.word)
        truth = replace(truth, names=truth.names[::-1], word=BACK[relation])
    form = choose.choice([each for each in manners(record) if each.format(spoken(truth)) in record.captions])
    training = record.facts.get("split") != "test"
    found = [Pair(form.format(spoken(truth)), "fits")]
    kinds: list[tuple[Label, Iterator[Sentence]]] = [
        ("wrong thing", (wrong_thing(truth, others, choose) for _ in range(ATTEMPTS)))
    ]
    if truth.form in WORD_ERRORS:
        words = (wrong_word(truth, others, choose) for _ in range(ATTEMPTS))
        kinds.append((WORD_ERRORS[truth.form], words))
    for label, candidates in kinds:
        good = (each for each in candidates if apart(truth, each) and not (training and secret(each)))
        if (wrong := next(good, None)) is not None:
            found.append(Pair(form.format(spoken(wrong)), label))
    return found


def manners(record: Record) -> list[str]:
    """How captions of scenes begin and end."""
    styles = [caption.rpartition(", ")[2] for caption in record.captions if caption.endswith(" style")]
    return ["{}", "a picture of {}", *(f"{{}}, {style}" for style in styles)]


def write(scenes: Path, out: Path) -> Path:
    """Pair the scenes in a folder with right and wrong captions; a data folder whose pictures are links.

    Raises LimnerError when `out` holds pictures or captions of its own, or cannot hold links.
    """
    if out.resolve() == scenes.resolve():
        raise LimnerError(f"{out} holds the scenes: give another folder for the pairs")
    only_made_here(out, MADE)
    records = read(scenes).records
    said: defaultdict[Form, list[Sentence]] = defaultdict(list)
    for record in records:
        sentence = sentence_of(record)
        said[sentence.form].append(sentence)
    files = [record.file.relative_to(scenes) for record in records]
    out.mkdir(parents=True, exist_ok=True)
    for part in sorted({file.parts[0] for file in files}):
        _link(out / part, scenes.resolve() / part)
    rows = [
        {
            "file": file.as_posix(),
            "caption": pair.caption,
            "label": pair.label,
            "split": record.facts["split"],
        }
        for file, record in zip(files, records, strict=True)
        for pair in pairs(record, said)
    ]
    credit = scenes / "ATTRIBUTION.md"
    if credit.exists():
        replace_text(out / "ATTRIBUTION.md", credit.read_text(encoding="utf-8"))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_text(out / "captions.jsonl", text)
    return out


def _link(link: Path, target: Path) -> None:
    """A link to a folder, in the place of an older one."""
    if link.is_symlink():
        link.unlink()
    try:
        os.symlink(target, link, target_is_directory=True)
    except OSError as error:
        raise LimnerError(
            f"cannot link {link} to {target}: {error.strerror or error}; give another --out"
        ) from error
