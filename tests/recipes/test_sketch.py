"""Prior and decoder of the newer kind, from pictures to weights, with networks that learn in seconds."""

import math
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limner import checkpoint
from limner.cli import main
from limner.clip import Clip, ClipConfig, unit
from limner.dalle2.decoder import DecoderConfig
from limner.dalle2.objective import EmbeddingsOfBoth, by_heart_objective, clip_reader
from limner.dalle2.prior_diffusion import ByHeart, Prior, PriorConfig
from limner.dalle2.sketch import SketchConfig
from limner.data.folder import read
from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.draws import Draws
from limner.errors import LimnerError
from limner.layers.trunk import TrunkConfig, Whitening
from limner.recipes import clip, decoder, embeddings, imagined, prior

STEPS = 4


def short(config):
    return replace(config, steps=STEPS, batch=4, warmup=1, save_every=2, sample_every=STEPS)


def tiny_decoder() -> decoder.DecoderRecipe:
    toy = decoder.toy()
    sketch = SketchConfig(
        embedding=96, resolution=32, trunk=TrunkConfig(width=32, layers=1), piece=8, numbers=8, hidden=16
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


def test_a_decoder_learns_from_what_a_prior_imagines(seen, tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "CAPTIONS_READ", 512)
    imagining = prior.run(tiny_prior(), **given(tmp_path / "prior", seen))
    # A prior that knows nothing is nowhere near.
    recipe = replace(tiny_decoder(), imagined=0.5, near=math.inf)
    plain = decoder.run(recipe, **given(tmp_path / "plain", seen))
    told = decoder.run(recipe, **given(tmp_path / "told", seen, prior=imagining))
    digest = checkpoint.digest(imagining)
    assert len(list((tmp_path / "told").glob(f"imagined_{digest}_*.npy"))) == 1
    assert not list((tmp_path / "plain").glob("imagined_*.npy"))
    without, withal = (checkpoint.load(model, DecoderConfig)[1] for model in (plain, told))
    for part in ("sketch.to_pixels.plain.weight", "unet.stem.weight"):
        assert not torch.equal(without[part], withal[part]), part
    # Of what is not near its sketch hears nothing, and its U-Net everything.
    (tmp_path / "far").mkdir()
    for kept in (tmp_path / "told").glob("*.npy"):
        shutil.copy(kept, tmp_path / "far")
    far = decoder.run(replace(recipe, near=0.0), **given(tmp_path / "far", seen, prior=imagining))
    apart = checkpoint.load(far, DecoderConfig)[1]
    for part in ("sketch.to_pixels.plain.weight", "unet.stem.weight"):
        off, moved = ((one[part] - without[part]).norm() for one in (apart, withal))
        # Half precision alone is in the sketch's way, in which what is imagined is kept.
        assert (off < moved / 5) == part.startswith("sketch"), part
    reader = embeddings.load_clip(seen, "cpu")
    gallery = open_gallery([sample_dir()], size=32)
    guessed = imagined.told_of(reader, gallery, imagining, out=tmp_path / "told", device="cpu")
    assert guessed.shape == (len(gallery), 4, embeddings.KEPT, 96)
    there = np.linalg.norm(embeddings.seen(gallery, guessed.astype(np.float32)), axis=-1)
    np.testing.assert_allclose(there, 1.0, atol=2e-3)


def test_what_a_decoder_is_told_is_as_often_imagined_as_asked_and_of_the_same_picture():
    gallery = open_gallery([sample_dir()], size=32)
    # An embedding says which picture it is of, and which guess it is; 0 is CLIP's own.
    true = np.zeros((len(gallery), 4, 2), np.float32)
    true[..., 0] = np.arange(len(gallery))[:, None]
    guesses = np.repeat(true[:, :, None], 3, axis=2)
    guesses[..., 1] = [1, 2, 3]
    told = embeddings.Told(true, guesses.astype(np.float16), 0.7)
    rows = range(4000)
    drawn = gallery.draw(seed=3, step=5, rows=rows)
    picture, kind = told(drawn, seed=3, step=5, rows=rows).T
    assert picture.tolist() == drawn.pictures
    shares = torch.bincount(kind.long(), minlength=4) / len(kind)
    # Four deviations of a share of 4000.
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3]), atol=0.03, rtol=0)
    # Each row by itself, so that processes may share a batch; and never, where there is no prior.
    part = gallery.draw(seed=3, step=5, rows=range(7, 9))
    assert told(part, seed=3, step=5, rows=range(7, 9))[:, 1].tolist() == kind[7:9].tolist()
    assert not embeddings.Told(true)(drawn, seed=3, step=5, rows=rows)[:, 1].any()


