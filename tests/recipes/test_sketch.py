"""Prior and decoder of the newer kind, from pictures to weights, with networks that learn in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limner import checkpoint
from limner.clip import Clip, unit
from limner.dalle2.decoder import DecoderConfig
from limner.dalle2.objective import EmbeddingsOfBoth, by_heart_objective, clip_reader
from limner.dalle2.prior_diffusion import ByHeart, Prior, PriorConfig
from limner.dalle2.sketch import SketchConfig
from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.draws import Draws
from limner.layers.trunk import TrunkConfig
from limner.recipes import clip, decoder, embeddings, prior

STEPS = 4


def short(config):
    return replace(config, steps=STEPS, batch=4, warmup=1, save_every=2, sample_every=STEPS)


def tiny_decoder() -> decoder.DecoderRecipe:
    toy = decoder.toy()
    sketch = SketchConfig(
        embedding=96, resolution=32, trunk=TrunkConfig(width=32, layers=1), piece=8, numbers=8
    )
    model = replace(toy.model, unet=replace(toy.model.unet, canvas=48), sketch=sketch)
    return replace(toy, model=model, train=short(toy.train), sketch=short(toy.train), blur_picture=0.3)


def tiny_prior() -> prior.PriorRecipe:
    toy = prior.toy()
    model = replace(toy.model, trunk=TrunkConfig(width=32, layers=1), sphered=True)
    return replace(toy, model=model, train=replace(short(toy.train), rule="adamw"))


def given(out: Path, seen: Path, **more):
    stand = {"folders": [sample_dir()], "share": None, "out": out, "resume": False, "device": "cpu"}
    return stand | {"clip": seen} | more


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Path:
    """A CLIP that has learned nothing."""
    out: Path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = clip.toy().model
    checkpoint.save(out, Clip(config).state_dict(), config)
    return out


@pytest.fixture(scope="module")
def painted(tmp_path_factory, seen) -> Path:
    out: Path = tmp_path_factory.mktemp("decoder") / "run"
    assert decoder.run(tiny_decoder(), **given(out, seen)) == out / "model"
    return out


def test_the_sketch_is_trained_first_and_stays_as_it_is(painted):
    _, alone = checkpoint.load(painted / "sketch" / "model", SketchConfig)
    config, whole = checkpoint.load(painted / "model", DecoderConfig)
    assert config.sketch is not None
    for name, value in alone.items():
        assert torch.equal(whole[f"sketch.{name}"], value), name
    assert not torch.equal(alone["sphere.axes"], torch.eye(96))
    for folder in (painted, painted / "sketch"):
        assert len((folder / "log.jsonl").read_text().splitlines()) == STEPS
        assert (folder / "samples" / f"{STEPS:08d}.png").exists()


def test_a_run_that_was_killed_between_the_two_goes_on(painted, seen, tmp_path):
    recipe = tiny_decoder()
    half = replace(recipe, train=replace(recipe.train, steps=2))
    out = tmp_path / "run"
    decoder.run(half, **given(out, seen))
    decoder.run(recipe, **given(out, seen, resume=True))
    _, before = checkpoint.load(painted / "model", DecoderConfig)
    _, after = checkpoint.load(out / "model", DecoderConfig)
    # The learning rate of the first half knew of fewer steps, so only what it did not touch is the same.
    for name, value in before.items():
        if name.startswith("sketch."):
            assert torch.equal(after[name], value), name


def test_one_that_goes_on_from_another_keeps_its_sketch(painted, seen, tmp_path):
    again = decoder.run(tiny_decoder(), **given(tmp_path / "run", seen, init_from=painted / "model"))
    assert not (tmp_path / "run" / "sketch").exists()
    _, before = checkpoint.load(painted / "model", DecoderConfig)
    _, after = checkpoint.load(again, DecoderConfig)
    assert all(
        torch.equal(after[name], value) for name, value in before.items() if name.startswith("sketch.")
    )
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_a_prior_is_whitened_before_it_learns(seen, tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "CAPTIONS_READ", 512)
    model = prior.run(tiny_prior(), **given(tmp_path / "run", seen))
    _, state = checkpoint.load(model, PriorConfig)
    for name in ("sphere.axes", "behind.said.axes"):
        assert not torch.equal(state[name], torch.eye(96)), name
    assert state["errors"].min() > 0
    assert (tmp_path / "run" / "model").is_dir()
    assert not (tmp_path / "run" / "by-heart").exists()
    again = prior.run(tiny_prior(), **given(tmp_path / "again", seen, init_from=model))
    _, after = checkpoint.load(again, PriorConfig)
    assert torch.equal(after["sphere.axes"], state["sphere.axes"])


def test_a_trunk_learns_by_heart_before_its_prior_and_resumes(seen, tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "CAPTIONS_READ", 512)
    tiny = tiny_prior()
    recipe = replace(tiny, by_heart=replace(tiny.train, steps=6))
    model = prior.run(recipe, **given(tmp_path / "run", seen))
    first = tmp_path / "run" / "by-heart"
    assert len((first / "log.jsonl").read_text().splitlines()) == 6
    _, alone = checkpoint.load(first / "model", PriorConfig)
    assert set(alone) == {
        name for name in Prior(recipe.model).state_dict() if name.startswith(("behind.", "to_"))
    }
    assert not alone["behind.from_answer.weight"].any()
    _, whole = checkpoint.load(model, PriorConfig)
    # Afterwards the transformer is heard.
    assert whole["behind.from_answer.weight"].any()
    kept = [path.name.split("_")[0] for path in (tmp_path / "run").glob("*.npy")]
    assert sorted(kept) == ["captions", "embeddings"]
    # Killed between the two, and resumed: the same to the last bit.
    again = prior.run(recipe, **given(tmp_path / "run", seen, resume=True))
    _, after = checkpoint.load(again, PriorConfig)
    assert all(torch.equal(after[name], value) for name, value in whole.items())


def test_kept_captions_are_what_clip_says_of_captions_of_the_picture_on_its_ground(seen, tmp_path):
    reader = embeddings.load_clip(seen, "cpu")
    gallery = open_gallery([sample_dir()], size=32)
    tokenizer = prior.tokenizer_of(reader)
    found = embeddings.said(reader, tokenizer, gallery, weights="w", out=tmp_path)
    assert found.shape == (len(gallery), 4, embeddings.KEPT, 96)
    for picture, ground in ((3, 0), (5, 2)):
        captions = embeddings.chosen(gallery, picture, ground)
        assert len(set(captions)) == embeddings.KEPT
        ids = tokenizer(captions, reader.config.text.context)
        expected = clip_reader(reader)(ids).embedding
        torch.testing.assert_close(
            torch.from_numpy(np.array(found[picture, ground])).float(), expected, atol=1e-3, rtol=0
        )
        if ground:
            assert all(gallery.ground(picture, ground) in caption for caption in captions)
        else:
            assert set(captions) <= set(gallery.records[picture].captions)


def test_a_prior_without_a_trunk_knows_nothing_by_heart():
    with pytest.raises(ValueError, match="prior: it has no trunk"):
        ByHeart(Prior(prior.toy().model))


def test_by_heart_is_the_prior_when_its_transformer_says_nothing():
    torch.manual_seed(0)
    whole = Prior(tiny_prior().model).eval()
    alone = ByHeart(whole)
    x, t, caption = torch.randn(3, 96), torch.tensor([0.0, 500.0, 999.0]), torch.randn(3, 96)
    tokens, mask = torch.randn(3, 7, 96), torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(alone(x, t, caption), whole(x, t, tokens=tokens, caption=caption, mask=mask))


def test_a_prior_leans_to_noisy_levels():
    heard = []

    class Listening(torch.nn.Module):
        def forward(self, x, t, _caption):
            heard.append(t)
            return torch.zeros_like(x)

    whole = Prior(tiny_prior().model)
    batch = EmbeddingsOfBoth(unit(torch.randn(256, 96)), unit(torch.randn(256, 96)))
    for lean in (0.0, 1.0):
        objective = by_heart_objective(whole, empty=torch.zeros(96), drop_caption=0.0, lean=lean)
        objective(Listening(), batch, Draws.for_step(0, 0, range(256)))
    # The noisier of two is at two thirds on average, one alone at a half; the error of 256 is below .02.
    assert heard[0].mean().item() / 999 == pytest.approx(1 / 2, abs=0.06)
    assert heard[1].mean().item() / 999 == pytest.approx(2 / 3, abs=0.06)
