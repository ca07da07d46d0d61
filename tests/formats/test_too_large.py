"""Small files that speak of huge pictures or sequences: opened, and not run."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from limner.adm import Adm, AdmConfig, ClassifierConfig, NoisedClassifier, classifier
from limner.cli import main
from limner.dalle1.rudalle import RuDalle, RuDalleConfig, malevich
from limner.dalle_pytorch import (
    ConvolutionalVae,
    ConvolutionalVaeConfig,
    DallePytorch,
    DallePytorchConfig,
)
from limner.diffusion.spec import DiffusionSpec
from limner.formats import dalle_pytorch, guided_diffusion, opened, rudalle, self_check, taming
from limner.formats.format import LARGEST_SIDE, LONGEST_SEQUENCE
from limner.formats.places import Place, give
from limner.layers.unet import UNetConfig
from limner.vqgan import VqGan, VqGanConfig

NOISE = DiffusionSpec(schedule="linear", steps=1000, prediction="eps", learned_variance=False)


def unet(levels: int, *, out: int, attention: tuple[int, ...]) -> UNetConfig:
    return UNetConfig(
        in_channels=3,
        out_channels=out,
        channels=64,
        depth=1,
        multipliers=(1,) * levels,
        attention=attention,
        head_width=64,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=1,
        canvas=0,
    )


def vqgan(levels: int) -> VqGanConfig:
    return VqGanConfig(
        resolution=256,
        stem=32,
        widths=(32,) * levels,
        depth=1,
        attention=(),
        latent=2,
        codes=4,
        width=2,
        choice="nearest",
        pixels="signed",
    )


RUDALLE = RuDalleConfig(
    text=4,
    text_vocabulary=8,
    image_vocabulary=4,
    grid=91,
    width=64,
    layers=1,
    heads=1,
    kernel=11,
    release="v3",
)
DALLE = DallePytorchConfig(
    text_context=256,
    text_vocabulary=10,
    image_vocabulary=4,
    grid=90,
    width=8,
    hidden=8,
    heads=1,
    head_width=64,
    pattern=("dense",),
    rotary=False,
    shifted=False,
    sandwich=False,
    divided=False,
    reversible=False,
)
VAE = ConvolutionalVaeConfig(resolution=512, vocabulary=4, codebook=2, hidden=2, halvings=9, blocks=0)
ADM = AdmConfig(resolution=1024, low=None, classes=None, unet=unet(10, out=3, attention=()), diffusion=NOISE)
CLASSIFIER = ClassifierConfig(resolution=1024, unet=unet(9, out=4, attention=(256,)))


def nested(places: Iterator[Place]) -> Iterator[Place]:
    """By the names of a file: each branch in a stack, its part in three wrappers."""
    for place in places:
        number, _, inside = str(place.theirs[0]).partition(".")
        if number.isdigit():
            kind, _, end = inside.partition(".")
            around = "" if end == "scale" else "fn." if end.startswith("norm") else "fn." * 2
            inside = f"{0 if kind == 'attention' else 1}.{around}{end}"
            place = replace(place, theirs=(f"transformer.layers.layers.{number}.{inside}",))
        yield place


@pytest.mark.parametrize(
    ("kind", "config", "places"),
    [
        (VqGan, vqgan(10), taming.places),
        (RuDalle, RUDALLE, rudalle.places),
        (DallePytorch, DALLE, lambda config: nested(dalle_pytorch.places(config))),
        (ConvolutionalVae, VAE, dalle_pytorch.vae_places),
        (Adm, ADM, lambda config: guided_diffusion.places(config, by_head=True)),
        (NoisedClassifier, CLASSIFIER, guided_diffusion.classifier_places),
    ],
)
def test_what_is_too_large_is_not_run(kind, config, places, tmp_path, capsys):
    tensors = give(list(places(config)), kind(config).state_dict())
    # DALLE-pytorch's autoencoder would be refused without the size of its pictures.
    file = {"hparams": {"image_size": 512}, "weights": tensors} if config == VAE else tensors
    torch.save(file, tmp_path / "weights")
    assert (tmp_path / "weights").stat().st_size < 2**25
    (part,) = opened(tmp_path / "weights").parts
    assert self_check(part) == ""
    assert main(["open", str(tmp_path / "weights")]) == 0
    assert f"{part.name} was not run: it is too large to be tried\n" in capsys.readouterr().out


def test_what_is_published_is_run():
    release = malevich("v2")
    assert release.text + release.image <= LONGEST_SEQUENCE
    assert all(classifier.imagenet(side).resolution <= LARGEST_SIDE for side in (64, 128, 256, 512))
