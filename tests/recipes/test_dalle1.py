"""DALL-E 1's recipe from pictures to a line on the disk, with networks that learn in seconds."""

import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.dalle1 import NOTHING, CaptionedTokens, Dalle1, Dalle1Config
from limner.dalle1.objective import uniform_loss
from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.dvae import DVae, DVaeConfig
from limner.errors import LimnerError
from limner.recipes import dalle1
from limner.text import CaptionTokenizer

STEPS = 40


@pytest.fixture(scope="module")
def dvae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was never trained, whose tokens tell of the pictures all the same."""
    torch.manual_seed(0)
    config = DVaeConfig(
        resolution=16,
        vocabulary=32,
        codebook=8,
        widths=(8, 16),
        blocks=1,
        poolings=1,
        stem=3,
        gain=0.5,
        patch=2,
    )
    folder: Path = tmp_path_factory.mktemp("dvae")
    checkpoint.save(folder, DVae(config).state_dict(), config)
    return folder


def tiny() -> dalle1.Dalle1Recipe:
    toy = dalle1.toy()
    model = replace(toy.model, image_vocabulary=32, grid=4, width=48, pattern=("row", "convolution"))
    training = replace(
        toy.train,
        steps=STEPS,
        warmup=5,
        learning_rate=1e-2,
        ema=0.9,
        save_every=STEPS // 2,
        sample_every=STEPS,
    )
    return replace(toy, model=model, train=training)


def run(out: Path, dvae: Path, *, resume: bool = False, recipe: dalle1.Dalle1Recipe | None = None) -> Path:
    return dalle1.run(
        tiny() if recipe is None else recipe,
        folders=[sample_dir()],
        share=None,
        out=out,
        resume=resume,
        device="cpu",
        dvae=dvae,
    )


@pytest.fixture(scope="module")
def trained(dvae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("dalle1")
    assert run(out, dvae) == out / "line"
    return out


def test_it_learns_more_than_counts(trained, dvae):
    losses = [json.loads(line)["loss"] for line in (trained / "log.jsonl").read_text().splitlines()]
    gallery = open_gallery([sample_dir()], size=16)
    tokenizer = CaptionTokenizer.load(trained / "bpe.json")
    (kept,) = trained.glob("codes_*.npy")
    assert checkpoint.digest(dvae) in kept.name
    batches = dalle1.TokenBatches(gallery, np.load(kept), tokenizer, tiny().model.caption, 0.1, 12)
    counted = dalle1.unigram_loss(batches(0, range(256)), tiny().model)
    uniform = uniform_loss(tiny().model.text_vocabulary, tiny().model.image_vocabulary)
    assert losses[0] == pytest.approx(uniform, rel=0.2)
    assert sum(losses[-5:]) / 5 < 0.98 * counted < counted < uniform


def test_the_line_holds_both_as_they_ship(trained, dvae, compact_as_learned):
    line = trained / "line"
    config, state = checkpoint.load(line / "transformer", Dalle1Config)
    assert config == tiny().model
    _, learned = checkpoint.load(trained / "model", Dalle1Config)
    assert compact_as_learned(state, learned)
    checkpoint.load_into(Dalle1(config), state)
    dvae_config, dvae_state = checkpoint.load(line / "dvae", DVaeConfig)
    original, weights = checkpoint.load(dvae, DVaeConfig)
    assert dvae_config == original
    assert all(torch.equal(dvae_state[name], weights[name].bfloat16()) for name in weights)
    assert (line / "transformer" / "bpe.json").read_bytes() == (trained / "bpe.json").read_bytes()


def test_the_line_paints(trained, tmp_path):
    line = shutil.copytree(trained / "line", tmp_path / "line")
    config = ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=32, layers=1, heads=2),
        text=TextConfig(context=32, vocabulary=600, width=32, layers=1, heads=2),
        embedding=16,
        activation="quick_gelu",
    )
    checkpoint.save(line / "clip", Clip(config).state_dict(), config)
    (picture,) = limner.load("dalle1", weights=line).paint("a red apple on a pale blue ground")
    assert picture.size == (16, 16)


def test_paintings_are_shown(trained):
    (sample,) = (trained / "samples").iterdir()
    with Image.open(sample) as opened:
        assert opened.size == (dalle1.COLUMNS * 16, dalle1.SAMPLES // dalle1.COLUMNS * 16)


def test_its_words_know_of_grounds_and_fit(trained):
    tokenizer = CaptionTokenizer.load(trained / "bpe.json")
    assert tokenizer.vocab_size == tiny().model.text_vocabulary
    assert len(tokenizer.encode("ground")) == 1
    gallery = open_gallery([sample_dir()], size=16)
    captions = gallery.draw(seed=1, step=0, rows=range(500)).captions
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(captions, dalle1.toy().model.caption)


def test_training_goes_on_from_a_transformer_and_its_words(trained, dvae, tmp_path):
    first, toy = trained / "line" / "transformer", tiny()
    still = replace(toy, train=replace(toy.train, steps=1, learning_rate=1e-30, sample_every=5))
    again = dalle1.run(
        still,
        folders=[sample_dir()],
        share=None,
        out=tmp_path / "again",
        resume=False,
        device="cpu",
        dvae=dvae,
        init_from=first,
    )
    (_, before), (_, after) = (
        checkpoint.load(folder, Dalle1Config) for folder in (first, again / "transformer")
    )
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert (again / "transformer" / "bpe.json").read_bytes() == (first / "bpe.json").read_bytes()


def test_the_words_of_a_run_survive_another_that_is_refused(trained, dvae, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    other = shutil.copytree(trained / "line" / "transformer", tmp_path / "other")
    CaptionTokenizer.train(["other words", "other words"], 300).save(other / "bpe.json")
    before = (out / "bpe.json").read_bytes()
    with pytest.raises(LimnerError, match="already holds a run"):
        dalle1.run(
            tiny(),
            folders=[sample_dir()],
            share=None,
            out=out,
            resume=False,
            device="cpu",
            dvae=dvae,
            init_from=other,
        )
    assert (out / "bpe.json").read_bytes() == before


def test_a_resumed_run_ends_with_the_same_bits(trained, dvae, tmp_path):
    """Killed at half, after which neither words nor codes are made anew."""
    half = shutil.copytree(trained, tmp_path / "half")
    shutil.rmtree(half / "model")
    (half / "states" / f"step_{STEPS:08d}.pt").unlink()
    made = {path: path.stat().st_mtime_ns for path in [half / "bpe.json", *half.glob("codes_*.npy")]}
    run(half, dvae, resume=True)
    assert checkpoint.digest(half / "model") == checkpoint.digest(trained / "model")
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_words_fall_apart_anew_in_every_row_and_alike_when_drawn_again(trained):
    gallery = open_gallery([sample_dir()], size=16)
    tokenizer = CaptionTokenizer.load(trained / "bpe.json")
    (kept,) = trained.glob("codes_*.npy")
    batches = dalle1.TokenBatches(gallery, np.load(kept), tokenizer, 39, 0.5, 0)
    batch = batches(3, range(8))
    drawn = gallery.draw(seed=0, step=3, rows=range(8))
    assert [tokenizer.decode(row) for row in batch.text.tolist()] == [c.lower() for c in drawn.captions]
    assert not torch.equal(batch.text, tokenizer(drawn.captions, 39))
    half = batches(3, range(4, 8))
    assert torch.equal(half.text, batch.text[4:])
    assert torch.equal(half.image, batch.image[4:])


def test_the_unigram_loss_of_four_tokens():
    """Two words of 0 0 0 and nothing, one picture of 1 1 1 0: frequencies 4/5 and 1/5, and 2/6 and 4/6."""
    config = replace(tiny().model, text_vocabulary=2, image_vocabulary=2)
    seen = CaptionedTokens(torch.tensor([[0, 0, 0, NOTHING]]), torch.tensor([[1, 1, 1, 0]]))
    in_image = -(3 * math.log(4 / 6) + math.log(2 / 6)) / 4
    expected = -math.log(4 / 5) / 8 + 7 / 8 * in_image
    assert dalle1.unigram_loss(seen, config) == pytest.approx(expected)


def test_a_dvae_of_other_tokens_is_refused(dvae, tmp_path):
    with pytest.raises(ValueError, match=r"it writes 4² tokens of 32, and this transformer 8² of 256"):
        run(tmp_path / "out", dvae, recipe=dalle1.toy())
    with pytest.raises(LimnerError, match="no checkpoint at"):
        run(tmp_path / "out", tmp_path / "none")
    assert not (tmp_path / "out").exists()


def test_words_of_another_run_are_refused(dvae, tmp_path):
    CaptionTokenizer.train(["a red apple"] * 2, 300).save(tmp_path / "bpe.json")
    recipe = tiny()
    small = replace(recipe, model=replace(recipe.model, text_vocabulary=260))
    with pytest.raises(LimnerError, match="has 264 words, and this model knows 260"):
        run(tmp_path, dvae, recipe=small)


def test_the_published_size():
    with torch.device("meta"):
        model = Dalle1(dalle1.paper().model)
    assert sum(p.numel() for p in model.parameters()) == 12_292_840_960


@pytest.mark.parametrize("size", ["toy", "small"])
def test_sizes_fit_the_dvae_of_the_same_size(size):
    from limner.recipes import dvae

    painter, model = getattr(dvae, size)().model, getattr(dalle1, size)().model
    assert (painter.grid, painter.vocabulary) == (model.grid, model.image_vocabulary)
