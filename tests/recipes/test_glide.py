"""GLIDE's recipes from pictures to a line that paints, with networks that learn in seconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import limner
from limner import checkpoint
from limner.clip import Clip
from limner.dalle2.decoder import Decoder, DecoderConfig
from limner.data.sample import sample_dir
from limner.diffusion.objective import noised
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.glide import Glide, GlideConfig
from limner.layers.unet import UNet
from limner.recipes import clip, decoder, glide, glide_base, glide_upsampler, noised_clip
from limner.recipes.glide_reader import Reading, lend, share

STEPS = 4


def short(config, **more):
    return replace(config, steps=STEPS, batch=4, warmup=1, save_every=2, sample_every=STEPS, **more)


def tiny() -> glide.GlideLineRecipe:
    """The toys, for four steps a training."""
    base, upsampler, reader = glide_base.toy(), glide_upsampler.toy(), noised_clip.toy()
    return glide.GlideLineRecipe(
        base=replace(base, train=short(base.train), mend=short(base.mend), read=short(base.read)),
        upsampler=replace(upsampler, train=short(upsampler.train), mend=short(upsampler.mend)),
        clip=replace(reader, train=short(reader.train)),
    )


def given(out: Path, **more):
    return {"folders": [sample_dir()], "share": None, "out": out, "resume": False, "device": "cpu"} | more


@pytest.fixture(scope="module")
def stand(tmp_path_factory) -> dict[str, Path]:
    """A decoder and its CLIP, as the toy line has them, which have learned nothing."""
    out: Path = tmp_path_factory.mktemp("stand")
    torch.manual_seed(0)
    for name, network, config in (
        ("clip", Clip, clip.toy().model),
        ("decoder", Decoder, decoder.toy().model),
    ):
        module = network(config)
        for parameter in module.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        checkpoint.save(out / name, module.state_dict(), config)
    return {name: out / name for name in ("clip", "decoder")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, stand) -> Path:
    out: Path = tmp_path_factory.mktemp("glide") / "run"
    assert glide.run(tiny(), **given(out, **stand)) == out / "line"
    return out


def test_the_line_paints_and_mends(trained):
    painter = limner.load("glide", weights=trained / "line")
    assert painter.base.config.inpaint
    assert painter.upsampler.config.inpaint
    assert painter.sizes == (32, 64)
    settings = limner.pipelines.GlideSettings(steps=2, upsampler_steps=2, guidance_kind="both")
    assert painter.paint("a red apple", settings=settings)[0].size == (64, 64)


def test_every_part_was_trained_in_turn(trained):
    for part in ("base/reads", "base/paints", "base/mends", "upsampler/paints", "upsampler/mends", "clip"):
        assert len((trained / part / "log.jsonl").read_text().splitlines()) == STEPS, part
    for part in ("base/paints", "base/mends", "upsampler/mends"):
        assert (trained / part / "samples" / f"{STEPS:08d}.png").exists()
    words = [(trained / part / "bpe.json").read_bytes() for part in ("base", "base/mends/model", "line/base")]
    assert words[0] == words[1] == words[2]


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(trained, stand, tmp_path):
    half = shutil.copytree(trained, tmp_path / "half")
    shutil.rmtree(half / "base" / "mends")
    (half / "base" / "paints" / "states" / f"step_{STEPS:08d}.pt").unlink()
    shutil.rmtree(half / "base" / "paints" / "model")
    base = glide_base.run(tiny().base, **given(half / "base", resume=True, **stand))
    assert checkpoint.digest(base) == checkpoint.digest(trained / "base" / "mends" / "model")


def test_training_goes_on_from_one_that_paints_and_its_words(trained, tmp_path):
    first, recipe = trained / "base" / "paints" / "model", tiny().base
    still = replace(recipe, train=replace(recipe.train, steps=1, learning_rate=1e-30))
    again = glide_base.painting(still, **given(tmp_path / "again", init_from=first))
    (_, before), (_, after) = (checkpoint.load(folder, GlideConfig) for folder in (first, again))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert (again / "bpe.json").read_bytes() == (first / "bpe.json").read_bytes()


def test_a_decoder_lends_its_u_net(stand):
    torch.manual_seed(1)
    recipe = glide_base.toy()
    config, state = checkpoint.load(stand["decoder"], DecoderConfig)
    for channels in (3, 6):
        backbone = replace(recipe.model.backbone, out_channels=channels)
        spec = replace(recipe.model.diffusion, learned_variance=channels == 6)
        model = Glide(replace(recipe.model, backbone=backbone, diffusion=spec))
        lend(model, stand["decoder"])
        own = UNet(config.unet)
        own.load_state_dict({k.removeprefix("unet."): v for k, v in state.items() if k.startswith("unet.")})
        x, t = torch.randn(2, 3, 32, 32), torch.tensor([5.0, 900.0])
        told = {
            "condition": torch.randn(2, 128),
            "context": torch.randn(2, 7, 96),
            "canvas": torch.randn(2, 4, 8, 8),
        }
        with torch.no_grad():
            said = model.backbone(x, t, **told)
            torch.testing.assert_close(said[:, :3], own(x, t, **told), atol=1e-5, rtol=1e-5)
            assert not said[:, 3:].any()  # of the variance nothing is known yet
    with pytest.raises(ValueError, match="whose U-Net is another"):
        lend(Glide(glide_base.small().model), stand["decoder"])


def test_reading_learns_the_encoder_alone_and_its_loss_begins_at_knowing_nothing(trained):
    rows = [json.loads(line) for line in (trained / "base" / "reads" / "log.jsonl").read_text().splitlines()]
    assert {"condition", "tokens", "canvas"} <= rows[0].keys()
    model = Glide(glide_base.toy().model)
    reading = Reading(model, tokens=4)
    kept = {id(parameter) for parameter in reading.parameters()}
    assert kept == {id(p) for part in (model.text, model.to_canvas) for p in part.parameters()}
    wanted = torch.randn(2000, 5)
    mean = wanted.mean(dim=0).expand_as(wanted)
    assert share(mean, wanted).item() == pytest.approx(1, abs=1e-3)
    assert share(wanted, wanted).item() == 0


def test_levels_lean_to_noise():
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
    x, draws = torch.zeros(4000, 1), Draws(range(4000))
    even = noised(spec, x, draws).index
    leaning = noised(spec, x, Draws(range(4000)), lean=0.6).index
    assert even.float().mean().item() == pytest.approx(499.5, abs=20)
    # The noisier of two has the mean 2/3 T, and is below T/10 once in a hundred times.
    assert leaning.float().mean().item() == pytest.approx(0.4 * 500 + 0.6 * 667, abs=20)
    assert (leaning < 100).float().mean().item() == pytest.approx(0.046, abs=0.015)
    assert leaning.min() < 20
    assert leaning.max() > 990
