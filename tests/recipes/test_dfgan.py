"""DF-GAN's recipe from pictures to a line on the disk, with networks that learn in seconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import limner
from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextConfig, TextWithProjectionConfig, VisionConfig, unit
from limner.data.sample import sample_dir
from limner.dfgan import DfGan, DfGanConfig
from limner.dfgan import paper as published
from limner.pipelines.settings import commissions
from limner.recipes import dfgan

STEPS = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was never trained, and tells captions apart all the same."""
    torch.manual_seed(0)
    config = ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=32, layers=1, heads=2),
        text=TextConfig(context=96, vocabulary=600, width=32, layers=1, heads=2),
        embedding=16,
        activation="quick_gelu",
    )
    folder: Path = tmp_path_factory.mktemp("clip")
    checkpoint.save(folder, Clip(config).state_dict(), config)
    return folder


def tiny() -> dfgan.DfGanRecipe:
    toy = dfgan.toy()
    model = DfGanConfig(resolution=16, width=4, noise=8, sentence=16, squashed=False)
    config = replace(toy.train, steps=STEPS, batch=8, save_every=STEPS // 2, sample_every=STEPS)
    return replace(toy, model=model, train=config)


def run(
    out: Path, clip: Path, *, resume: bool = False, recipe: dfgan.DfGanRecipe | None = None, **more
) -> Path:
    return dfgan.run(
        tiny() if recipe is None else recipe,
        folders=[sample_dir()],
        share=None,
        out=out,
        resume=resume,
        device="cpu",
        clip=clip,
        **more,
    )


@pytest.fixture(scope="module")
def trained(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("dfgan")
    assert run(out, clip) == out / "line"
    return out


def test_it_logs_both_losses_and_shows_what_it_paints(trained):
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert len(rows) == STEPS
    assert rows[0]["loss"] == pytest.approx(2.0, abs=0.1)
    assert rows[0]["generator"] == pytest.approx(-rows[0]["painted"], abs=1e-5)
    assert {"penalty", "real", "painted", "mismatched"} <= set(rows[0])
    assert len({row["generator"] for row in rows}) == STEPS
    with Image.open(trained / "samples" / f"{STEPS:08d}.png") as sheet:
        assert sheet.size == (12 * 16, 2 * 16)


def test_stopped_and_resumed_is_unbroken_to_the_bit(trained, clip, tmp_path):
    out = shutil.copytree(trained, tmp_path / "cut")
    (out / "states" / f"step_{STEPS:08d}.pt").unlink()
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "line")
    run(out, clip, resume=True)
    for folder in ("model", "line/generator", "line/text"):
        assert checkpoint.digest(out / folder) == checkpoint.digest(trained / folder)
    assert (out / "samples" / f"{STEPS:08d}.png").read_bytes() == (
        trained / "samples" / f"{STEPS:08d}.png"
    ).read_bytes()


def test_both_learn_the_discriminator_four_times_as_fast(trained):
    """AdamW moves a weight by about its rate in each step, whatever the size of the gradient."""
    torch.manual_seed(tiny().train.seed)
    begun = DfGan(tiny().model)
    newest = sorted((trained / "states").glob("*.pt"))[-1]
    state = torch.load(newest, weights_only=True)["model"]
    moved = {"generator": 0.0, "discriminator": 0.0}
    for name, weight in begun.named_parameters():
        part = name.partition(".")[0]
        moved[part] = max(moved[part], float((state[name] - weight).detach().abs().max()))
    assert moved["generator"] > tiny().train.learning_rate
    assert 2 < moved["discriminator"] / moved["generator"] < 8


def test_the_line_holds_the_averaged_generator_and_the_tower_it_heard(trained, clip, compact_as_learned):
    line = trained / "line"
    config, state = checkpoint.load(line / "generator", DfGanConfig)
    assert config == tiny().model
    _, both = checkpoint.load(trained / "model", DfGanConfig)
    compact_as_learned(state, dfgan.parts_under(both, "generator."))
    _, words = checkpoint.load(line / "text", TextWithProjectionConfig)
    _, whole = checkpoint.load(clip, ClipConfig)
    assert compact_as_learned(dfgan.parts_under(words, "text."), dfgan.parts_under(whole, "text."))


def test_the_line_paints_what_the_training_showed(trained, clip):
    painter = limner.load("dfgan", weights=trained / "line")
    assert painter.paint("a red apple", count=2)[0].size == (16, 16)
    config, state = checkpoint.load(clip, ClipConfig)
    tower = Clip(config)
    checkpoint.load_into(tower, state)
    heard = painter.hear(commissions("a red apple", count=1, seed=0))
    with torch.inference_mode():
        s = painter.generator.said(unit(tower.encode_text(heard.ids).pooled))
    # The line's tower is stored in eight bits.
    assert torch.cosine_similarity(heard.sentences, s).min() > 0.99


def test_captions_are_evenly_spread(trained):
    """What the generator hears of captions like those of training has mean 0 and, at most, variance 1."""
    painter = limner.load("dfgan", weights=trained / "line")
    from limner.data.loader import open_gallery

    gallery = open_gallery([sample_dir()], size=16)
    captions = gallery.draw(seed=3, step=9, rows=range(1000)).captions
    s = painter.hear([one for c in captions for one in commissions(c, count=1, seed=0)]).sentences
    assert s.mean(dim=0).abs().max() < 0.2
    variances = s.var(dim=0)
    assert variances.max() < 1.3
    assert variances.mean() > 0.4


def test_training_goes_on_from_both_networks(trained, clip, tmp_path):
    recipe = replace(tiny(), train=replace(tiny().train, steps=1, learning_rate=1e-12, ema=0.0))
    run(tmp_path / "more", clip, recipe=recipe, init_from=trained / "model")
    _, before = checkpoint.load(trained / "model", DfGanConfig)
    _, after = checkpoint.load(tmp_path / "more" / "model", DfGanConfig)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


def test_what_cannot_be_trained_is_refused(clip, tmp_path):
    wide = replace(tiny(), model=replace(tiny().model, sentence=24))
    with pytest.raises(ValueError, match="its embeddings have 16 numbers, and this generator hears 24"):
        run(tmp_path / "run", clip, recipe=wide)
    compiled = replace(tiny(), train=replace(tiny().train, compile=True))
    with pytest.raises(ValueError, match="compile is on, and PyTorch's compiler knows no gradient of a"):
        run(tmp_path / "run", clip, recipe=compiled)
    assert not (tmp_path / "run").exists()


def test_recipes_stand_on_clips_of_the_same_size():
    from limner.recipes import clip as clips

    for size in ("toy", "small"):
        assert getattr(dfgan, size)().model.sentence == getattr(clips, size)().model.embedding
    assert dfgan.paper().model == published()
    assert dfgan.paper().train.rates == (("discriminator", 4.0),)
    assert dfgan.paper().train.betas == (0.0, 0.9)
