import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.evaluation.frechet import (
    Gaussian,
    frechet_distance,
    gaussian,
    kernel_distance,
    square_root,
    unbiased_mmd,
)


def normal(mean: float, variance: float, width: int = 3) -> Gaussian:
    return Gaussian(
        torch.full((width,), mean, dtype=torch.float64), variance * torch.eye(width, dtype=torch.float64)
    )


def cloud(seed: int, rows: int, width: int) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=stream, dtype=torch.float64)
    return torch.randn(rows, width, generator=stream, dtype=torch.float64) @ mix


def test_the_published_closed_form():
    # ‖0 - 1‖² + tr(I + 4I - 2·2I) = 3 + 3.
    assert frechet_distance(normal(0, 1), normal(1, 4)) == pytest.approx(6, abs=1e-12)


def test_covariances_that_do_not_commute():
    # Two planes, one turned by 45°: the eigenvalues of the product are found independently.
    a = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    c = math.sqrt(0.5)
    turn = torch.tensor([[c, -c], [c, c]], dtype=torch.float64)
    b = turn @ a @ turn.T
    zero = torch.zeros(2, dtype=torch.float64)
    overlap = torch.linalg.eigvals(a @ b).real.sqrt().sum()
    expected = float(a.trace() + b.trace() - 2 * overlap)
    assert expected > 0.3
    assert frechet_distance(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(expected, abs=1e-10)


@given(seed=st.integers(0, 2**31), width=st.integers(1, 6), shift=st.floats(-5, 5))
def test_moving_a_cloud_costs_the_square_of_the_way(seed: int, width: int, shift: float):
    x = cloud(seed, 20, width)
    assert frechet_distance(gaussian(x), gaussian(x + shift)) == pytest.approx(
        width * shift**2, abs=1e-6, rel=1e-9
    )


@given(seed=st.integers(0, 2**31))
def test_it_is_symmetric_and_does_not_care_for_the_axes(seed: int):
    x, y = cloud(seed, 30, 4), cloud(seed + 1, 25, 4)
    there = frechet_distance(gaussian(x), gaussian(y))
    assert frechet_distance(gaussian(y), gaussian(x)) == pytest.approx(there, rel=1e-9)
    turn = torch.linalg.qr(cloud(seed + 2, 4, 4)).Q
    assert frechet_distance(gaussian(x @ turn), gaussian(y @ turn)) == pytest.approx(there, rel=1e-9)
    assert there > 0


def test_fewer_pictures_than_features():
    # Singular covariances, as 300 pictures and 1280 features give.
    x = cloud(0, 10, 40)
    assert frechet_distance(gaussian(x), gaussian(x)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(gaussian(x), gaussian(2 * x)) > 1


def test_the_estimate_approaches_the_truth():
    x = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0))
    y = 1 + 2 * torch.randn(200_000, 3, generator=torch.Generator().manual_seed(1))
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(6, abs=0.1)


def test_the_root_squared():
    x = cloud(3, 30, 5)
    covariance = gaussian(x).covariance
    root = square_root(covariance)
    assert torch.allclose(root @ root, covariance)
    assert torch.allclose(root, root.T)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="1 rows"):
        gaussian(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="one network"):
        frechet_distance(normal(0, 1, 3), normal(0, 1, 4))
    with pytest.raises(ValueError, match="at least two"):
        kernel_distance(torch.zeros(5, 3), torch.zeros(1, 3), seed=0)


def test_the_kernel_distance_by_hand():
    x, y = cloud(4, 5, 3), cloud(5, 4, 3)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = sum(kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(kernel(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(kernel(a, b) for a in x for b in y) / 20
    assert float(unbiased_mmd(x, y)) == pytest.approx(within_x + within_y - 2 * between)


def test_the_kernel_distance_has_no_bias():
    # Two halves of one cloud: zero on average, on both sides of it; the biased estimate never is below.
    halves = [torch.randn(40, 4, generator=torch.Generator().manual_seed(i)).double() for i in range(400)]
    values = torch.stack([unbiased_mmd(half[:20], half[20:]) for half in halves])
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean()) < 3 * error
    assert (values < 0).float().mean() > 0.3


def test_the_kernel_distance_tells_clouds_apart_and_repeats_itself():
    x, y = cloud(6, 200, 4), cloud(6, 200, 4) + 0.5
    near = kernel_distance(x[:100], x[100:], seed=0, subset=50)
    far = kernel_distance(x[:100], y[100:], seed=0, subset=50)
    assert far.value - near.value > 3 * near.error / 10
    assert kernel_distance(x[:100], y[100:], seed=0, subset=50) == far
    assert kernel_distance(x[:100], y[100:], seed=1, subset=50) != far
