"""The same states as diffusers' schedulers after every step, on a network with random weights."""

from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

from limner.diffusion.process import Network, Prediction, denoiser, q_sample, target
from limner.diffusion.samplers import Step, ancestral, ddim, dpm_solver_pp_2m
from limner.diffusion.schedule import Schedule, cosine, linear
from limner.draws import Draws

diffusers = pytest.importorskip("diffusers")

# diffusers hands torch tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCHEDULES: dict[str, tuple[Schedule, dict[str, object]]] = {
    "linear": (linear(1000), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "cosine": (cosine(1000), {"beta_schedule": "squaredcos_cap_v2"}),
}
PREDICTIONS: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SEEDS = [11, 12]


def random_network(channels_out: int) -> Network:
    generator = torch.Generator().manual_seed(0)
    weight = 0.3 * torch.randn(channels_out, 3, 3, 3, generator=generator)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(torch.nn.functional.conv2d(x, weight, padding=1) + t.reshape(-1, 1, 1, 1) / 1000)

    return network


def x_T() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def states(steps: Iterator[Step]) -> list[Tensor]:
    return [step.x for step in steps]


def exact(scheduler: object, schedule: Schedule) -> None:
    """Give them ᾱ in double precision: their tables are compared once, here only what they do with them."""
    scheduler.alphas_cumprod = schedule.alpha_bar  # type: ignore[attr-defined]


def their_states(scheduler: object, network: Network, *arguments: object, **noise: object) -> list[Tensor]:
    x, found = x_T(), []
    for t in scheduler.timesteps:  # type: ignore[attr-defined]
        x = scheduler.step(network(x, t.float().expand(2)), t, x, *arguments, **noise).prev_sample  # type: ignore[attr-defined]
        found.append(x)
    return found


def agree(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=2e-5)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_and_forward_process(name: str) -> None:
    schedule, arguments = SCHEDULES[name]
    scheduler = diffusers.DDPMScheduler(**arguments)
    torch.testing.assert_close(scheduler.betas.double(), schedule.betas, rtol=2e-5, atol=0)
    x0, noise, index = x_T(), torch.randn(2, 3, 6, 6), torch.tensor([3, 700])
    ours = q_sample(schedule, x0, index, noise)
    torch.testing.assert_close(ours, scheduler.add_noise(x0, noise, index), rtol=1e-4, atol=1e-5)
    ours = target("v", x0, noise, schedule.alpha_bar[index])
    torch.testing.assert_close(ours, scheduler.get_velocity(x0, noise, index), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [200, 25])
@pytest.mark.parametrize(("variance", "theirs"), [("small", "fixed_small"), ("large", "fixed_large")])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral(
    name: str, prediction: Prediction, variance: Literal["small", "large"], theirs: str, steps: int
) -> None:
    schedule, arguments = SCHEDULES[name]
    scheduler = diffusers.DDPMScheduler(
        **arguments, variance_type=theirs, prediction_type=PREDICTIONS[prediction], clip_sample=True
    )
    exact(scheduler, schedule)
    scheduler.set_timesteps(steps)
    network = random_network(3)
    denoise = denoiser(network, schedule, prediction, clip=1.0)
    ours = ancestral(denoise, x_T(), schedule.respace(f"ddim{steps}"), Draws(SEEDS), variance=variance)
    agree(states(ours), their_states(scheduler, network, generator=generators()))


@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral_with_learned_variance(name: str) -> None:
    schedule, arguments = SCHEDULES[name]
    scheduler = diffusers.DDPMScheduler(**arguments, variance_type="learned_range", clip_sample=True)
    exact(scheduler, schedule)
    scheduler.set_timesteps(50)
    network = random_network(6)
    denoise = denoiser(network, schedule, "eps", learned_variance=True, clip=1.0)
    ours = ancestral(denoise, x_T(), schedule.respace("ddim50"), Draws(SEEDS))
    agree(states(ours), their_states(scheduler, network, generator=generators()))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim(name: str, prediction: Prediction, eta: float) -> None:
    schedule, arguments = SCHEDULES[name]
    scheduler = diffusers.DDIMScheduler(
        **arguments, prediction_type=PREDICTIONS[prediction], clip_sample=True, set_alpha_to_one=True
    )
    exact(scheduler, schedule)
    scheduler.set_timesteps(20)
    network = random_network(3)
    denoise = denoiser(network, schedule, prediction, clip=1.0)
    ours = ddim(denoise, x_T(), schedule.respace("ddim20"), Draws(SEEDS), eta=eta)
    # Clipped guesses mean another noise than the network said: like ours, theirs has to re-derive it.
    theirs = their_states(scheduler, network, eta=eta, use_clipped_model_output=True, generator=generators())
    agree(states(ours), theirs)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_dpm_solver(name: str, prediction: Prediction, steps: int) -> None:
    schedule, arguments = SCHEDULES[name]
    levels = [round(t) for t in torch.linspace(0, 950, steps).tolist()]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **arguments,
        prediction_type=PREDICTIONS[prediction],
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="zero",
    )
    exact(scheduler, schedule)
    scheduler.set_timesteps(timesteps=levels[::-1])
    network = random_network(3)
    ours = dpm_solver_pp_2m(denoiser(network, schedule, prediction), x_T(), schedule.take(levels))
    agree(states(ours), their_states(scheduler, network))
