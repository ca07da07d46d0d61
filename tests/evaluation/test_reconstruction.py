"""PSNR, SSIM and word counts against closed forms, the paper's own properties and scikit-image."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.evaluation.reconstruction import bits_per_picture, psnr, smoothed, ssim, word_use

# By skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
# data_range=1, channel_axis=0) of scikit-image 0.26 on `waves(3)` in [0, 1], first against second and third.
SKIMAGE = [0.23710997456247815, 0.011300864113358565]


def waves(count: int, height: int = 24, width: int = 20) -> Tensor:
    """Pictures that anybody can make again."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rows = [
        torch.stack([torch.sin(0.3 * x * (c + 1) + 0.2 * y * y * (n + 1) / height) for c in range(3)])
        for n in range(count)
    ]
    return torch.stack(rows).double()


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize(("shift", "expected"), [(2.0, 0.0), (0.2, 20.0), (0.02, 40.0)])
def test_psnr_of_a_constant_error(shift, expected):
    black = torch.full((2, 3, 5, 4), -1.0)
    assert psnr(black, black + shift).tolist() == pytest.approx([expected] * 2, abs=1e-4)


def test_psnr_is_of_each_picture_and_infinite_for_itself():
    pictures = noise(0, 3, 3, 8, 8)
    worse = pictures.clone()
    worse[1] += 0.1
    found = psnr(pictures, worse)
    assert found.isinf().tolist() == [True, False, True]


def test_ssim_of_flat_pictures_is_the_luminance_term():
    # Wang et al., eq. 6, with C₁ = 0.01²; black is 0.
    a, b = 0.65, 0.25
    flat = torch.ones(1, 3, 16, 12, dtype=torch.float64)
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim((2 * a - 1) * flat, (2 * b - 1) * flat).item() == pytest.approx(expected, abs=1e-12)


def test_ssim_where_the_window_fits_once():
    """One window, its moments summed up by hand: eq. 13 without a convolution."""
    x, y = noise(1, 1, 3, 11, 11), noise(2, 1, 3, 11, 11)
    offsets = torch.arange(11, dtype=torch.float64) - 5
    gauss = (-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2)).exp()
    w = gauss / gauss.sum()
    values = []
    for p, q in zip((x[0] + 1) / 2, (y[0] + 1) / 2, strict=True):
        mp, mq = (w * p).sum(), (w * q).sum()
        vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
        cov = (w * (p - mp) * (q - mq)).sum()
        c1, c2 = 0.01**2, 0.03**2
        values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert ssim(x, y).item() == pytest.approx(float(torch.stack(values).mean()), abs=1e-12)


def test_ssim_equals_scikit_image():
    pictures = waves(3)
    found = ssim(pictures[:1].expand(2, -1, -1, -1), pictures[1:])
    assert found.tolist() == pytest.approx(SKIMAGE, abs=1e-9)


def test_scikit_image_still_says_so():
    metrics = pytest.importorskip("skimage.metrics")
    a, *others = (waves(3).numpy() + 1) / 2
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    found = [metrics.structural_similarity(a, b, channel_axis=0, **settings) for b in others]
    assert found == pytest.approx(SKIMAGE, abs=1e-9)


@given(seed=st.integers(0, 1000), other=st.integers(0, 1000))
def test_ssim_is_symmetric_at_most_one_and_one_for_itself(seed, other):
    x, y = noise(seed, 1, 3, 13, 12), noise(other, 1, 3, 13, 12)
    forth, back = ssim(x, y), ssim(y, x)
    torch.testing.assert_close(forth, back, rtol=0, atol=1e-12)
    assert forth.item() <= 1 + 1e-12
    assert ssim(x, x).item() == pytest.approx(1)


def test_ssim_minds_structure_where_psnr_does_not():
    """The paper's first figure: the same squared error as a shift in light or as noise."""
    picture = 0.3 * waves(1)
    lighter = picture + 0.1
    speckled = picture + 0.1 * noise(3, *picture.shape).sign()
    torch.testing.assert_close(psnr(picture, lighter), psnr(picture, speckled))
    assert ssim(picture, lighter).item() > ssim(picture, speckled).item() + 0.1


def test_the_window_keeps_a_ramp_and_loses_ten_pixels():
    ramp = torch.arange(20.0).double().expand(1, 2, 15, 20)
    torch.testing.assert_close(smoothed(ramp), ramp[..., 5:-5, 5:-5])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"reconstructions: \(1, 3, 16, 16\), originals: \(2, 3, 16, 16\)"):
        psnr(torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="9×16 pixels, but SSIM looks through a window of 11×11"):
        ssim(torch.zeros(1, 3, 16, 9), torch.zeros(1, 3, 16, 9))


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "bits"), [(1024, 8192, 13312), (5120, 512, 46_080), (7, 1, 0)]
)
def test_published_bits(tokens, vocabulary, bits):
    assert bits_per_picture(tokens, vocabulary) == bits


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_words_are_counted(ids):
    found = word_use(torch.tensor(ids), 7)
    shares = [ids.count(word) / len(ids) for word in set(ids)]
    assert found.used == len(shares)
    assert found.share == len(shares) / 7
    assert found.perplexity == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert 1 <= found.perplexity <= found.used + 1e-9


def test_perplexity_of_all_words_alike_is_their_number():
    found = word_use(torch.arange(64).reshape(4, 4, 4), 64)
    assert (found.used, found.share) == (64, 1)
    assert found.perplexity == pytest.approx(64)


@pytest.mark.parametrize("ids", [[], [0, 8], [-1, 3]])
def test_words_that_are_none(ids):
    with pytest.raises(ValueError, match="between 0 and 7"):
        word_use(torch.tensor(ids, dtype=torch.int64), 8)
