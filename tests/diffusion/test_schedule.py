"""Schedules agree with the published ones to every printed digit, and with Bayes' rule."""

import math
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.diffusion.schedule import Schedule, cosine, linear, spaced, vp_sde

FAST27 = [0, 22, 44, 66, 88, 111, 133, 155, 177, 199, 200, 222, 244, 266, 288, 311, 333, 355, 377, 399]
FAST27 += [400, 500, 599, 600, 799, 800, 997]
SPACED27 = [0, 38, 77, 115, 154, 192, 231, 269, 307, 346, 384, 423, 461, 499, 538, 576, 615, 653, 692, 730]
SPACED27 += [768, 807, 845, 884, 922, 961, 999]
SPACED25 = [0, 42, 83, 125, 166, 208, 250, 291, 333, 375, 416, 458, 500, 541, 583, 624, 666, 708, 749, 791]
SPACED25 += [832, 874, 916, 957, 999]


def printed(value: str, actual: float) -> bool:
    """Whether `actual` rounds to the printed number."""
    unit = float(Decimal(1).scaleb(int(Decimal(value).as_tuple().exponent)))
    return abs(float(value) - actual) <= 0.5001 * unit


LINEAR = {
    0: ("1e-4", "0.9999", "9.210240"),
    1: ("1.1991991992e-4", "0.99978009207", "8.422082"),
    10: ("2.9919919920e-4", "0.99780657251", "6.120094"),
    100: ("2.0919919920e-3", "0.89514159090", "2.144371"),
    250: ("5.0799799800e-3", "0.52142303062", "0.085745"),
    499: ("1.0040040040e-2", "0.078587242882", "-2.461699"),
    500: ("1.0059959960e-2", "0.077796658365", "-2.472667"),
    749: ("1.5020020020e-2", "3.3505504389e-3", "-5.695274"),
    750: ("1.5039939940e-2", "3.3001583616e-3", "-5.710479"),
    900: ("1.8027927928e-2", "2.7024451956e-4", "-8.215913"),
    990: ("1.9820720721e-2", "4.8370478118e-5", "-9.936573"),
    998: ("1.9980080080e-2", "4.1181936381e-5", "-10.097470"),
    999: ("0.02", "4.0358297654e-5", "-10.117673"),
}
COSINE = {
    0: ("4.1284224822e-5", "0.99995871578", "10.094989"),
    1: ("4.6141752737e-5", "0.99991257593", "9.344652"),
    10: ("8.9871362453e-5", "0.99927890377", "7.234017"),
    100: ("5.3189915570e-4", "0.97157568181", "3.531674"),
    250: ("1.3272239542e-3", "0.84588798650", "1.702707"),
    499: ("3.1458862305e-3", "0.49384359044", "-0.024627"),
    500: ("3.1556914416e-3", "0.49228517245", "-0.030862"),
    749: ("7.5457077420e-3", "0.14427210239", "-1.780251"),
    750: ("7.5791226547e-3", "0.14317864643", "-1.789136"),
    900: ("1.9741855872e-2", "0.023616108794", "-3.721927"),
    990: ("0.18998754207", "1.9671738012e-4", "-8.533546"),
    998: ("0.74999939290", "2.4287669070e-6", "-12.928124"),
    999: ("0.999", "2.4287669070e-9", "-19.835882"),
}


@pytest.mark.parametrize(
    ("schedule", "golden"), [(linear(1000), LINEAR), (cosine(1000), COSINE)], ids=["linear", "cosine"]
)
def test_published_levels(schedule: Schedule, golden: dict[int, tuple[str, str, str]]) -> None:
    assert len(schedule) == 1000
    assert schedule.t.tolist() == list(range(1000))
    for index, (beta, alpha_bar, log_snr) in golden.items():
        # β by way of ᾱ: exact to 1e-9 even where ᾱ is near 1 and its last digits are all that count.
        assert schedule.betas[index].item() == pytest.approx(float(beta), rel=1e-9)
        assert printed(beta, schedule.betas[index].item())
        assert printed(alpha_bar, schedule.alpha_bar[index].item())
        assert printed(log_snr, schedule.log_snr[index].item())


@pytest.mark.parametrize(
    ("make", "steps", "first", "last"),
    [
        (linear, 100, "1e-3", "2.0390e-5"),
        (linear, 250, "4e-4", "3.2644e-5"),
        (linear, 4000, "2.5e-5", "4.2467e-5"),
        (cosine, 100, "6.3128e-4", "2.4286e-7"),
        (cosine, 250, "1.94269e-4", "3.8860e-8"),
        (cosine, 4000, "9.8658e-6", "1.5180e-10"),
    ],
)
def test_other_lengths(make: Callable[[int], Schedule], steps: int, first: str, last: str) -> None:
    schedule = make(steps)
    assert printed(first, schedule.betas[0].item())
    assert printed(last, schedule.alpha_bar[-1].item())