def test_a_sketch_is_told_what_was_imagined_where_it_is_nearly_right():
    generator = np.random.default_rng(0)
    # Directions that hardly vary count as much as the others: that is what whitening is for.
    spread = np.float32([1, 1, 0.01, 0.01])
    true = generator.standard_normal((300, 2, 4), np.float32) * spread
    sphere = Whitening(4)
    sphere.fit(torch.from_numpy(true.reshape(-1, 4)) * 2, floor=1e-6)
    right = generator.random((300, 2, 3, 1)) < 0.5
    # A tenth longer in the wide directions, or five deviations off in the narrow ones.
    near_by, far_off = np.float32([0.1, 0.1, 0, 0]), np.float32([0, 0, 0.05, 0.05])
    guesses = true[:, :, None] * (1 + right * near_by) + ~right * far_off
    told = embeddings.Told(true, guesses.astype(np.float16), 0.7)
    near = embeddings.told_nearly_right(told, sphere, length=2.0, within=0.5)
    assert near.imagined is not None
    assert told.imagined is not None
    assert near.share == told.share
    expected = np.where(right, told.imagined, true[:, :, None].astype(np.float16))
    assert np.array_equal(near.imagined, expected)
    alone = embeddings.Told(true)
    assert embeddings.told_nearly_right(alone, sphere, length=2.0, within=0.5).imagined is None


def test_a_prior_of_another_clip_is_no_use_to_a_decoder(seen, tmp_path):
    small = replace(prior.toy().model, text_width=64)
    checkpoint.save(tmp_path / "prior", Prior(small).state_dict(), small)
    with pytest.raises(ValueError, match="captions of 64 a token, and CLIP here has 96 and 96"):
        imagined.load_prior(tmp_path / "prior", embeddings.load_clip(seen, "cpu"), "cpu")


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


def test_told_to_end_between_two_trainings_the_command_stops_and_goes_on(
    painted, seen, tmp_path, monkeypatch
):
    """`limner train decoder`, whose sketch comes first: the signal comes in that one's last step."""
    told: list[None] = []
    tiny, sketches = tiny_decoder(), decoder.sketches

    def stopping(*given):
        sample = sketches(*given)

        def sampled(model):
            if not told:
                told.append(None)
                os.kill(os.getpid(), signal.SIGTERM)
            return sample(model)

        return sampled

    monkeypatch.setattr(decoder, "toy", lambda: tiny)
    monkeypatch.setattr(decoder, "sketches", stopping)
    out = tmp_path / "run"
    command = ["train", "decoder", "--size", "toy", "--data", str(sample_dir()), "--out", str(out)]
    command += ["--clip", str(seen), "--device", "cpu"]
    assert main(command) == 2
    assert (out / "sketch" / "model").is_dir()
    assert not (out / "log.jsonl").exists()
    assert main([*command, "--resume"]) == 0
    _, whole = checkpoint.load(painted / "model", DecoderConfig)
    _, again = checkpoint.load(out / "model", DecoderConfig)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_run_goes_on_with_the_prior_that_it_began_with(seen, tmp_path):
    config = tiny_prior().model
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        checkpoint.save(folder, Prior(config).state_dict(), config)
    few = tmp_path / "few"
    few.mkdir()
    for number, record in enumerate(read(sample_dir()).records[:8]):
        (few / f"{number}.png").write_bytes(record.file.read_bytes())
        (few / f"{number}.txt").write_text(record.captions[0])
    tiny = tiny_decoder()
    recipe = replace(tiny, imagined=0.5, model=replace(tiny.model, sketch=None), sketch=None)
    told, plain = tmp_path / "told", tmp_path / "plain"
    decoder.run(recipe, **given(told, seen, prior=one, folders=[few]))
    decoder.run(recipe, **given(plain, seen, folders=[few]))
    digests = checkpoint.digest(one), checkpoint.digest(other)
    assert digests[0] != digests[1]
    mine, yours = (f"'{folder}' ({digest})" for folder, digest in zip((one, other), digests, strict=True))
    for run, prior_, said in (
        (told, other, f"prior is {yours}: the run in '{told}' began with {mine}; give that, or"),
        (told, None, f"prior is missing: the run in '{told}' began with {mine}; give that, or"),
        (plain, one, f"prior is {mine}: the run in '{plain}' began without one; leave it out, or"),
    ):
        before = (run / "log.jsonl").read_bytes()
        with pytest.raises(ValueError, match=f"^{re.escape(said)} choose another --out$"):
            decoder.run(recipe, **given(run, seen, prior=prior_, resume=True, folders=[few]))
        assert (run / "log.jsonl").read_bytes() == before
    # The same weights in another place are the same prior, and who must not begin anew changes no note.
    moved = one.rename(tmp_path / "moved")
    with pytest.raises(LimnerError, match="already holds a run"):
        decoder.run(recipe, **given(told, seen, prior=other, folders=[few]))
    decoder.run(recipe, **given(told, seen, prior=moved, resume=True, folders=[few]))
    decoder.run(recipe, **given(plain, seen, resume=True, folders=[few]))
    # Nothing is known of runs that began before it was noted.
    (told / "prior.txt").unlink()
    decoder.run(recipe, **given(told, seen, prior=other, resume=True, folders=[few]))


