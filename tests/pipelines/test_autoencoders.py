"""The four autoencoders, untrained and very small, through their one door."""

import math
import shutil
from importlib import resources

import pytest
import torch
from torch import Tensor

from limner import checkpoint
from limner.errors import LimnerError
from limner.formats import convert, opened, taming
from limner.formats.places import give
from limner.pipelines import load_autoencoder
from limner.pipelines.autoencoders import (
    LOADERS,
    PHI3,
    grid_picture,
    load_autoencoders,
    word_colours,
)
from limner.vae import Vae, VaeConfig
from limner.vqgan import Decoder, VqGan, VqGanConfig
from limner.vqvae import Codes

GRIDS = {
    "vae": {},
    "vqvae": {"codes": (8, 8)},
    "vqvae2": {"top": (4, 4), "bottom": (8, 8)},
    "dvae": {"tokens": (8, 8)},
}
VQGAN = VqGanConfig(
    resolution=256,
    stem=32,
    widths=(32, 32),
    depth=1,
    attention=(2,),
    latent=6,
    codes=16,
    width=4,
    choice="nearest",
    pixels="signed",
)
VOCABULARY = {"vae": None, "vqvae": 16, "vqvae2": 16, "dvae": 64}


def pictures(count: int, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture(params=GRIDS)
def model(request, autoencoders):
    return load_autoencoder(request.param, weights=autoencoders / request.param)


def test_each_says_what_it_is(model, autoencoders):
    assert model.resolution == 32
    assert model.vocabulary == VOCABULARY[model.name]
    inside = autoencoders / model.name
    assert model.digest == checkpoint.digest(
        inside if model.name in ("vae", "dvae") else inside / "autoencoder"
    )
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_words_come_as_grids_and_the_picture_from_them(model):
    x = pictures(3)
    grids = model.tokens(x)
    assert {name: tuple(grid.shape[1:]) for name, grid in grids.items()} == GRIDS[model.name]
    again = model.reconstruct(x)
    assert again.shape == x.shape
    assert again.abs().max() <= 1
    torch.testing.assert_close(model.reconstruct(x[1:2]), again[1:2])
    if grids:
        words = Codes(**grids) if model.name == "vqvae2" else next(iter(grids.values()))
        assert torch.equal(model.network.decode(words), again)
    else:
        assert torch.equal(model.network.decode(model.network.encode(x).mean), again)


def test_bits_are_counted_exactly(model):
    if model.vocabulary is not None:
        places = sum(math.prod(shape) for shape in GRIDS[model.name].values())
        expected = places * math.log2(model.vocabulary)
        assert model.bits(pictures(2)).tolist() == pytest.approx([expected] * 2)


def test_bits_of_the_vae_are_its_kl(autoencoders, tmp_path):
    """Means of 1 in four of six numbers, half a nat each; half a variance in a fifth, none in the last."""
    config, state = checkpoint.load(autoencoders / "vae", VaeConfig)
    network = Vae(config)
    checkpoint.load_into(network, state)
    with torch.no_grad():
        network.encoder.out.weight.zero_()
        network.encoder.out.bias.copy_(torch.tensor([1.0, 1, 1, 1, 0, 0] + [0.0] * 4 + [-1.0, 0.0]))
    checkpoint.save(tmp_path, network.state_dict(), config)
    nats = 4 * 0.5 + 0.5 * math.exp(-1)
    found = load_autoencoder("vae", weights=tmp_path).bits(pictures(2))
    assert found.tolist() == pytest.approx([nats / math.log(2)] * 2)


def test_those_without_a_size_of_their_own_take_others(model):
    if model.name == "vae":
        with pytest.raises(ValueError, match="pictures: 40×40 pixels, this model takes 32×32"):
            model.reconstruct(pictures(1, 40))
    else:
        assert model.reconstruct(pictures(1, 40)).shape == (1, 3, 40, 40)
    with pytest.raises(ValueError, match="pictures: 33×33 pixels"):
        model.bits(pictures(1, 33))


@pytest.mark.parametrize("name", GRIDS)
def test_weights_are_found_where_training_leaves_them(name, autoencoders, tmp_path):
    shutil.copytree(autoencoders / name, tmp_path / "runs" / name / "model")
    found = [
        load_autoencoder(name, weights=folder).digest
        for folder in (autoencoders / name, autoencoders, tmp_path / "runs" / name, tmp_path / "runs")
    ]
    assert len(set(found)) == 1


def test_dalle1_brings_its_own(dalle1_line, tmp_path):
    assert load_autoencoder("dvae", weights=dalle1_line).digest == checkpoint.digest(dalle1_line / "dvae")
    shutil.copytree(dalle1_line, tmp_path / "dalle1")
    found, absent = load_autoencoders(tmp_path)
    assert [model.name for model in found] == ["dvae"]
    assert absent == ["vae", "vqvae", "vqvae2"]


def test_all_that_are_there(autoencoders, tmp_path):
    found, absent = load_autoencoders(autoencoders)
    assert [model.name for model in found] == list(LOADERS) == list(GRIDS)
    assert absent == []
    with pytest.raises(LimnerError, match=r"^no autoencoder in .*: give a folder that holds vae, vqvae"):
        load_autoencoders(tmp_path)


def test_what_does_not_load_is_named(autoencoders, tmp_path):
    with pytest.raises(ValueError, match=r"^name is 'gan': choose vae, vqvae, vqvae2, dvae, vqgan$"):
        load_autoencoder("gan")
    with pytest.raises(ValueError, match=r"^device is 'gpu'"):
        load_autoencoder("vae", weights=autoencoders, device="gpu")
    with pytest.raises(LimnerError, match=r"^no checkpoint at .*/none"):
        load_autoencoder("vae", weights=tmp_path / "none")
    with pytest.raises(LimnerError, match=r"vqvae/autoencoder/config\.json does not hold a VqVae2Config"):
        load_autoencoder("vqvae2", weights=autoencoders / "vqvae")
    half = shutil.copytree(autoencoders / "vqvae", tmp_path / "half")
    shutil.rmtree(half / "prior")
    with pytest.raises(LimnerError, match=r"^no checkpoint at .*half/prior"):
        load_autoencoder("vqvae", weights=half)


def test_a_vqgan_as_it_was_saved_and_as_it_was_converted(tmp_path):
    """The digests differ, of what the one and the other file hold; pictures and codes are the same."""
    torch.manual_seed(0)
    model = VqGan(VQGAN)
    state = give(taming.places(VQGAN), model.state_dict())
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    convert(opened(tmp_path / "last.ckpt"), tmp_path / "ours")
    theirs, ours = (load_autoencoder("vqgan", weights=tmp_path / name) for name in ("last.ckpt", "ours"))
    assert (theirs.resolution, theirs.vocabulary) == (ours.resolution, ours.vocabulary) == (256, 16)
    x = pictures(2)
    assert torch.equal(theirs.tokens(x)["codes"], model.encode(x))
    assert torch.equal(ours.tokens(x)["codes"], model.encode(x))
    torch.testing.assert_close(theirs.reconstruct(x), ours.reconstruct(x))
    assert theirs.bits(x).tolist() == [16 * 16 * 4.0] * 2


def test_what_is_no_vqgan_is_refused(tmp_path):
    with pytest.raises(LimnerError, match=r"no weights for vqgan ship: give --weights the path"):
        load_autoencoder("vqgan")
    with pytest.raises(LimnerError, match=r"^no checkpoint at .*/none"):
        load_autoencoder("vqgan", weights=tmp_path / "none")
    half = give(taming.detoker_places(VQGAN), Decoder(VQGAN).state_dict())
    torch.save(half, tmp_path / "detoker.pt")
    with pytest.raises(LimnerError, match="is min-dalle detoker: give a VQGAN, encoder and decoder"):
        load_autoencoder("vqgan", weights=tmp_path / "detoker.pt")


@pytest.mark.parametrize("name", GRIDS)
def test_what_does_not_ship_is_said_with_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    with pytest.raises(LimnerError, match=rf"\(limner train {name} .* and give --weights OUT/model$"):
        load_autoencoder(name)


def test_what_ships_is_taken(autoencoders, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    shutil.copytree(autoencoders / "vqvae", tmp_path / "vqvae")
    shutil.copytree(autoencoders / "dvae", tmp_path / "dalle1" / "dvae")
    found, absent = load_autoencoders()
    assert [model.name for model in found] == ["vqvae", "dvae"]
    assert absent == ["vae", "vqvae2"]


def test_every_word_has_a_colour_of_its_own():
    colours = word_colours(torch.arange(8192))
    assert len(colours.unique(dim=0)) == 8192
    assert 0 <= int(colours.min()) <= int(colours.max()) <= 255
    assert pytest.approx(PHI3 + 1) == PHI3**4
    # Steady: whatever else is in the grid, and for ever.
    assert word_colours(torch.tensor([[2, 0], [0, 1]])).tolist() == [
        [[35, 215, 153], [128, 128, 128]],
        [[128, 128, 128], [81, 43, 12]],
    ]
    neighbours = (colours[1:512] - colours[:511]).abs().sum(dim=1)
    assert int(neighbours.min()) > 100


def test_a_grid_is_squares_of_colour():
    image = grid_picture(torch.tensor([[5, 3], [3, 5]]), 8)
    five, three = (tuple(word_colours(torch.tensor(word)).tolist()) for word in (5, 3))
    assert image.size == (8, 8)
    assert image.getpixel((3, 3)) == image.getpixel((4, 4)) == five
    assert image.getpixel((4, 3)) == image.getpixel((0, 7)) == three
    assert sorted(count for count, _ in image.getcolors()) == [32, 32]
