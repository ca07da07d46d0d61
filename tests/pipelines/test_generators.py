"""Three autoencoders and Glow, untrained and very small: pictures from streams and nothing else."""

import pytest
import torch

from limner import checkpoint
from limner.autoregression import Sampling
from limner.draws import Draws
from limner.errors import LimnerError
from limner.pipelines import load_generator
from limner.pipelines.generators import PRIORS
from limner.pipelines.loading import digest_of
from limner.vqvae import Codes
from limner.vqvae.generate import draw_codes


@pytest.fixture(params=PRIORS)
def generator(request, autoencoders):
    return load_generator(request.param, weights=autoencoders)


def test_a_picture_depends_on_its_own_stream_alone(generator):
    three = generator.sample(Draws([4, 5, 6]))
    assert three.shape == (3, 3, 32, 32)
    torch.testing.assert_close(generator.sample(Draws([5])), three[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(three[0], three[1], atol=1e-3)


def test_pictures_are_what_the_priors_say(autoencoders):
    generator = load_generator("vqvae2", weights=autoencoders / "vqvae2")
    sampling = Sampling(temperature=0.0)
    top, bottom = generator.priors
    coarse = draw_codes(top, Draws([0, 1]), sampling=sampling)
    fine = draw_codes(bottom, Draws([0, 1]), above=coarse, sampling=sampling)
    again = generator.network.decode(Codes(coarse, fine))
    torch.testing.assert_close(generator.sample(Draws([0, 1]), temperature=0.0), again)


def test_the_digest_is_of_network_and_priors(generator, autoencoders):
    folder = autoencoders / generator.name
    if not PRIORS[generator.name]:
        assert generator.digest == checkpoint.digest(folder)
    else:
        parts = ("autoencoder", *PRIORS[generator.name])
        assert generator.digest == digest_of([checkpoint.digest(folder / part) for part in parts])


def test_what_it_cannot_do_it_says(autoencoders, tmp_path):
    with pytest.raises(ValueError, match=r"'dvae': dalle1 draws its words .*; choose vae, vqvae, vqvae2"):
        load_generator("dvae", weights=autoencoders)
    with pytest.raises(ValueError, match="name is 'vq'; choose vae"):
        load_generator("vq", weights=autoencoders)
    with pytest.raises(ValueError, match=r"temperature is 1\.0, but the vae has none"):
        load_generator("vae", weights=autoencoders).sample(Draws([0]), temperature=1.0)
    with pytest.raises(LimnerError, match="nowhere"):
        load_generator("vqvae", weights=tmp_path / "nowhere")
