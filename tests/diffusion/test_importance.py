"""Levels drawn by their losses: unbiased, and less scattered, in closed form."""

import copy

import pytest
import torch

from limner.diffusion.importance import LossAware
from limner.draws import Draws

# What a term of the bound may look like: a few levels hold nearly all.
TRUE = torch.tensor([8.0, 2.0, 0.5, 0.1, 0.05, 0.02], dtype=torch.float64)
ROWS = 20_000


def filled(uniform: float = 0.001, kept: int = 10) -> LossAware:
    sampler = LossAware(len(TRUE), kept=kept, uniform=uniform)
    for _ in range(kept):
        sampler.record(torch.arange(len(TRUE)), TRUE.float())
    return sampler


def test_levels_are_even_until_all_are_known():
    sampler = LossAware(6, kept=2)
    for level in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5):
        sampler.record(torch.tensor([level]), torch.tensor([5.0 + level]))
        assert sampler.probabilities().tolist() == pytest.approx([1 / 6] * 6)
        assert sampler.draw(Draws([1, 2])).weight.tolist() == pytest.approx([1.0, 1.0])
    sampler.record(torch.tensor([5]), torch.tensor([9.0]))
    assert sampler.probabilities().unique().numel() > 1


def test_probabilities_follow_the_root_of_the_mean_square_of_the_last_losses():
    sampler = LossAware(2, kept=2, uniform=0.1)
    for losses in ((100.0, 100.0), (3.0, 1.0), (4.0, 1.0)):  # the first pair is forgotten
        sampler.record(torch.tensor([0, 1]), torch.tensor(losses))
    size = torch.tensor([12.5**0.5, 1.0])
    torch.testing.assert_close(sampler.probabilities(), 0.9 * size / size.sum() + 0.05)


def test_the_estimate_is_unbiased_and_scatters_least():
    drawn = filled().draw(Draws(range(ROWS)))
    estimate = drawn.weight * TRUE[drawn.level].float()
    even = TRUE[torch.randint(len(TRUE), (ROWS,), generator=torch.Generator().manual_seed(0))]
    assert estimate.mean().item() == pytest.approx(TRUE.mean().item(), rel=0.01)
    # With p ∝ L every draw says the same, but for the share that stays even.
    assert estimate.std() < 0.05 * even.std()


def test_a_loss_that_is_no_number_is_not_remembered():
    sampler = filled()
    before = sampler.probabilities()
    sampler.record(torch.tensor([2]), torch.tensor([float("nan")]))
    assert torch.equal(sampler.probabilities(), before)


def test_a_row_has_its_own_number():
    sampler = filled()
    together = sampler.draw(Draws([3, 4, 5]))
    assert sampler.draw(Draws([4])).level[0] == together.level[1]


def test_what_it_remembers_is_saved_with_its_network():
    sampler = filled()
    again = LossAware(len(TRUE))
    again.load_state_dict(copy.deepcopy(sampler.state_dict()))
    assert torch.equal(again.probabilities(), sampler.probabilities())
    for each in (sampler, again):
        each.record(torch.tensor([2, 2]), torch.tensor([7.0, 8.0]))
    assert torch.equal(again.losses, sampler.losses)


def test_no_level_may_be_out_of_reach():
    with pytest.raises(ValueError, match=r"uniform: 0\.0; give a share above 0"):
        LossAware(4, uniform=0.0)
