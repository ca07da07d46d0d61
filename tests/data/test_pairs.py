"""Pairs are true or wrong by construction, balanced in form, and keep what scenes hold out."""

import dataclasses
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image

from limner.data import scenes
from limner.data.folder import Record, read
from limner.data.labels import labelled
from limner.data.pairs import Pair, Sentence, apart, pairs, secret, sentence_of, spoken, write
from limner.data.sample import sample_dir
from limner.data.words import named
from limner.errors import LimnerError

FORMS = {
    "plain": {"fits", "wrong thing"},
    "several": {"fits", "wrong thing"},
    "painted": {"fits", "wrong thing", "wrong colour"},
    "count": {"fits", "wrong thing", "wrong count"},
    "pair": {"fits", "wrong thing", "wrong relation"},
}


def records_of(number: int, *, test: bool = False) -> list[Record]:
    pool = scenes.sprites(read(sample_dir()).records)
    found = []
    for n in range(number):
        _, scene = scenes.compose(pool, seed=1, number=n, size=8, test=test)
        facts = {
            "items": [dataclasses.asdict(item) for item in scene.items],
            "relation": scene.relation,
            "split": "test" if test else "train",
        }
        found.append(Record(Path(f"{n:06d}.png"), tuple(dict.fromkeys(scene.captions)), facts))
    return found


def said_by(records: list[Record]) -> dict[str, list[Sentence]]:
    said = defaultdict(list)
    for record in records:
        said[sentence_of(record).form].append(sentence_of(record))
    return said


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return records_of(300)


@pytest.fixture(scope="module")
def made(records) -> list[list[Pair]]:
    said = said_by(records)
    return [pairs(record, said) for record in records]


def test_one_caption_is_the_scenes_own_and_the_others_are_not(records, made):
    for record, of_it in zip(records, made, strict=True):
        truth, *wrong = of_it
        assert truth.label == "fits"
        assert truth.caption in record.captions
        assert not {pair.caption for pair in wrong} & set(record.captions)


def test_every_scene_has_each_label_that_its_form_can_have_once(records, made):
    whole = 0
    for record, of_it in zip(records, made, strict=True):
        labels = [pair.label for pair in of_it]
        assert len(set(labels)) == len(labels)
        assert {"fits", "wrong thing"} <= set(labels) <= FORMS[sentence_of(record).form]
        whole += set(labels) == FORMS[sentence_of(record).form]
    # Of some pairs the opposite relation is held out.
    assert whole > 0.9 * len(records)


def test_a_wrong_caption_misses_by_what_its_label_says(made):
    words = {
        "wrong colour": set(scenes.PAINTS),
        "wrong count": {"two", "three", "four"},
        "wrong relation": {"left", "right", "above", "below"},
    }
    seen = Counter()
    for truth, *wrong in made:
        for pair in wrong:
            lost, new = (
                set(one.split()) - set(two.split()) - {"a", "an"}
                for one, two in ((truth.caption, pair.caption), (pair.caption, truth.caption))
            )
            assert lost
            assert new
            if pair.label in words:
                assert len(lost) == len(new) == 1
                assert lost | new <= words[pair.label]
            seen[pair.label] += 1
    assert set(seen) == {"wrong thing", *words}


def test_words_alone_tell_nothing_of_relations_and_counts(made):
    """As many times right as wrong, within what chance would do to three hundred scenes."""
    for words in (("left", "right", "above", "below"), ("two", "three", "four")):
        for word in words:
            fits, wrong = (
                sum(
                    word in pair.caption.split()
                    for of_it in made
                    for pair in of_it
                    if (pair.label == "fits") == true and pair.label != "wrong thing"
                )
                for true in (True, False)
            )
            assert abs(fits - wrong) < 4 * (fits + wrong) ** 0.5


def test_no_training_caption_names_what_is_held_out_from_either_side(records, made):
    names = {named(item["name"]): item["name"] for record in records for item in record.facts["items"]}
    relations = "|".join(scenes.RELATIONS)
    looked = Counter()
    for of_it in made:
        for pair in of_it:
            if found := re.fullmatch(f"(.+) ({relations}) (.+)", pair.caption):
                first, relation, second = found.groups()
                one, other = names[first], names[second]
                assert not scenes.held_out("pair", *scenes.one_way_round(one, other, relation))
                back = scenes.BACK[relation]
                assert not scenes.held_out("pair", *scenes.one_way_round(other, one, back))
                looked[pair.label] += 1
    assert min(looked[label] for label in ("fits", "wrong relation", "wrong thing")) > 50


