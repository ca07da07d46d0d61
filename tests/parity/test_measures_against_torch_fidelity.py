"""The same numbers as torch-fidelity has of the same features, to a thousandth."""

import numpy as np
import pytest
import torch

from limner.evaluation.coverage import covered
from limner.evaluation.frechet import frechet_distance, kernel_distance
from limner.evaluation.inception_score import inception_score
from limner.evaluation.moments import Moments


def cloud(seed: int, rows: int, shift: float = 0.0) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    mix = torch.randn(24, 24, generator=torch.Generator().manual_seed(9))
    return torch.randn(rows, 24, generator=stream) @ mix / 5 + shift


@pytest.mark.usefixtures("fidelity")
def test_frechet_distance():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = cloud(0, 700), cloud(1, 500, 0.3)
    pair = [fid_features_to_statistics(one) for one in (x, y)]
    theirs = fid_statistics_to_metric(*pair, False)["frechet_inception_distance"]
    both = [Moments(24), Moments(24)]
    for moments, rows in zip(both, (x, y), strict=True):
        for some in rows.split(64):
            moments.add(some)
    assert frechet_distance(both[0].gaussian(), both[1].gaussian()) == pytest.approx(theirs, rel=1e-3)
    assert theirs > 1


@pytest.mark.usefixtures("fidelity")
def test_the_score():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * cloud(2, 300)
    found = isc_features_to_metric(logits, splits=1, shuffle=False)
    ours = inception_score(logits.softmax(dim=1).split(37))
    assert ours == pytest.approx(found["inception_score_mean"], rel=1e-3)


@pytest.mark.usefixtures("fidelity")
def test_precision_and_recall():
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    painted, real = cloud(3, 130, 0.2), cloud(4, 170)
    theirs = calculate_precision_recall_full(painted.double(), real.double(), 3, 10_000)
    ours = [covered(*pair).double().mean().item() for pair in ((real, painted), (painted, real))]
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert all(0.05 < share < 0.95 for share in ours)


@pytest.mark.usefixtures("fidelity")
def test_kernel_distance():
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = cloud(5, 300), cloud(6, 300, 0.3)
    # Subsets of all there is: nothing is left to chance.
    theirs = kid_features_to_metric(
        x, y, kid_subsets=2, kid_subset_size=300, kid_kernel="poly", verbose=False, rng_seed=0
    )["kernel_inception_distance_mean"]
    assert kernel_distance(x, y, seed=0, subset=300, subsets=2).value == pytest.approx(theirs, rel=1e-3)
    assert np.isfinite(theirs)