def test_only_the_last_cosine_beta_is_clipped() -> None:
    assert (cosine(1000).betas >= 0.9989).sum() == 1


@pytest.mark.parametrize(
    ("schedule", "index", "variance", "on_x0", "on_xt"),
    [
        (linear(1000), 100, "2.054554e-3", ".01889546", ".98107610"),
        (cosine(1000), 100, "5.222236e-4", ".01844986", ".98154826"),
        (linear(1000), 1, "5.453188e-5", ".54529150", ".45470850"),
    ],
    ids=["linear-100", "cosine-100", "linear-1"],
)
def test_published_posterior(schedule: Schedule, index: int, variance: str, on_x0: str, on_xt: str) -> None:
    assert printed(variance, schedule.posterior_variance[index].item())
    assert printed(on_x0, schedule.posterior_x0[index].item())
    assert printed(on_xt, schedule.posterior_xt[index].item())


@pytest.mark.parametrize("schedule", [linear(1000), cosine(1000), linear(1000).respace("fast27")])
def test_posterior_at_the_cleanest_level_is_x0_itself(schedule: Schedule) -> None:
    assert schedule.posterior_variance[0] == 0
    assert schedule.posterior_x0[0] == pytest.approx(1, abs=1e-11)
    assert schedule.posterior_xt[0] == 0
    assert schedule.posterior_log_variance[0] == schedule.posterior_log_variance[1]
    assert schedule.posterior_log_variance[1] == schedule.posterior_variance[1].log()
    assert schedule.posterior_log_variance.isfinite().all()


@pytest.mark.parametrize(
    "schedule",
    [linear(1000), cosine(1000), cosine(100), cosine(1000).respace("27"), linear(1000).log_snr_spaced(15)],
)
def test_posterior_is_bayes_rule(schedule: Schedule) -> None:
    """Multiply the Gaussians q(x_i | x_{i−1}) and q(x_{i−1} | x_0): precisions add, means weigh by them."""
    alpha, beta = (1 - schedule.betas)[1:], schedule.betas[1:]
    before = schedule.alpha_bar[:-1]
    precision = alpha / beta + 1 / (1 - before)
    torch.testing.assert_close(schedule.posterior_variance[1:], 1 / precision, rtol=1e-9, atol=0)
    x_t = alpha.sqrt() / beta / precision
    x0 = before.sqrt() / (1 - before) / precision
    torch.testing.assert_close(schedule.posterior_xt[1:], x_t, rtol=1e-9, atol=0)
    torch.testing.assert_close(schedule.posterior_x0[1:], x0, rtol=1e-9, atol=0)


def test_a_single_level_has_finite_variance() -> None:
    alone = cosine(1000).take([500])
    assert alone.posterior_log_variance.item() == pytest.approx(alone.betas.log().item())


RESPACINGS = {
    "fast27": FAST27,
    "10,10,3,2,2": [*FAST27[:-1], 999],
    "27": SPACED27,
    "15": [0, 71, 143, 214, 285, 357, 428, 500, 571, 642, 714, 785, 856, 928, 999],
    "25": SPACED25,
    "7": [0, 166, 333, 500, 666, 832, 999],
    "ddim25": list(range(0, 1000, 40)),
    "ddim50": list(range(0, 1000, 20)),
    "1": [999],
    "1000": list(range(1000)),
}


@pytest.mark.parametrize("spec", RESPACINGS)
def test_published_respacings(spec: str) -> None:
    assert spaced(1000, spec) == RESPACINGS[spec]


def test_published_respacings_in_part() -> None:
    assert spaced(1000, "64")[:6] == [0, 16, 32, 48, 63, 79]
    assert spaced(1000, 64)[-2:] == [983, 999]
    assert spaced(1000, 250)[:3] == [0, 4, 8]
    assert spaced(1000, 250)[-2:] == [995, 999]
    assert len(spaced(1000, 250)) == 250


@pytest.mark.parametrize(
    ("schedule", "spec", "first", "last", "alpha_bar"),
    [
        (
            linear(1000),
            "fast27",
            ["1e-4", "7.2149533746e-3", ".016745839973"],
            [".9400766593", ".0160359359", ".972125411"],
            "4.20215299e-5",
        ),
        (
            cosine(1000),
            "fast27",
            ["4.1284224822e-5", "2.1356025957e-3", "4.4844430975e-3"],
            [".722851559", "9.6531139e-3", ".9998956917"],
            "9.71504e-6",
        ),
        (
            cosine(1000),
            "50",
            ["4.1284224822e-5", "1.8445632572e-3", "4.0260323118e-3"],
            [".5474927827", ".7617994918", ".9999974992"],
            "2.4287669070e-9",
        ),
    ],
    ids=["linear-fast27", "cosine-fast27", "cosine-50"],
)
def test_published_respaced_betas(
    schedule: Schedule, spec: str, first: list[str], last: list[str], alpha_bar: str
) -> None:
    respaced = schedule.respace(spec)
    betas = respaced.betas.tolist()
    assert all(printed(text, value) for text, value in zip(first + last, betas[:3] + betas[-3:], strict=True))
    assert printed(alpha_bar, respaced.alpha_bar[-1].item())
    assert respaced.t.tolist() == spaced(1000, spec)


