"""Pictures through the two latents and back, by a tiny line: they mean nothing, the geometry is real."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.clip import unit
from limner.pipelines import inversion, manipulations
from limner.pipelines.inversion import embed, invert, render
from limner.pipelines.manipulations import blend, edit, slerp, vary
from limner.pipelines.pictures import seen
from limner.pipelines.settings import Commission
from limner.pipelines.stages import to_images


@pytest.fixture(scope="module")
def images():
    """Two pictures that nobody painted: colours that run, one of them with a hole to see through."""
    across, down = np.meshgrid(np.linspace(0, 255, 256), np.linspace(0, 255, 256))
    first = np.stack([across, down, 255 - across], 2).astype(np.uint8)
    second = Image.fromarray(np.roll(first, 90, axis=0)).convert("RGBA")
    second.putalpha(Image.fromarray(np.where(down > 40, 255, 0).astype(np.uint8)))
    return [Image.fromarray(first), second]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Half of the steps: the random networks come back well enough, and it takes half as long."""
    monkeypatch.setattr(inversion, "STEPS", 10)


# Of what comes back, at least, and of what is something else, at most.
SAME = 36


def psnr(one, other):
    apart = np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)
    return 10 * math.log10(255**2 / max((apart**2).mean(), 1e-9))


def told(painter, prompt):
    return painter.understand([Commission(prompt, 0)]).embedding


def test_a_picture_comes_back_from_its_latents(painter, images):
    latent = invert(painter, images, steps=10)
    assert latent.embedding.shape == (2, 16)
    torch.testing.assert_close(latent.embedding.norm(dim=1), torch.ones(2))
    assert latent.noise.shape == (2, 3, 64, 64)
    assert latent.detail.shape == (2, 3, 256, 256)
    # The random upsampler hangs more on its input than a trained one does.
    for size, least in ((64, SAME), (256, 20)):
        for back, image in zip(
            render(painter, latent, size=size), to_images(seen(images, size)), strict=True
        ):
            assert psnr(back, image) > least
    # Of something else it paints something else.
    other = dataclasses.replace(latent, embedding=latent.embedding.flip(0))
    there, here = to_images(seen(images, 64))[0], render(painter, latent, size=64)[0]
    assert psnr(render(painter, other, size=64)[0], there) < psnr(here, there) - 0.5


def test_small_pictures_need_no_upsampler(painter, images, monkeypatch):
    monkeypatch.setattr(painter.upsampler, "forward", None)
    latent = invert(painter, images, size=64, steps=15)
    assert latent.detail is None
    for back, image in zip(render(painter, latent, size=64), to_images(seen(images, 64)), strict=True):
        assert psnr(back, image) > 40
    with pytest.raises(ValueError, match=r"size is 256: these latents are of 64, so invert for that size"):
        render(painter, latent)
    with pytest.raises(ValueError, match=r"steps is 1: give a whole number from 2 to 900"):
        invert(painter, images, steps=1)


def test_without_refinements_it_comes_back_less_well(painter, images, monkeypatch):
    monkeypatch.setattr(inversion, "REFINEMENTS", 0)
    (back,) = render(painter, invert(painter, images[:1], size=64), size=64)
    once = psnr(back, to_images(seen(images[:1], 64))[0])
    monkeypatch.setattr(inversion, "REFINEMENTS", 3)
    (back,) = render(painter, invert(painter, images[:1], size=64), size=64)
    assert psnr(back, to_images(seen(images[:1], 64))[0]) > once + 6


def test_a_blend_has_the_two_pictures_at_its_ends(painter, images):
    strip = blend(painter, *images, steps=3, size=64)
    assert len(strip) == 3
    ends = to_images(seen(images, 64))
    assert psnr(strip[0], ends[0]) > SAME
    assert psnr(strip[2], ends[1]) > SAME
    assert max(psnr(strip[1], end) for end in ends) < SAME


def test_shared_noise_is_the_seeds_alone(painter, images):
    strip = blend(painter, *images, steps=3, size=64, noise="shared", seed=3)
    again = blend(painter, images[0], images[0], steps=2, size=64, noise="shared", seed=3)
    assert psnr(strip[0], again[0]) > SAME
    assert psnr(again[0], again[1]) > SAME
    assert psnr(blend(painter, *images, steps=2, size=64, noise="shared", seed=4)[0], strip[0]) < SAME


def test_variations_keep_what_clip_sees_and_draw_the_rest(painter, images):
    seven = vary(painter, images[0], count=2, seed=7, size=64)
    eight = vary(painter, images[0], count=1, seed=8, size=64)
    assert psnr(seven[1], eight[0]) > SAME
    assert psnr(seven[0], seven[1]) < SAME
    (same,) = vary(painter, images[0], strength=0.0, size=64)
    assert psnr(same, to_images(seen(images[:1], 64))[0]) > SAME


