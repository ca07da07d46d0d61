"""The toys of the other rooms learn from nothing, each by its command, until they reach a stated number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.evaluation.reconstruction import psnr
from limner.pipelines import load_autoencoder

SEEN = 200
# Of what comes back of the sample's first pictures; their mean picture alone gives 13.0 dB.
PSNR = {"vae": 15.0, "dvae": 17.0, "vqvae": 19.0, "vqvae2": 17.0}


def trained(room: str, out: Path, *more: str) -> Path:
    """In a process of its own: the tests' check of every call's shapes would slow thousands of steps."""
    asked = ("train", room, "--size", "toy", "--data", str(sample_dir()), "--out", str(out / room))
    ran = subprocess.run(
        [sys.executable, "-m", "limner", *asked, "--device", "cpu", *more],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert ran.returncode == 0, ran.stderr
    return out / room


def ended(run: Path, name: str) -> float:
    """The mean of a number over the last twenty steps."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return sum(row[name] for row in rows[-20:]) / 20


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("toys")
    return folder


@pytest.mark.parametrize("room", PSNR)
def test_an_autoencoder_gives_pictures_back_and_uses_its_words(room, out):
    trained(room, out)
    model = load_autoencoder(room, weights=out)
    pictures = open_gallery([sample_dir()], size=model.resolution).composited(range(SEEN), [0] * SEEN)
    assert psnr(model.reconstruct(pictures), pictures).mean() > PSNR[room]
    for grid in model.tokens(pictures).values():
        assert len(grid.unique()) > 0.9 * model.vocabulary
    if room == "vae":
        assert ended(out / "vae", "in_use") > 32


def test_priors_foresee_codes(out):
    """128 codes are 7 bits; of VQ-VAE-2 the top ones are few and say most."""
    assert ended(out / "vqvae" / "prior", "bits") < 4.5
    assert ended(out / "vqvae2" / "top", "bits") < 3
    assert ended(out / "vqvae2" / "bottom", "bits") < 5.2


def test_dalle1_foresees_tokens_better_than_one_who_counts(out):
    trained("dalle1", out, "--dvae", str(out / "dvae" / "model"))
    assert ended(out / "dalle1", "image bits") < 4
    assert ended(out / "dalle1", "text bits") < 4.5


def test_glow_needs_fewer_bits_than_there_are(out):
    """Of five."""
    trained("glow", out)
    assert ended(out / "glow", "bits") < 3
