"""What is minimised, what it is compared with, and when a codebook's collapse is said."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.draws import Draws
from limner.quantize import CodebookConfig, MovingAverage
from limner.vqvae import (
    CodesAndCondition,
    Pictures,
    VqVae,
    VqVae2,
    VqVae2Config,
    VqVaeConfig,
    prior_objective,
    reconstruction_objective,
)

BOOK = CodebookConfig(
    codes=8, width=6, beta=0.25, average=MovingAverage(decay=0.9, epsilon=1e-5, restart_below=0.5)
)
ONE = VqVaeConfig(channels=16, hidden=8, blocks=1, halvings=2, codebook=BOOK)
TWO = VqVae2Config(channels=16, hidden=8, blocks=1, codebook=BOOK)


def batch() -> Pictures:
    return Pictures(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def makers() -> list[Callable[[], nn.Module]]:
    return [lambda: VqVae(ONE), lambda: VqVae2(TWO)]


@pytest.mark.parametrize("make", makers(), ids=["one level", "two levels"])
def test_error_and_every_codebook_s_loss_are_added(make):
    torch.manual_seed(0)
    model = make()
    twin = make()
    twin.load_state_dict(model.state_dict())
    loss = reconstruction_objective()(model, batch(), Draws([1, 2, 3, 4]))
    out = twin(batch().pictures, Draws([1, 2, 3, 4]))
    error = (out.pictures - batch().pictures).square().mean()
    assert torch.allclose(loss.total, error + sum(level.loss for level in out.levels.values()))
    assert float(loss.report["error"]) == pytest.approx(float(error.detach()), rel=1e-5)
    for name, level in out.levels.items():
        assert float(level.loss.detach()) > 0
        assert float(loss.report[f"{name} perplexity"]) == pytest.approx(float(level.usage.perplexity))
        assert float(loss.report[f"{name} used"]) == float(level.usage.used) / 8
    assert loss.baseline == pytest.approx(float(batch().pictures.var(dim=0, correction=0).mean()))
    assert all(not value.requires_grad for value in loss.report.values())


class MeanPicture(nn.Module):
    """It has learnt nothing but the mean; its codes are whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = VqVae(ONE)

    def forward(self, pictures: Tensor, draws: Draws | None) -> object:
        out = self.inner(pictures, draws)
        levels = {name: replace(level, loss=torch.zeros(())) for name, level in out.levels.items()}
        return out._replace(pictures=pictures.mean(dim=0).expand_as(pictures), levels=levels)


def test_the_baseline_is_what_the_mean_picture_scores():
    loss = reconstruction_objective()(MeanPicture(), batch(), Draws([1, 2, 3, 4]))
    assert float(loss.total) == pytest.approx(loss.baseline, rel=1e-5)


def test_a_collapsed_codebook_is_said_and_a_lively_one_is_not():
    torch.manual_seed(0)
    model = VqVae(ONE)
    objective, draws = reconstruction_objective(), Draws([1, 2, 3, 4])
    with torch.no_grad():
        vectors = model._vectors(batch().pictures).reshape(-1, 6)
        model.codebook.codes.copy_(vectors[:: len(vectors) // 8][:8])
    assert objective(model, batch(), draws).warning is None
    with torch.no_grad():
        model.codebook.codes[1:] = 1e3
    said = objective(model, batch(), draws).warning
    assert said is not None
    assert said.startswith("COLLAPSED: 1 of 8 codes served 64 choices (perplexity 1.0)")


def test_both_levels_are_named_where_both_have_collapsed():
    torch.manual_seed(0)
    model = VqVae2(TWO)
    with torch.no_grad():
        for book in (model.top_codebook, model.bottom_codebook):
            book.codes[1:] = 1e3
    said = str(reconstruction_objective()(model, batch(), Draws([1, 2, 3, 4])).warning)
    assert "1 of 8 top codes served 16" in said
    assert "1 of 8 bottom codes served 64" in said


@pytest.mark.parametrize("make", makers(), ids=["one level", "two levels"])
def test_it_learns(make):
    """Four pictures of flat quarters, nearly by heart in a few steps."""
    torch.manual_seed(0)
    model, objective = make(), reconstruction_objective()
    quarters = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    given = Pictures(quarters.repeat_interleave(4, 2).repeat_interleave(4, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(120):
        loss = objective(model, given, Draws.for_step(0, step, range(4)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    error = (model.eval().reconstruct(given.pictures) - given.pictures).square().mean()
    assert float(error) < 0.3 * loss.baseline


class Unigram(nn.Module):
    """A prior that knows how often each code comes, and nothing else."""

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        self.shares = shares
        self.seen: list[Tensor | None] = []

    def forward(
        self, ids: Tensor, *, condition: Tensor | None, keep: Tensor | None, above: Tensor | None
    ) -> Tensor:
        assert (condition is None) == (keep is None)
        self.seen += [keep, above]
        return self.shares.log().expand(*ids.shape, -1)


def test_a_prior_is_measured_against_the_codes_own_frequencies():
    ids = torch.tensor([[[0, 1], [2, 2]], [[2, 2], [3, 3]]])
    shares = torch.tensor([1, 1, 4, 2]) / 8
    loss = prior_objective(drop_condition=0.0)(
        Unigram(shares), CodesAndCondition(ids, None, None), Draws([1, 2])
    )
    entropy = float(-(shares * shares.log()).sum())
    assert float(loss.total) == pytest.approx(entropy)
    assert loss.baseline == pytest.approx(entropy)
    assert float(loss.report["bits"]) == pytest.approx(entropy / math.log(2)) == pytest.approx(1.75)


def test_the_condition_is_withheld_as_often_as_asked():
    rows = 2000
    model = Unigram(torch.ones(2) / 2)
    above = torch.ones(rows, 1, 1, dtype=torch.int64)
    given = CodesAndCondition(torch.zeros(rows, 1, 1, dtype=torch.int64), torch.zeros(rows, 3), above)
    prior_objective(drop_condition=0.1)(model, given, Draws(list(range(rows))))
    keep, seen = model.seen
    assert keep is not None
    assert float((~keep).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert seen is above
