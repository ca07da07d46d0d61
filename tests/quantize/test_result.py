"""How a codebook's use is measured, and when it is said to have collapsed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.quantize.result import Usage, everywhere, said, usage_of


def test_perplexity_of_known_shares():
    usage = Usage(torch.tensor([[5, 5, 5, 5], [7, 0, 0, 0], [2, 1, 1, 0]]))
    assert usage.perplexity.tolist() == pytest.approx([4, 1, math.exp(1.5 * math.log(2))])
    assert usage.used.tolist() == [4, 1, 3]
    assert usage.dead.tolist() == [0, 3, 1]
    assert float(usage.share) == pytest.approx(8 / 12)


@given(counts=st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any))
def test_perplexity_lies_between_one_and_the_codes_used(counts):
    usage = Usage(torch.tensor(counts))
    assert 1 - 1e-4 <= float(usage.perplexity) <= float(usage.used) * (1 + 1e-4)
    assert int(usage.used + usage.dead) == len(counts)


def test_nothing_chosen_is_no_number_to_trip_over():
    usage = Usage(torch.zeros(5, dtype=torch.int64))
    assert (float(usage.perplexity), int(usage.dead)) == (1.0, 5)
    assert said(usage) is None


def test_choices_are_counted_and_add_up():
    first, second = usage_of(torch.tensor([[0, 2], [2, 2]]), 4), usage_of(torch.tensor([3]), 4)
    assert first.counts.tolist() == [1, 0, 3, 0]
    assert Usage(first.counts + second.counts).used == 3
    assert everywhere(first).counts.tolist() == [1, 0, 3, 0]


def test_a_collapse_is_said():
    counts = torch.zeros(512, dtype=torch.int64)
    counts[:3] = torch.tensor([8000, 150, 42])
    sentence = said(Usage(counts), "top codes")
    assert sentence is not None
    assert sentence.startswith("COLLAPSED: 3 of 512 top codes served 8,192 choices (perplexity 1.1): try ")


def test_one_code_for_nearly_everything_is_a_collapse_though_others_turn_up():
    counts = torch.ones(512, dtype=torch.int64)
    assert said(Usage(counts * 20)) is None
    counts[7] = 100_000
    assert str(said(Usage(counts))).startswith("COLLAPSED: 512 of 512 codes served 100,511 choices")


def test_idle_codes_are_said():
    counts = torch.zeros(100, dtype=torch.int64)
    counts[:30] = 50
    assert str(said(Usage(counts))).startswith("IDLE CODES: 30 of 100 codes served 1,500 choices")


def test_the_group_that_collapsed_is_named():
    counts = torch.full((2, 320), 5)
    counts[1, 1:] = 0
    assert "1 of 320 codes of group 1 served" in str(said(Usage(counts)))


@given(size=st.integers(2, 2000), choices=st.integers(0, 5000), seed=st.integers(0, 10**6))
def test_a_codebook_chosen_evenly_is_never_blamed(size, choices, seed):
    """However few the choices are: ten choices cannot touch five hundred codes."""
    ids = torch.randint(size, (choices,), generator=torch.Generator().manual_seed(seed))
    if choices > 8 or size > 8:
        assert said(usage_of(ids, size)) is None or int(ids.unique().numel()) < choices / 4