@given(st.integers(1, 300), st.data())
def test_even_spacing_visits_both_ends_once(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(min(2, total), total))
    levels = spaced(total, count)
    assert len(levels) == count
    assert levels == sorted(set(levels))
    assert levels[-1] == total - 1
    if count > 1:
        assert levels[0] == 0
        gaps = [b - a for a, b in pairwise(levels)]
        assert max(gaps) - min(gaps) <= 1


@given(st.sets(st.integers(0, 999), min_size=1, max_size=40))
def test_taken_levels_keep_their_signal(chosen: set[int]) -> None:
    indices = sorted(chosen)
    respaced = cosine(1000).take(indices)
    kept = (1 - respaced.betas).cumprod(0)
    torch.testing.assert_close(kept, cosine(1000).alpha_bar[indices], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "schedule", [linear(1000), cosine(1000), linear(100)], ids=["linear", "cosine", "T100"]
)
def test_log_snr_spacing(schedule: Schedule) -> None:
    levels = schedule.log_snr_spaced(20)
    gaps = levels.log_snr.diff()
    torch.testing.assert_close(gaps, gaps[:1].expand(19), rtol=1e-9, atol=0)
    assert levels.t[0] == 0
    torch.testing.assert_close(levels.alpha_bar[0], schedule.alpha_bar[0])
    assert levels.log_snr[-1].item() == pytest.approx(max(schedule.log_snr[-1].item(), -10.2))
    # The network is asked at the very time at which its schedule has this much noise.
    torch.testing.assert_close(schedule.alpha_bar_at(levels.t), levels.alpha_bar, rtol=1e-9, atol=0)


def test_one_level_of_log_snr_spacing_is_the_noisiest() -> None:
    assert linear(1000).log_snr_spaced(1).t.item() == 999


@given(st.floats(0, 999))
def test_alpha_bar_between_levels(t: float) -> None:
    schedule = cosine(1000)
    low, high = schedule.alpha_bar[math.ceil(t)].item(), schedule.alpha_bar[math.floor(t)].item()
    assert low * (1 - 1e-9) <= schedule.alpha_bar_at(torch.tensor([t])).item() <= high * (1 + 1e-9)


def test_alpha_bar_at_the_levels_themselves() -> None:
    schedule = cosine(1000)
    torch.testing.assert_close(
        schedule.alpha_bar_at(schedule.t.float()), schedule.alpha_bar, rtol=1e-10, atol=0
    )


def test_vp_sde() -> None:
    levels = vp_sde(torch.tensor([1e-3, 0.5, 1.0], dtype=torch.float64))
    alpha, sigma = levels.alpha_bar.sqrt().tolist(), (1 - levels.alpha_bar).sqrt().tolist()
    half = (levels.log_snr / 2).tolist()
    golden = [
        (".9999450265", ".0104854163", "4.5577149327"),
        (".2811828808", ".9596542021", "-1.2275677344"),
        (".0065715865", ".9999784069", "-5.0249784067"),
    ]
    for row, texts in zip(zip(alpha, sigma, half, strict=True), golden, strict=True):
        assert all(printed(text, value) for text, value in zip(texts, row, strict=True))


@pytest.mark.parametrize(
    ("total", "spec"),
    [
        (1000, "0"),
        (1000, "1001"),
        (1000, "500,600"),
        (1000, "ddim7000"),
        (1000, "ddim"),
        (1000, "many"),
        (1000, ""),
    ],
)
def test_impossible_respacings(total: int, spec: str) -> None:
    with pytest.raises(ValueError, match="spec is"):
        spaced(total, spec)


def test_impossible_schedules() -> None:
    with pytest.raises(ValueError, match="steps is 20"):
        linear(20)
    with pytest.raises(ValueError, match="steps is 0"):
        cosine(0)
    with pytest.raises(ValueError, match="steps is 0"):
        cosine(10).log_snr_spaced(0)
    t = torch.arange(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="out of order"):
        Schedule(t=t, alpha_bar=torch.tensor([0.1, 0.9], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"leaves \(0, 1\)"):
        Schedule(t=t, alpha_bar=torch.tensor([1.0, 0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="float64"):
        Schedule(t=t, alpha_bar=torch.tensor([0.9, 0.5]))
    with pytest.raises(ValueError, match="not empty"):
        Schedule(t=t[:0], alpha_bar=t[:0])
