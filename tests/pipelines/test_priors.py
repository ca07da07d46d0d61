"""Which prior imagines: diffusion, codes, or none; and what is said where one is not there."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.errors import LimnerError
from limner.pipelines import PaintSettings
from limner.pipelines.manipulations import blend, probe, probed
from limner.pipelines.settings import Commission

QUICK = PaintSettings(prior="autoregressive", prior_steps=3, steps=2, upsampler_steps=2)
WANTED = [Commission("a pear", 5), Commission("two fish", 5), Commission("a pear", 6)]


@pytest.fixture(scope="module")
def both(tiny, tmp_path_factory):
    return limner.load("dalle2", weights=tiny.write_other(tiny.write(tmp_path_factory.mktemp("line"))))


def test_codes_imagine_unit_embeddings_of_which_the_nearest_is_kept(both):
    understood = both.understand(WANTED)
    heard = []
    settings = dataclasses.replace(QUICK, prior_candidates=3)
    imagined = both.imagine(understood, settings, advance=heard.append)
    assert heard == [3] * 6  # one for each code, for all pictures
    assert imagined.candidates.shape == (3, 3, 16)
    torch.testing.assert_close(imagined.candidates.norm(dim=2), torch.ones(3, 3))
    scores = (imagined.candidates * understood.embedding[:, None]).sum(dim=2)
    torch.testing.assert_close(imagined.scores, scores)
    for row, best in enumerate(scores.argmax(dim=1)):
        assert torch.equal(imagined.embeddings[row], imagined.candidates[row, best])


def test_an_imagined_embedding_is_the_pictures_own(both):
    together = both.imagine(both.understand(WANTED), QUICK).embeddings
    for row, commission in enumerate(WANTED):
        alone = both.imagine(both.understand([commission]), QUICK).embeddings
        torch.testing.assert_close(alone[0], together[row])
    assert not torch.allclose(together[0], together[2])


def test_without_a_prior_the_words_are_taken_for_the_picture(both):
    understood = both.understand(WANTED)
    imagined = both.imagine(understood, dataclasses.replace(QUICK, prior="none"))
    assert torch.equal(imagined.embeddings, understood.embedding)
    torch.testing.assert_close(imagined.scores, torch.ones(3, 1))


def test_priors_paint_different_pictures_and_every_step_is_heard_of(both):
    pictures = []
    for prior, steps in (("diffusion", 3), ("autoregressive", 6), ("none", 1)):
        heard = []
        settings = dataclasses.replace(QUICK, prior=prior)
        (picture,) = both.paint("a pear", size=64, settings=settings, on_tick=heard.append)
        assert heard[-1].done == heard[-1].total == steps + 2
        assert f'"prior": "{prior}"' in both.metadata(WANTED[0], size=64, settings=settings)["settings"]
        pictures.append(np.asarray(picture, int))
    assert all(np.abs(a - b).max() > 2 for a, b in zip(pictures, pictures[1:] + pictures[:1], strict=True))


def test_refusals(painter, both):
    assert painter.prior_autoregressive is None
    with pytest.raises(ValueError, match=r"^prior is 'autoregressive': these weights have none"):
        painter.paint("a pear", settings=QUICK, stages=True)
    assert painter.digest != both.digest
    config = dataclasses.replace(both.prior_autoregressive.config, embedding=20, components=6)
    with pytest.raises(LimnerError, match="the autoregressive prior's embedding is 20 where 16 is needed"):
        dataclasses.replace(both, prior_autoregressive=type(both.prior_autoregressive)(config))


def test_a_probe_paints_from_ever_more_components(both, painter):
    image = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 64, 3)))
    pca = both.prior_autoregressive.pca
    pca.fit(torch.nn.functional.normalize(torch.randn(100, 16, generator=torch.Generator().manual_seed(0))))
    dims, pictures = probe(both, image, dimensions=[1, 4, 16], size=64)
    assert dims == [1, 4, 16]
    # All of them from the same noise, and all components are the picture's own embedding.
    (whole,) = vary_without_noise(both, image)
    apart = [np.abs(np.asarray(picture, int) - np.asarray(whole, int)).mean() for picture in pictures]
    assert apart[2] < 0.1 < min(apart[:2])
    assert probed(16) == [16]
    assert probed(256) == [20, 30, 40, 80, 120, 160, 200, 256]
    assert probe(both, image, size=64)[0] == [16]
    with pytest.raises(ValueError, match=r"^dimensions is 17: give a whole number from 1 to 16"):
        probe(both, image, dimensions=[1, 17])
    with pytest.raises(ValueError, match=r"^dimensions are 0 numbers: give from 1 to 64 of them"):
        probe(both, image, dimensions=[])
    with pytest.raises(ValueError, match="these weights have no autoregressive prior"):
        probe(painter, image)


def vary_without_noise(painter, image):
    """From the noise of seed 0, as `blend` with shared noise paints its ends."""
    return blend(painter, image, image, steps=2, noise="shared", size=64)[:1]
