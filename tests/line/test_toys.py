"""The toys of the other rooms learn from nothing, each by its command, until they reach a stated number."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from limner import checkpoint
from limner.dalle2.objective import reduced
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig, enlarged
from limner.data import pairs, scenes
from limner.data.labels import labelled
from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.diffusion.guidance import clipped
from limner.diffusion.process import denoiser, q_sample
from limner.diffusion.samplers import ddim, last
from limner.draws import Draws
from limner.errors import LimnerError
from limner.evaluation.classifiers import rows, told_apart
from limner.evaluation.enlarging import steepness
from limner.evaluation.likelihood_table import network_of
from limner.evaluation.reconstruction import psnr
from limner.layers.corruptions import degraded
from limner.pipelines import load, load_autoencoder
from limner.pipelines.classifying import Classifying
from limner.weights import shipped

SEEN = 200
# Of what comes back of the sample's first pictures; their mean picture alone gives 13.0 dB.
PSNR = {"vae": 15.0, "dvae": 17.0, "vqvae": 19.0, "vqvae2": 17.0}


def trained(room: str, run: Path, *more: str, data: Path = sample_dir()) -> Path:  # noqa: B008 (a constant)
    """In a process of its own: the tests' check of every call's shapes would slow thousands of steps."""
    asked = ("train", room, "--size", "toy", "--data", str(data), "--out", str(run))
    ran = subprocess.run(
        [sys.executable, "-m", "limner", *asked, "--device", "cpu", *more],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert ran.returncode == 0, ran.stderr
    return run


def ended(run: Path, name: str) -> float:
    """The mean of a number over the last twenty steps."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return sum(row[name] for row in rows[-20:]) / 20


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a trained toy, which is trained once."""
    out: Path = tmp_path_factory.mktemp("toys")

    def finished(room: str) -> Path:
        if not (out / room).exists():
            more = ("--dvae", str(finished("dvae") / "model")) if room == "dalle1" else ()
            trained(room, out / room, *more)
        return out / room

    return finished


@pytest.mark.parametrize("room", PSNR)
def test_an_autoencoder_gives_pictures_back_and_uses_its_words(room, toy):
    model = load_autoencoder(room, weights=toy(room))
    pictures = open_gallery([sample_dir()], size=model.resolution).composited(range(SEEN), [0] * SEEN)
    assert psnr(model.reconstruct(pictures), pictures).mean() > PSNR[room]
    for grid in model.tokens(pictures).values():
        assert len(grid.unique()) > 0.9 * model.vocabulary
    if room == "vae":
        assert ended(toy("vae"), "in_use") > 32


def test_priors_foresee_codes(toy):
    """128 codes are 7 bits; of VQ-VAE-2 the top ones are few and say most."""
    assert ended(toy("vqvae") / "prior", "bits") < 4.5
    assert ended(toy("vqvae2") / "top", "bits") < 3
    assert ended(toy("vqvae2") / "bottom", "bits") < 5.2


def test_dalle1_foresees_tokens_better_than_one_who_counts(toy):
    assert ended(toy("dalle1"), "image bits") < 4
    assert ended(toy("dalle1"), "text bits") < 4.5


def test_glow_needs_fewer_bits_than_there_are(toy):
    """Of five."""
    assert ended(toy("glow"), "bits") < 3


def test_the_second_upsampler_beats_bicubic_on_what_is_not_clean(toy):
    config, state = checkpoint.load(toy("upsampler-1024") / "model", UpsamplerConfig)
    model = Upsampler(config).eval()
    checkpoint.load_into(model, state)
    real = open_gallery([sample_dir()], size=config.high).composited(range(64), [0] * 64)
    low = degraded(reduced(real, config.high // config.low), Draws(range(64)))
    levels = config.diffusion.levels()
    denoise = clipped(denoiser(lambda x, t: model(x, t, low=low), levels, config.diffusion.prediction), 1.0)
    with torch.no_grad():
        noise = Draws(range(64, 128)).normal(*real.shape[1:])
        painted = last(ddim(denoise, noise, levels.respace(4)))
    soft = enlarged(low, real.shape[-2:])
    assert psnr(real, painted).mean() > psnr(real, soft).mean() + 0.1
    # Noise has edges too; the upsampler's are nearer to as steep as the drawings' are.
    off = [abs(steepness(one) - steepness(real)) for one in (painted, soft)]
    assert off[0] < off[1]


def test_glide_learns_what_captions_say_and_to_mend(toy):
    """Error of x̂_0 in nearly pure noise: with the caption, with another's, with none."""
    run = toy("glide")
    assert ended(run / "base" / "paints", "error") < 0.09
    assert ended(run / "base" / "mends", "error") < 0.09
    assert ended(run / "upsampler" / "mends", "error") < 0.12
    # One of 96 is right by chance.
    assert ended(run / "clip", "retrieval") > 0.25
    painter = load("glide", weights=run / "line")
    gallery = open_gallery([sample_dir()], size=painter.sizes[0])
    pictures = gallery.composited(range(SEEN), [0] * SEEN)
    captions = [gallery.records[row].captions[1] for row in range(SEEN)]
    levels, at = painter.base.config.diffusion.levels(), torch.full((SEEN,), 900)
    noised = q_sample(levels, pictures, at, Draws(range(SEEN)).normal(*pictures.shape[1:]))

    def error(texts: list[str]) -> float:
        with torch.no_grad():
            guess = network_of(painter, texts)(noised, at.float()).x0
        return (guess - pictures).square().mean().item()

    own, others, none = error(captions), error(captions[40:] + captions[:40]), error([""] * SEEN)
    assert own < 0.99 * others
    assert own < 0.95 * none


def test_classifiers_tell_captions_that_fit_from_captions_that_do_not(tmp_path):
    """On the CLIP that ships: of scenes that it has not seen, which of two captions names what is there?"""
    try:
        clip = shipped("dalle2") / "clip"
    except LimnerError:
        pytest.skip("this copy ships no weights")
    drawn = scenes.write(sample_dir(), tmp_path / "scenes", count=800, size=64, tests=120)
    data = pairs.write(drawn, tmp_path / "pairs")
    run = trained("classifier", tmp_path / "run", "--kind", "mlp", "--clip", str(clip), data=data)
    # Always the commonest label would be right in 0.36 of all cases.
    assert ended(run, "right") > 0.58
    head = Classifying.load(run)
    gallery = open_gallery([data], size=head.clip.config.vision.resolution, splits=("test",))
    found = labelled(gallery.records)
    looked = head.looked_at(gallery.composited(range(len(gallery)), [0] * len(gallery)))
    ids = head.ids([pair.caption for pair in found])
    own = torch.tensor([pair.picture for pair in found])
    other = (own + len(gallery) // 2) % len(gallery)
    for pictures, low, high in ((own, 0.65, 1), (other, 0.3, 0.65)):
        logits = head.logits(rows(looked, pictures), head.read(ids), ids)
        scores = logits.log_softmax(dim=1)[:, head.labels.index("fits")]
        # By chance one half, as where it is shown other pictures.
        assert low < told_apart(scores, found, seed=0)["wrong thing"].value < high