def test_the_sentence_of_a_held_out_scene_is_secret_and_others_are_not(records):
    assert all(secret(sentence_of(record)) for record in records_of(60, test=True))
    assert not any(secret(sentence_of(record)) for record in records)


def test_pairs_are_a_function_of_the_record(records, made):
    said = said_by(records)
    assert [pairs(record, said) for record in records[::-1]][::-1] == made


def test_sentences_are_spoken_as_scenes_speak(records):
    for record in records:
        assert spoken(sentence_of(record)) in record.captions


@pytest.mark.parametrize(
    ("names", "far"),
    [
        (("dog", "cup"), True),
        (("cat", "cup"), False),
        (("cat face", "cup"), False),
        (("cats", "cup"), False),
        (("cup", "cup"), False),
    ],
)
def test_what_is_nearly_the_same_is_not_wrong(names, far):
    truth = Sentence(form="pair", names=("cat", "cup"), word="above")
    assert apart(truth, Sentence(form="pair", names=names, word="above")) is far


def test_a_record_that_is_no_scene_is_refused():
    with pytest.raises(LimnerError, match=r"a\.png is no scene, for its row has no items: give a folder"):
        sentence_of(Record(Path("a.png"), ("a cat",)))


# --- the folder ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("drawn") / "scenes"
    return scenes.write(sample_dir(), folder, count=12, size=16, tests=4, workers=1)


def test_pictures_are_linked_and_every_row_is_labelled(drawn, tmp_path):
    out = write(drawn, tmp_path / "pairs")
    assert (out / "train").is_symlink()
    found = read(out)
    assert not found.problems
    assert [record.file.read_bytes() for record in found.records] == [
        record.file.read_bytes() for record in read(drawn).records
    ]
    assert Counter(record.facts["split"] for record in found.records) == {"train": 12, "test": 4}
    for record, scene in zip(found.records, read(drawn).records, strict=True):
        assert tuple(record.labels) == record.captions
        (truth,) = (caption for caption, label in record.labels.items() if label == "fits")
        assert truth in scene.captions
    before = (out / "captions.jsonl").read_bytes()
    write(drawn, out)
    assert (out / "captions.jsonl").read_bytes() == before


def test_what_is_somebodys_own_is_not_lost(drawn, tmp_path):
    with pytest.raises(LimnerError, match="holds the scenes: give another folder"):
        write(drawn, drawn)
    own = tmp_path / "train"
    own.mkdir()
    with pytest.raises(LimnerError, match=r"cannot link .*train to .*: File exists; give another --out"):
        write(drawn, tmp_path)
    assert own.is_dir()
    assert not own.is_symlink()
    (tmp_path / "captions.jsonl").write_text('{"file": "mine.png", "caption": "mine"}\n')
    with pytest.raises(LimnerError, match="was not made by this command"):
        write(drawn, tmp_path)


# --- labels of any folder ------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["captions.jsonl", "captions.csv"])
def test_labels_are_of_a_picture_with_a_caption(tmp_path, table):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [("a cat", "right"), ("a dog", "wrong"), ("a bird", "")]
    if table.endswith("csv"):
        lines = ["file,caption,label", *(f"a.png,{caption},{label}" for caption, label in rows)]
    else:
        lines = [f'{{"file": "a.png", "caption": "{c}", "label": "{label}"}}' for c, label in rows]
    (tmp_path / table).write_text("\n".join(lines) + "\n")
    (record,) = read(tmp_path).records
    assert record.captions == ("a cat", "a dog", "a bird")
    assert record.labels == {"a cat": "right", "a dog": "wrong"}
    assert "label" not in record.facts
    assert [(one.picture, one.caption, one.label) for one in labelled([record])] == [
        (0, "a cat", "right"),
        (0, "a dog", "wrong"),
    ]


def test_a_caption_with_two_labels_keeps_the_first_and_is_a_problem(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = '{"file": "a.png", "captions": ["a cat"], "label": %s}\n'
    (tmp_path / "captions.jsonl").write_text(row % "1" + row % "2")
    found = read(tmp_path)
    assert found.records[0].labels == {"a cat": "1"}
    assert found.problems[0].reason == "'a cat' is labelled '1' and again '2'; the first was taken"
    with pytest.raises(
        LimnerError, match=r'1 different labels, .* give every row of captions\.jsonl a "label"'
    ):
        labelled(found.records)
