"""`explain`: a score shared out among patches, and its colours."""

import numpy as np
import pytest
from PIL import Image

from limner.pipelines import explain, rank
from limner.pipelines.explaining import AGAINST, FOR, Explanation


def test_the_shares_are_of_the_score_that_rank_gives(line):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    found = explain("a pear", image, weights=line)
    white = Image.new("RGB", (16, 16), "white")
    assert [found.score, found.blank] == pytest.approx(rank("a pear", [image, white], weights=line), abs=1e-6)
    assert found.patches.sum() == pytest.approx(found.score - found.blank, abs=1e-4)
    assert found.seen.size == (16, 16)


def test_white_is_explained_by_nothing(line):
    found = explain("a pear", Image.new("RGBA", (9, 5), (0, 0, 0, 0)), weights=line)
    assert not found.patches.any()
    assert found.heat(32).getextrema() == ((255, 255),) * 3


def test_red_speaks_for_and_blue_against():
    patches = np.array([[1.0, 0.0, 0.0, -1.0]] * 4, np.float32)
    found = Explanation(patches, 0.0, 0.0, Image.new("RGB", (8, 8), "white"), "")
    heat = np.asarray(found.heat(64)).astype(int)
    assert np.abs(heat[32, 2] - FOR).max() < np.abs(heat[32, 2] - AGAINST).max()
    assert np.abs(heat[32, -3] - AGAINST).max() < np.abs(heat[32, -3] - FOR).max()
    assert heat[32, 32].min() > 225


def test_words_that_are_missing_are_refused(line):
    with pytest.raises(ValueError, match="text is ' ', without a word"):
        explain(" ", Image.new("RGB", (8, 8)), weights=line)
