"""Bits per token: by hand, and of models whose every probability is known."""

import math
from dataclasses import replace

import pytest
import torch

from limner.dalle1 import NOTHING, CaptionedTokens, Dalle1, Dalle1Config
from limner.data.folder import read as records
from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.dvae import DVae, DVaeConfig
from limner.evaluation.likelihood import (
    bits,
    compared,
    likelihood,
    model_bits,
    plain,
    read,
    unigram,
    unigram_bits,
)
from limner.text import CaptionTokenizer

CONFIG = Dalle1Config(
    text_context=40,
    text_vocabulary=400,
    image_vocabulary=16,
    grid=4,
    width=16,
    heads=2,
    pattern=("row", "convolution"),
    kernel=3,
    activation="gelu",
)
# 0 0 1 and 1; a picture of 0 0 0 1 and one of 1 1 1 1.
TOKENS = CaptionedTokens(
    torch.tensor([[0, 0, 1], [1, NOTHING, NOTHING]]), torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]])
)


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    said = [caption for record in records(sample_dir()).records for caption in record.captions]
    return CaptionTokenizer.train(said, 400)


@pytest.fixture(scope="module")
def dvae() -> DVae:
    torch.manual_seed(0)
    config = DVaeConfig(
        resolution=16,
        vocabulary=16,
        codebook=8,
        widths=(8, 16),
        blocks=1,
        poolings=1,
        stem=3,
        gain=0.5,
        patch=2,
    )
    return DVae(config).eval()


def knowing(log_text: torch.Tensor, log_image: torch.Tensor) -> Dalle1:
    """A model that answers anything with these probabilities."""
    torch.manual_seed(0)
    model = Dalle1(CONFIG).eval()
    torch.nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias.copy_(torch.cat([log_text, log_image]))
    return model


def test_counting_by_hand():
    """Seen 0 0 0 and NOTHING: one more of each makes 4/6, 1/6, 1/6."""
    found = unigram(torch.tensor([[0, 0, 0, NOTHING]]), 3)
    assert found.exp().tolist() == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    # Of text 2 zeros and 2 ones: a half each. Of images 3 zeros and 5 ones: 4/10 and 6/10.
    counted = unigram_bits(TOKENS, TOKENS, 2, 2)
    assert counted.text.tolist() == [[1, 1, 1], [1, 0, 0]]
    zero, one = -math.log2(0.4), -math.log2(0.6)
    assert counted.image.flatten().tolist() == pytest.approx([zero, zero, zero, one, one, one, one, one])


def test_bits_by_hand():
    """Probabilities 1/4 and 3/4, whatever the scale of the logits began at."""
    logits = torch.tensor([1.0, 3.0]).log().expand(1, 3, 2) + 7
    found = bits(logits, torch.tensor([[0, 1, NOTHING]]))
    assert found[0].tolist() == pytest.approx([2, math.log2(4 / 3), 0])


def test_means_are_over_tokens_and_not_over_captions():
    model = unigram_bits(TOKENS, TOKENS, 2, 2)
    model.text[0] = torch.tensor([2.0, 4.0, 5.0])
    found = compared(model, unigram_bits(TOKENS, TOKENS, 2, 2), TOKENS, concepts=["a", "b"], seed=0)
    # 2 + 4 + 5 and 1, over four tokens; where only one caption is drawn, 11/3 or 1.
    assert (found.text.value, found.text.low, found.text.high) == pytest.approx((3, 1, 11 / 3))
    assert found.text_unigram.value == found.text_unigram.high == 1
    assert found.image.value == pytest.approx((-3 * math.log2(0.4) - 5 * math.log2(0.6)) / 8)
    assert found.image == found.image_unigram


def test_a_model_is_asked_of_each_token_given_those_before():
    torch.manual_seed(1)
    config = replace(CONFIG, text_context=4, text_vocabulary=5, image_vocabulary=3, grid=2)
    model = Dalle1(config).eval()
    with torch.no_grad():
        model.head.weight.mul_(50)
    found = model_bits(model, TOKENS)
    logits = model(TOKENS.text, TOKENS.image)
    for row, place in ((0, 2), (1, 0)):
        p = logits.text[row, place].softmax(dim=0)[TOKENS.text[row, place]]
        assert found.text[row, place].item() == pytest.approx(-math.log2(p.item()), rel=1e-4)
    assert found.text[1, 1:].tolist() == [0, 0]
    p = logits.image[0, 3].softmax(dim=0)[1]
    assert found.image[0, 3].item() == pytest.approx(-math.log2(p.item()), rel=1e-4)


@pytest.mark.parametrize("split", ["pair", "concept"])
def test_a_model_to_which_all_is_alike_pays_for_its_vocabulary(tokenizer, dvae, split):
    model = knowing(torch.zeros(400), torch.zeros(16))
    found = likelihood(model, tokenizer, dvae, sample_dir(), split=split)
    assert found.text.value == pytest.approx(math.log2(400), abs=1e-5)
    assert found.text.low == pytest.approx(found.text.high)
    assert found.image.value == pytest.approx(4, abs=1e-5)
    # Who has counted pays less, and words of unseen captions are not what they were.
    assert found.image_unigram.value < 4
    assert found.text_unigram.value < math.log2(400)
    assert found.image.total == found.text_unigram.total > 5


def test_a_model_that_has_counted_is_its_baseline(tokenizer, dvae):
    trained = open_gallery([sample_dir()], size=16)
    seen = read(tokenizer, dvae, trained, plain(trained), length=CONFIG.caption)
    model = knowing(unigram(seen.text, 400), unigram(seen.image, 16))
    found = likelihood(model, tokenizer, dvae, sample_dir(), split="concept")
    for ours, baseline in ((found.text, found.text_unigram), (found.image, found.image_unigram)):
        assert ours.value == pytest.approx(baseline.value, rel=1e-5)
        assert (ours.low, ours.high) == pytest.approx((baseline.low, baseline.high), rel=1e-5)


def test_parts_of_another_training_are_refused(tokenizer, dvae):
    with pytest.raises(ValueError, match="dvae: 4² tokens of 16, but this model writes 8² of 16"):
        likelihood(Dalle1(replace(CONFIG, grid=8)), tokenizer, dvae, sample_dir(), split="pair")
    with pytest.raises(ValueError, match="tokenizer: 400 tokens, but this model knows 300"):
        likelihood(Dalle1(replace(CONFIG, text_vocabulary=300)), tokenizer, dvae, sample_dir(), split="pair")
