"""Zero-shot classes: sentences as people say them, ensembles by hand, probabilities by their definition."""

import pytest
import torch

from limner.clip import (
    TEMPLATES,
    Clip,
    ClipConfig,
    TextConfig,
    VisionConfig,
    class_embeddings,
    probabilities,
    unit,
)
from limner.clip.zero_shot import READ_AT_ONCE, said
from limner.text import ClipTokenizer

TOKENIZER = ClipTokenizer(514)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    config = ClipConfig(
        vision=VisionConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
        text=TextConfig(context=40, vocabulary=514, width=16, layers=1, heads=2),
        embedding=8,
        activation="quick_gelu",
    )
    return Clip(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("template", "label", "expected"),
    [
        ("a {}", "apple", "an apple"),
        ("a picture of an {}", "pear", "a picture of a pear"),
        ("A {} on white", "grapes", "grapes on white"),
        ("an icon of a {}", "flag of France", "an icon of the flag of France"),
        ("a {}", "a cat", "a cat"),
        ("a red {}", "apple", "a red apple"),
        ("{}, or the {}", "cat", "cat, or the cat"),
        ("extra {}", "apple", "extra apple"),
        ("a {}", r"\1 cat", r"a \1 cat"),
    ],
)
def test_a_label_is_said_with_the_article_that_it_takes(template, label, expected):
    assert said(template, label) == expected


def test_the_templates_are_different_sentences_and_one_is_plain():
    assert "a {}" in TEMPLATES
    assert len({said(template, "apple") for template in TEMPLATES}) == len(TEMPLATES)


def test_an_ensemble_is_encoded_made_unit_averaged_and_made_unit(clip):
    templates = ["a {}", "see the {} here", "{}"]
    found = class_embeddings(clip, TOKENIZER, ["apple", "cat"], templates)
    sentences = (
        ["an apple", "see the apple here", "apple"],
        ["a cat", "see the cat here", "cat"],
    )
    for row, texts in zip(found, sentences, strict=True):
        ids = TOKENIZER(texts, 40)
        each = [clip.encode_text(one[None]).pooled[0] for one in ids]
        mean = sum(one / one.norm() for one in each) / 3
        torch.testing.assert_close(row, mean / mean.norm())
        # Averaging what is not yet unit, or logits, is something else.
        assert not torch.allclose(row, unit(torch.stack(each).mean(dim=0)), atol=1e-4)


def test_one_template_is_the_sentence_itself(clip):
    found = class_embeddings(clip, TOKENIZER, ["cat"], ["a {}"])
    torch.testing.assert_close(found, unit(clip.encode_text(TOKENIZER(["a cat"], 40)).pooled))


def test_more_sentences_than_are_read_at_once(clip):
    labels = [f"thing {number}" for number in range(READ_AT_ONCE // 2 + 1)]
    found = class_embeddings(clip, TOKENIZER, labels, ["a {}", "{}"])
    assert found.shape == (len(labels), 8)
    torch.testing.assert_close(found[-1:], class_embeddings(clip, TOKENIZER, labels[-1:], ["a {}", "{}"]))


def test_probabilities_by_their_definition():
    images, classes = unit(torch.randn(3, 4)), unit(torch.randn(5, 4))
    found = probabilities(images, classes, torch.tensor(7.0))
    expected = torch.tensor(
        [
            [
                float(torch.exp(7 * i @ c) / sum(torch.exp(7 * i @ other) for other in classes))
                for c in classes
            ]
            for i in images
        ]
    )
    torch.testing.assert_close(found, expected)
