"""The loss in closed form, the KL the right way round, and the schedules by the batch's own step."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.draws import Draws
from limner.dvae import DVae, DVaeConfig, PicturesAtStep, Ramp, Relaxed, drawn_in, dvae_objective
from limner.dvae.likelihood import constant_nll, floored, logit_laplace_nll
from limner.dvae.objective import idleness
from limner.quantize import kl_from_uniform
from limner.training.loop import moved

CONFIG = DVaeConfig(
    resolution=8, vocabulary=10, codebook=4, widths=(8, 12), blocks=1, poolings=1, stem=3, gain=0.5, patch=1
)
PLAIN = {
    "kl_weight": Ramp(start=0.0, end=6.6, steps=10),
    "temperature": Ramp(start=1.0, end=0.25, steps=8),
    "idle_weight": 0.0,
    "floor": None,
}


def pictures(rows: int = 4, side: int = 8) -> Tensor:
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def logits(rows: int, seed: int = 2, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, 4, 4, 10, generator=torch.Generator().manual_seed(seed))


class Fixed(DVae):
    """A dVAE that says what it is told to, and remembers what it was asked."""

    def __init__(self, answer: Relaxed) -> None:
        super().__init__(CONFIG)
        self.answer = answer
        self.asked: list[tuple[Tensor, Tensor, float]] = []

    def forward(self, pictures: Tensor, noise: Tensor, temperature: float) -> Relaxed:
        self.asked.append((pictures, noise, temperature))
        return self.answer


def told(said: Relaxed, x: Tensor, step: int, **changes):
    model = Fixed(said)
    loss = dvae_objective(**(PLAIN | changes))(model, PicturesAtStep(x, step), Draws(range(len(x))))
    return loss, model


@dataclass
class Case:
    x: Tensor
    said: Relaxed
    misfit: float
    kl: float


@pytest.fixture
def case() -> Case:
    x = pictures()
    location, log_scale = torch.logit(drawn_in(x)) + 0.3, torch.full_like(x, -0.5)
    said = Relaxed(location, log_scale, logits(4))
    nll = logit_laplace_nll(drawn_in(x), location, log_scale)
    q = said.logits.softmax(dim=-1)
    kl = (q * (q * 10).log()).sum(dim=-1)
    return Case(x, said, float(nll.sum() / 4), float(kl.sum() / 4))


@pytest.mark.parametrize(("step", "beta"), [(0, 0.0), (5, 3.3), (10, 6.6), (99, 6.6)])
def test_sums_over_values_and_places_over_the_number_of_values(case, step, beta):
    loss, _ = told(case.said, case.x, step)
    assert loss.total.item() == pytest.approx((case.misfit + beta * case.kl) / (8 * 8 * 3), rel=1e-5)
    assert loss.report["misfit"].item() == pytest.approx(case.misfit / (8 * 8 * 3), rel=1e-5)
    assert loss.report["kl"].item() == pytest.approx(case.kl / 16, rel=1e-5)
    assert loss.baseline == pytest.approx(constant_nll(case.x).item())


def test_the_papers_weight_is_one_192nd_a_place():
    """At 8×8 colour values a token, 6.6 / 192 = 0.034375 of the mean KL of a place."""
    config = replace(CONFIG, widths=(8, 8, 8, 8), poolings=3, resolution=16)
    x = pictures(2, 16)
    torch.manual_seed(0)
    model = DVae(config)
    loss = dvae_objective(**PLAIN)(model, PicturesAtStep(x, 10), Draws([0, 1]))
    expected = loss.report["misfit"] + 0.034375 * loss.report["kl"]
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_kl_is_the_right_way_round():
    """Of q from the die: certainty costs ln K, at most. The other way it would be infinite."""
    certain = torch.zeros(2, 4, 4, 10)
    certain[..., 3] = 1e4
    x = pictures(2)
    said = Relaxed(torch.zeros_like(x), torch.zeros_like(x), certain)
    assert told(said, x, 10)[0].report["kl"].item() == pytest.approx(math.log(10), rel=1e-6)
    fair = said._replace(logits=torch.full((2, 4, 4, 10), 7.0))
    assert told(fair, x, 10)[0].report["kl"].item() == pytest.approx(0, abs=1e-5)


def test_noise_and_temperature_come_from_draws_and_step(case):
    for step, temperature in ((0, 1.0), (4, 0.625), (8, 0.25)):
        _, model = told(case.said, case.x, step)
        ((pictures, noise, asked),) = model.asked
        assert pictures is case.x
        assert asked == pytest.approx(temperature)
        assert torch.equal(noise, Draws(range(4)).gumbel(4, 4, 10))


def test_a_step_survives_the_way_to_the_device():
    batch = moved(PicturesAtStep(pictures(1), 7), torch.device("cpu"))
    assert isinstance(batch, PicturesAtStep)
    assert batch.step == 7


@given(st.integers(0, 100), st.floats(0.1, 6))
def test_kl_is_what_words_tell_plus_idleness(seed, scale):
    found = logits(3, seed, scale).double()
    q = found.softmax(dim=-1)
    mean = q.mean(dim=(0, 1, 2))
    told = (q * (q / mean).log()).sum(dim=-1).mean()
    whole = kl_from_uniform(found).mean()
    assert float(idleness(found)) == pytest.approx(float(whole - told), abs=1e-5)
    assert -1e-6 <= float(idleness(found)) <= math.log(10) + 1e-6


def test_idleness_asks_whether_words_turn_up_not_how_surely():
    each_once = 50 * torch.eye(10).reshape(1, 2, 5, 10)
    assert float(idleness(each_once)) == pytest.approx(0, abs=1e-5)
    always_one = torch.zeros(1, 2, 5, 10)
    always_one[..., 0] = 50
    assert float(idleness(always_one)) == pytest.approx(math.log(10), abs=1e-5)


def test_options_that_are_not_the_papers(case):
    plain, _ = told(case.said, case.x, 5)
    idle, _ = told(case.said, case.x, 5, idle_weight=2.0)
    extra = 2.0 * float(idleness(case.said.logits)) * 16 / (8 * 8 * 3)
    assert (idle.total - plain.total).item() == pytest.approx(extra, rel=1e-4)
    low, _ = told(case.said, case.x, 0, floor=1.0)
    scale = floored(case.said.log_scale, 1.0)
    expected = logit_laplace_nll(drawn_in(case.x), case.said.location, scale).mean()
    assert low.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_words_in_use_are_reported_and_collapse_is_said(case):
    good = case.said._replace(logits=50 * torch.eye(10).repeat(8, 1)[: 4 * 16].reshape(4, 4, 4, 10))
    loss, _ = told(good, case.x, 0)
    assert loss.report["used"].item() == 1
    assert loss.report["perplexity"].item() == pytest.approx(10, rel=0.01)
    assert loss.warning is None
    bad = torch.zeros(4, 4, 4, 10)
    bad[..., 0] = 9
    loss, _ = told(case.said._replace(logits=bad), case.x, 0)
    assert loss.report["used"].item() == pytest.approx(0.1)
    assert loss.report["perplexity"].item() == pytest.approx(1)
    assert loss.warning is not None
    assert loss.warning.startswith("COLLAPSED: 1 of 10 words served 64 choices")


def test_a_constant_guess_scores_the_baseline():
    x = pictures()
    logit = torch.logit(drawn_in(x))
    median = logit.median(dim=0).values.expand_as(x)
    scale = (logit - median).abs().mean().log().expand_as(x)
    loss, _ = told(Relaxed(median, scale, torch.zeros(4, 4, 4, 10)), x, 10)
    assert loss.total.item() == pytest.approx(loss.baseline, rel=1e-4)


def test_one_step_down_the_gradient_helps():
    torch.manual_seed(0)
    model, batch = DVae(CONFIG), PicturesAtStep(pictures(), 3)
    objective = dvae_objective(**(PLAIN | {"idle_weight": 1.0, "floor": -2.0}))

    def loss() -> Tensor:
        return objective(model, batch, Draws(range(4))).total

    before = loss()
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 1e-2 * parameter.grad
    assert loss().item() < before.item()


def test_only_a_dvae_is_trained():
    with pytest.raises(TypeError, match="expected DVae, got Identity"):
        dvae_objective(**PLAIN)(nn.Identity(), PicturesAtStep(pictures(), 0), Draws(range(4)))