def test_an_edit_turns_by_its_strength(painter, images):
    monitored = []
    painted = manipulations.rendered

    def render_(painter, latent, side, clock):
        monitored.append(latent)
        return painted(painter, latent, side, clock)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manipulations, "rendered", render_)
        edit(painter, images[0], "two fish", source="a pear", strength=0.4, steps=2, size=64)
        edit(painter, images[0], "two fish", strength=1.0, size=64)
    z_i = embed(painter, images[:1])[0]
    diff = unit(told(painter, "two fish") - told(painter, "a pear"))[0]
    whole = math.acos(float(z_i @ diff))
    half, full = monitored[0].embedding
    # On the arc between the two, a fifth and two fifths of the way.
    for turned, share in ((half, 0.2), (full, 0.4)):
        assert math.acos(float(turned @ z_i)) == pytest.approx(share * whole, abs=1e-3)
        assert math.acos(float(turned @ diff)) == pytest.approx((1 - share) * whole, abs=1e-3)
    # With nothing to come from it goes to the words themselves.
    torch.testing.assert_close(monitored[1].embedding, told(painter, "two fish"), atol=1e-5, rtol=0)


def test_an_edit_of_no_strength_gives_the_picture_back(painter, images):
    (back,) = edit(painter, images[1], "two fish", source="a pear", strength=0.0)
    assert psnr(back, to_images(seen(images[1:], 256))[0]) > 25


def test_every_step_is_heard_of(painter, images):
    for work in (
        lambda heard: vary(painter, images[0], count=2, on_tick=heard),
        lambda heard: vary(painter, images[0], count=2, strength=0.0, size=64, on_tick=heard),
        lambda heard: blend(painter, *images, steps=2, on_tick=heard),
        lambda heard: blend(painter, *images, steps=2, noise="shared", on_tick=heard),
        lambda heard: edit(painter, images[0], "two fish", size=64, on_tick=heard),
        lambda heard: invert(painter, images, on_tick=heard),
        lambda heard: invert(painter, images, size=64, steps=5, on_tick=heard),
    ):
        ticks = []
        work(ticks.append)
        assert ticks[-1].done == ticks[-1].total
        assert all(a.done < b.done for a, b in pairwise(ticks))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda p, i: vary(p, i, count=0), "count is 0: give a whole number from 1 to 64"),
        (lambda p, i: vary(p, i, strength=1.5), "strength is 1.5: give a number from 0 to 1"),
        (lambda p, i: vary(p, i, seed=-1), "seed is -1"),
        (lambda p, i: vary(p, i, size=100), "size is 100: choose 64 or 256"),
        (lambda p, i: blend(p, i, i, steps=1), "steps is 1: give a whole number from 2 to 64"),
        (lambda p, i: edit(p, i, ""), "prompt is ''"),
        (lambda p, i: edit(p, i, "a pear", source=" "), "prompt is ' '"),
        (lambda p, i: edit(p, i, "a pear", source="a pear"), "source and target are both 'a pear'"),
        (
            lambda p, i: edit(p, i, "a pear", source="A  Pear"),
            "source 'A  Pear' and target 'a pear' read the same",
        ),
        (lambda p, _: invert(p, []), "images is empty"),
        (lambda p, i: edit(p, i, "a pear", steps=0), "steps is 0: give a whole number from 1 to 64"),
        (lambda p, i: edit(p, i, "a pear", strength=float("nan")), "strength is nan"),
    ],
)
def test_refusals(painter, images, work, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        work(painter, images[0])


vectors = st.lists(st.floats(-3, 3), min_size=4, max_size=4).filter(lambda v: math.hypot(*v) > 0.1)


@given(vectors, vectors, st.floats(0, 1))
def test_slerp_walks_the_arc_at_an_even_pace(first, last, share):
    a, b = (unit(torch.tensor([v], dtype=torch.float64)) for v in (first, last))
    angle = math.acos(max(-1.0, min(1.0, float((a * b).sum()))))
    if angle > 3.1:
        return  # nearly opposite: every way round is an arc
    way = slerp(a, b, torch.tensor([0.0, share, 1.0], dtype=torch.float64))
    torch.testing.assert_close(way[[0, 2]], torch.cat([a, b]), atol=1e-9, rtol=0)
    assert float(way[1].norm()) == pytest.approx(1, abs=1e-6)
    assert math.acos(max(-1.0, min(1.0, float(way[1] @ a[0])))) == pytest.approx(share * angle, abs=1e-5)


def test_slerp_of_noise_keeps_its_strength():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, 3, 32, 32, generator=generator) for _ in range(2))
    way = slerp(a, b, torch.linspace(0, 1, 5))
    assert torch.equal(way[0], a[0])
    assert torch.equal(way[4], b[0])
    torch.testing.assert_close(way.flatten(1).std(dim=1), torch.ones(5), atol=0.03, rtol=0)
    # Straight on, the middle would have lost a third of it.
    assert ((a + b) / 2).std() < 0.75
