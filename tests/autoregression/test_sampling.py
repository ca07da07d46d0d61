"""Logits to tokens, in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.autoregression import Sampling, choose
from limner.autoregression.sampling import top_k, top_p
from limner.draws import Draws

# Probabilities 1/2, 1/4, 1/8, 1/8, in no particular order.
SHARES = torch.tensor([[0.125, 0.5, 0.125, 0.25]])
LOGITS = SHARES.log()
PLAIN = Sampling()

seeds = st.integers(0, 2**31)


def drawn(logits: Tensor, count: int, sampling: Sampling = PLAIN, seed: int = 0) -> Tensor:
    noise = Draws([seed]).gumbel(count, logits.shape[-1])[0]
    return choose(logits.expand(count, -1), noise, sampling)


def frequencies(logits: Tensor, sampling: Sampling, count: int = 20_000) -> Tensor:
    return torch.bincount(drawn(logits, count, sampling), minlength=logits.shape[-1]) / count


def test_the_largest_sum_is_taken():
    noise = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]])
    assert choose(LOGITS.expand(3, -1), noise, PLAIN).tolist() == [1, 0, 2]
    # Logits are divided by the temperature, and the noise is not.
    assert choose(LOGITS, noise[1:2] / 2, Sampling(temperature=0.5)).tolist() == [1]


@given(seed=seeds, temperature=st.floats(0.1, 5))
def test_frequencies_are_the_tempered_softmax(seed, temperature):
    logits = torch.randn(1, 7, generator=torch.Generator().manual_seed(seed))
    found = frequencies(logits, Sampling(temperature=temperature))
    # Six standard deviations of a share of one half.
    torch.testing.assert_close(
        found, (logits[0] / temperature).softmax(-1), atol=6 * 0.5 / 20_000**0.5, rtol=0
    )


def test_top_k_in_closed_form():
    kept = top_k(LOGITS, 2).softmax(-1)
    torch.testing.assert_close(kept, torch.tensor([[0.0, 2 / 3, 0.0, 1 / 3]]))
    assert torch.equal(top_k(LOGITS, 4), LOGITS)
    assert torch.equal(top_k(LOGITS, 400), LOGITS)
    assert top_k(LOGITS, 3).isfinite().sum() == 4  # the two eighths tie


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.01, [1]), (0.49, [1]), (0.51, [1, 3]), (0.74, [1, 3]), (0.76, [0, 1, 3]), (0.9, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_that_reach_it(p, kept):
    assert top_p(LOGITS, p)[0].isfinite().nonzero()[:, 0].tolist() == kept


def test_top_p_of_one_keeps_all():
    assert torch.equal(top_p(LOGITS, 1.0), LOGITS)


@given(seed=seeds, p=st.floats(0.01, 0.99))
def test_the_nucleus_reaches_p_and_not_without_its_last(seed, p):
    logits = 3 * torch.randn(1, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = logits.softmax(-1)
    kept = shares[top_p(logits, p).isfinite()]
    assert kept.sum() >= p - 1e-12
    assert kept.sum() - kept.min() < p + 1e-12
    assert kept.min() >= shares[~top_p(logits, p).isfinite()].max()


def test_top_p_counts_what_top_k_left():
    # Of 1/2 and 1/4 alone, the first holds 2/3.
    assert set(drawn(LOGITS, 50, Sampling(top_k=2, top_p=0.6)).tolist()) == {1}
    assert set(drawn(LOGITS, 50, Sampling(top_k=2, top_p=0.7)).tolist()) == {1, 3}


@given(seed=seeds, temperature=st.floats(0.05, 3), k=st.integers(1, 9), p=st.floats(0.01, 1))
def test_what_is_cut_is_never_drawn(seed, temperature, k, p):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(64, 9, generator=generator)
    ids = choose(logits, Draws(range(64)).gumbel(9), Sampling(temperature=temperature, top_k=k, top_p=p))
    left = top_p(top_k(logits / temperature, k), p)
    assert left.gather(1, ids[:, None]).isfinite().all()


@given(
    hidden=st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda flags: not all(flags)),
    temperature=st.sampled_from([1e-45, 1e-30, 1.0, 1e30]),
    scale=st.sampled_from([1.0, 1e38]),
)
def test_no_impossible_token_is_drawn_at_any_temperature(hidden, temperature, scale):
    logits = scale * torch.tensor([[0.1, -0.2, 0.3, 0.0, 1.0, -1.0]])
    logits = logits.masked_fill(torch.tensor([hidden]), -math.inf)
    for token in drawn(logits, 20, Sampling(temperature=temperature)).tolist():
        assert not hidden[token]


@given(seed=seeds)
def test_the_last_bits_of_logits_decide_next_to_nothing(seed):
    """A batch of another size rounds otherwise; a picture of a thousand tokens is to be the same."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(256, 1024, generator=generator)
    noise, rounding = Draws([seed]).gumbel(256, 1024)[0], torch.randn(256, 1024, generator=generator)
    apart = choose(logits, noise, PLAIN) != choose(logits + 1e-5 * rounding, noise, PLAIN)
    assert apart.sum() <= 1


def test_temperature_zero_takes_the_likeliest():
    assert set(drawn(LOGITS, 50, Sampling(temperature=0.0)).tolist()) == {1}
    assert set(drawn(LOGITS, 50, Sampling(temperature=1e-4)).tolist()) == {1}


@given(seed=seeds)
def test_rows_do_not_meet(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, noise = torch.randn(5, 11, generator=generator), Draws(range(5)).gumbel(11)
    sampling = Sampling(temperature=0.8, top_k=6, top_p=0.9)
    together = choose(logits, noise, sampling)
    alone = [choose(logits[i : i + 1], noise[i : i + 1], sampling) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_half_precision_logits_are_read_in_full():
    # In bfloat16 the noise would fall on few values, and the first of equals be taken.
    found = frequencies(torch.zeros(1, 1000, dtype=torch.bfloat16), PLAIN)
    assert found.max() <= 50 / 20_000
    assert found[:500].sum() == pytest.approx(0.5, abs=4 * 0.5 / 20_000**0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature: -1.0; give a finite number"),
        ({"temperature": math.nan}, "temperature: nan"),
        ({"top_k": 0}, "top_k: 0; give at least 1"),
        ({"top_p": 0.0}, "top_p: 0.0; give a share above 0"),
        ({"top_p": 1.5}, r"top_p: 1.5; give a share above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)
