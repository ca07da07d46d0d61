"""The second upsampler: where it is there, how far a painting goes, and tiles that show nowhere."""

import dataclasses

import numpy as np
import pytest
import torch

import limner
from limner.errors import LimnerError
from limner.pipelines import PaintSettings
from limner.pipelines.settings import Commission
from limner.pipelines.stages import Drawn, Enlarged, EnlargedAgain, Imagined, Understood

QUICK = PaintSettings(prior_steps=2, steps=2, upsampler_steps=2, upsampler_1024_steps=3)


def nearly(ours, theirs, *, share=0.01):
    """Equal but for the last bit of sums, which may tip a few pixels over to the next level."""
    apart = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
    return apart.max() <= 1 and (apart > 0).mean() < share


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return tiny.write_second(tiny.write(tmp_path_factory.mktemp("line")))


@pytest.fixture(scope="module")
def large(folder):
    return limner.load("dalle2", weights=folder)


def test_a_painting_goes_as_far_as_is_asked(large):
    assert large.sizes == (64, 256, 1024)
    heard = []
    stages = list(
        large.paint("a pear", count=2, size=1024, settings=QUICK, stages=True, on_tick=heard.append)
    )
    assert [type(stage) for stage in stages] == [Understood, Imagined, Drawn, Enlarged, EnlargedAgain]
    assert stages[-1].pictures.shape == (2, 3, 1024, 1024)
    assert heard[-1].done == heard[-1].total == 2 * (2 + 2 + 2 + 3)
    # One picture after the other is enlarged again.
    assert [tick.done for tick in heard[-6:]] == list(range(13, 19))
    assert heard[-1].doing == "enlarging again"
    whole = stages[-1].images()
    assert [image.tobytes() for image in whole] == [
        image.tobytes() for image in large.paint("a pear", count=2, size=1024, settings=QUICK)
    ]
    # Nothing before it depends on it, and by default a painting ends before it.
    (shorter,) = large.paint("a pear", settings=QUICK)
    assert nearly(shorter, stages[3].images()[0])


def test_tiles_paint_the_same_picture(large):
    (whole,) = large.paint("a pear", size=1024, settings=QUICK)
    (tiled,) = large.paint("a pear", size=1024, settings=dataclasses.replace(QUICK, tile=320))
    assert nearly(whole, tiled)
    said = [
        large.metadata(Commission("a pear", 0), size=1024, settings=dataclasses.replace(QUICK, tile=tile))
        for tile in (None, 320)
    ]
    assert said[0] == said[1]


def test_its_chance_is_the_pictures_own(large):
    together = large.paint("a pear", count=2, seed=4, size=1024, settings=QUICK)
    (alone,) = large.paint("a pear", seed=5, size=1024, settings=QUICK)
    # A pixel at 256 that tips over to the next level takes sixteen with it.
    assert nearly(together[1], alone, share=0.1)
    assert not nearly(together[0], alone, share=0.1)


def test_without_one_a_painting_ends_at_256(painter, large):
    assert painter.upsampler_1024 is None
    assert painter.sizes == (64, 256)
    with pytest.raises(ValueError, match=r"^size is 1024: choose 64 or 256"):
        painter.paint("a pear", size=1024)
    enlarged = Enlarged(commissions=(), pictures=torch.zeros(0, 3, 256, 256))
    with pytest.raises(ValueError, match="have no second upsampler"):
        painter.enlarge_again(enlarged, QUICK)
    assert painter.digest != large.digest


def test_refusals(large):
    wider = type(large.upsampler)(dataclasses.replace(large.upsampler.config, high=512))
    with pytest.raises(LimnerError, match="second upsampler's low is 256 where 512 is needed"):
        dataclasses.replace(large, upsampler=wider)
    with pytest.raises(ValueError, match="tile is 0: give a whole number from 1"):
        PaintSettings(tile=0)
    # At the call, before anything is painted.
    odd, fine = (dataclasses.replace(QUICK, tile=tile) for tile in (100, 320))
    with pytest.raises(ValueError, match="tile is 100: give a multiple of 32 pixels"):
        large.paint("a pear", size=1024, settings=odd, stages=True)
    with pytest.raises(ValueError, match="tile is 320: it is for the second upsampler alone"):
        large.paint("a pear", settings=fine, stages=True)
