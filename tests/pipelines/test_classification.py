"""`classify`: probabilities of labels, those of the towers put together by hand, and what it refuses."""

import json

import pytest
import torch
from PIL import Image

from limner.clip import class_embeddings, unit
from limner.data.sample import sample_dir
from limner.pipelines import classify
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.pictures import open_picture, seen


def test_probabilities_are_the_towers_put_together(line):
    images = [Image.new("RGB", (30, 20), "red"), Image.new("RGBA", (16, 16), (0, 0, 255, 90))]
    labels, templates = ["cat", "apple", "grapes"], ["a {}", "see a {}"]
    found = classify(images, labels, templates=templates, weights=line)
    painter = Dalle2.load(line)
    clip = painter.clip
    with torch.no_grad():
        classes = class_embeddings(clip, painter.tokenizer, labels, templates)
        logits = clip.scale * unit(clip.encode_image(seen(images, 16)).pooled) @ classes.T
    for one, expected in zip(found, logits.softmax(dim=1), strict=True):
        assert list(one) == labels
        assert list(one.values()) == pytest.approx(expected.tolist(), abs=1e-6)
        assert sum(one.values()) == pytest.approx(1)


def test_the_shipped_clip_names_what_it_has_seen():
    rows = [json.loads(line) for line in (sample_dir() / "captions.jsonl").read_text().splitlines()]
    wanted = ("red apple", "rocket", "banana", "umbrella", "soccer ball")
    chosen = [row for row in rows if row["name"] in wanted and row["split"] == "train"]
    found = classify([open_picture(sample_dir() / row["file"]) for row in chosen], wanted)
    hits = sum(max(one, key=one.get) == row["name"] for one, row in zip(found, chosen, strict=True))
    assert hits >= 0.9 * len(chosen) > 10


def test_what_cannot_be_classified_is_refused(line):
    image = Image.new("RGB", (8, 8))
    for images, labels, templates, words in (
        ([], ["cat", "dog"], ["{}"], "images is empty"),
        ([image], [], ["{}"], "labels is empty: give at least two to choose from"),
        ([image], ["cat"], ["{}"], "labels is 'cat' alone: give at least two"),
        ([image], ["cat", " "], ["{}"], "labels holds ' ': give each class a name"),
        ([image], ["cat", "dog", "Cat "], ["{}"], "labels holds 'cat' and 'Cat ', which CLIP reads alike"),
        ([image], ["cat", "d" * 1001], ["{}"], "label is 1001 characters long"),
        ([image], ["cat", "&#32;"], ["{}"], "label is '&#32;', without a word"),
        ([image], ["cat", "dog"], [], "templates is empty"),
        ([image], ["cat", "dog"], ["a cat"], r"templates holds 'a cat', without a \{\} where the label goes"),
    ):
        with pytest.raises(ValueError, match=words):
            classify(images, labels, templates=templates, weights=line)


def test_a_clip_of_noised_pictures_is_refused(glide_line):
    from limner.errors import LimnerError

    with pytest.raises(LimnerError, match="holds the CLIP that guides GLIDE"):
        classify([Image.new("RGB", (8, 8))], ["cat", "dog"], weights=glide_line)