def test_a_captioned_sketch_is_told_the_caption_that_was_imagined_of(seen, tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "CAPTIONS_READ", 512)
    monkeypatch.setattr(decoder, "CAPTIONS_READ", 512)
    imagining = prior.run(tiny_prior(), **given(tmp_path / "prior", seen))
    tiny = tiny_decoder()
    assert tiny.model.sketch is not None
    model = replace(tiny.model, sketch=replace(tiny.model.sketch, captioned=True))
    recipe = replace(tiny, model=model, imagined=0.5)
    out = decoder.run(recipe, **given(tmp_path / "run", seen, prior=imagining))
    config, state = checkpoint.load(out, DecoderConfig)
    # Killed between the two, and resumed: the same to the last bit; another begins from its sketch.
    shutil.rmtree(tmp_path / "run" / "states")
    again = decoder.run(recipe, **given(tmp_path / "run", seen, prior=imagining, resume=True))
    after = checkpoint.load(again, DecoderConfig)[1]
    assert all(torch.equal(after[name], value) for name, value in state.items())
    further = decoder.run(recipe, **given(tmp_path / "more", seen, init_from=out))
    assert checkpoint.load(further, DecoderConfig)[0] == config
    assert not list((tmp_path / "more").glob("captions_*"))
    assert not torch.equal(state["sketch.said.axes"], torch.eye(96))
    assert [path.name.split("_")[0] for path in (tmp_path / "run").glob("c*.npy")] == ["captions"]
    gallery = open_gallery([sample_dir()], size=32)
    shape = (len(gallery), 4, embeddings.KEPT, 3)
    # Numbers that say whose they are: picture, ground, caption.
    numbered = np.stack(np.indices(shape[:3]), axis=-1).astype(np.float16)
    told = embeddings.Told(np.zeros((*shape[:2], 3), np.float32), numbered, 1.0, numbered)
    rows = range(40)
    drawn = gallery.draw(seed=0, step=3, rows=rows)
    imagined_of, heard = (call(drawn, seed=0, step=3, rows=rows) for call in (told, told.said))
    assert heard is not None
    assert torch.equal(imagined_of, heard)
    assert heard[:, 0].tolist() == drawn.pictures
    assert set(heard[:, 2].tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("room", ["decoder", "prior"])
def test_a_run_goes_on_with_the_clip_that_it_began_with(room, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "CAPTIONS_READ", 512)
    run, recipe = {"decoder": (decoder.run, tiny_decoder()), "prior": (prior.run, tiny_prior())}[room]
    out = tmp_path / "run"
    run(recipe, **given(out, seen))
    config, state = checkpoint.load(seen, ClipConfig)
    other = tmp_path / "other"
    checkpoint.save(other, {**state, "log_scale": state["log_scale"] + 1}, config)
    with pytest.raises(
        ValueError, match=f"^clip is '{re.escape(str(other))}' .*give that, or choose another"
    ):
        run(recipe, **given(out, other, resume=True))
    moved = Path(shutil.copytree(seen, tmp_path / "moved"))
    run(recipe, **given(out, moved, resume=True))
