"""A CLIP that reads noised pictures, and what guides by it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig, unit
from limner.clip.model import VisionTower
from limner.clip.objective import CaptionedPictures, contrastive_objective
from limner.diffusion.guidance import steered
from limner.diffusion.process import Denoised
from limner.diffusion.samplers import ancestral, ddim, last
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.glide import agreement, toward_caption

SPEC = DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=False)
CLEAN = ClipConfig(
    vision=VisionConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
    text=TextConfig(context=6, vocabulary=600, width=16, layers=1, heads=2),
    embedding=12,
    activation="gelu",
)
NOISED = replace(CLEAN, vision=replace(CLEAN.vision, times=1000))


def noised_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(NOISED).eval().requires_grad_(False)


def captions(rows: int = 2) -> Tensor:
    return torch.randn(rows, 12, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_the_level_is_read_in_the_class_tokens_place():
    clip, x = noised_clip(), torch.randn(2, 3, 8, 8)
    early, late = (clip.encode_image(x, torch.full((2,), t)).pooled for t in (10.0, 900.0))
    assert (early - late).abs().max() > 1e-2
    table = clip.vision.class_token
    assert table.shape == (1000, 16)
    half = clip.encode_image(x, torch.tensor([10.5, 900.0])).pooled
    table[10] = (table[10] + table[11]) / 2
    torch.testing.assert_close(clip.encode_image(x, torch.tensor([10.0, 900.0])).pooled, half)
    # Beyond the last level there is none to look up.
    ends = [clip.encode_image(x, torch.full((2,), t)).pooled for t in (999.0, 999.4)]
    assert torch.equal(*ends)


def test_a_tower_says_whether_it_knows_levels():
    x, t = torch.zeros(1, 3, 8, 8), torch.zeros(1)
    with pytest.raises(ValueError, match="t: this tower reads pictures at 1000 noise levels, so say which"):
        noised_clip().encode_image(x)
    with pytest.raises(ValueError, match="t: this tower reads clean pictures; leave it out"):
        Clip(CLEAN).encode_image(x, t)


def test_the_published_size():
    """GLIDE's noised CLIP-B, whose keys have no bias: one that all keys share moves no softmax."""
    vision = VisionConfig(resolution=64, patch=4, width=768, layers=12, heads=12, times=1000)
    with torch.device("meta"):
        tower = VisionTower(vision, embedding=512, activation="gelu")
    assert sum(p.numel() for p in tower.parameters()) - 12 * 768 == 86_443_776


def test_the_loss_is_of_noised_pictures_each_at_its_own_level():
    torch.manual_seed(0)
    clip, seen = Clip(NOISED), []
    read = clip.vision.forward
    clip.vision.forward = lambda x, t: seen.append((x, t)) or read(x, t)
    batch = CaptionedPictures(torch.rand(6, 3, 8, 8), torch.tensor([[598, n, 599] for n in range(6)]))
    loss = contrastive_objective(noise=SPEC)(clip, batch, Draws(range(6)))
    (x_t, t) = seen[0]
    assert len(t.unique()) > 3
    levels = SPEC.levels().alpha_bar_at(t).float()
    scale = levels.sqrt().reshape(-1, 1, 1, 1)
    left = (x_t - scale * batch.pictures) / (1 - levels).sqrt().reshape(-1, 1, 1, 1)
    assert left.std().item() == pytest.approx(1, abs=0.1)
    loss.total.backward()
    assert (clip.vision.class_token.grad.abs().sum(dim=1) > 0).sum() == len(t.unique())
    chunked = contrastive_objective(2, noise=SPEC)(Clip(NOISED), batch, Draws(range(6)))
    assert chunked.total.isfinite()


def test_the_gradient_is_that_of_finite_differences():
    clip = noised_clip().double()
    x, t = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([100.0, 700.0], dtype=torch.float64)
    score = agreement(clip, captions())
    cosine = torch.cosine_similarity(clip.encode_image(x, t).pooled, captions().double())
    torch.testing.assert_close(score(x, t), 100 * cosine, rtol=1e-5, atol=1e-5)
    found, h = toward_caption(clip, captions(), 2.0)(x, t), 1e-6
    for place in ((0, 0, 0), (1, 3, 5), (2, 7, 7)):
        step = torch.zeros_like(x)
        step[:, *place] = h
        slope = (score(x + step, t) - score(x - step, t)) / (2 * h)
        torch.testing.assert_close(found[:, *place], 2 * slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_guided_pictures_agree_more(sampler):
    """Of data that are N(0, 1) themselves, so that without guidance noise stays noise."""
    clip, x_T, words = noised_clip(), Draws(range(8)).normal(3, 8, 8), unit(captions(1)).expand(8, -1)
    levels = SPEC.levels().respace(20)

    def best(x: Tensor, t: Tensor) -> Denoised:
        return Denoised(x0=SPEC.levels().alpha_bar_at(t).sqrt().float().reshape(-1, 1, 1, 1) * x)

    def agreed(scale: float) -> float:
        steer = toward_caption(clip, words, scale)
        if sampler == "ancestral":
            x = last(ancestral(best, x_T, levels, Draws(range(8)), steer=steer))
        else:
            x = last(ddim(steered(best, steer, SPEC.levels(), 1.0), x_T, levels))
        with torch.no_grad():
            return agreement(clip, words)(x, torch.zeros(8)).mean().item()

    assert agreed(0.02) > agreed(0.0) + 1
