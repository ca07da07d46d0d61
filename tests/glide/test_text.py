"""GLIDE's reading of captions: padding is learned, nothing is masked, the last position speaks for all."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.glide import TextEncoder, TextEncoderConfig

CONTEXT = 6
CONFIG = TextEncoderConfig(context=CONTEXT, vocabulary=20, width=16, layers=2, heads=2, condition_width=10)


def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(CONFIG).eval()


def mask(length: int) -> torch.Tensor:
    return torch.arange(CONTEXT)[None] < length


@given(length=st.integers(0, CONTEXT), ids=st.lists(st.integers(0, 19), min_size=CONTEXT, max_size=CONTEXT))
@torch.no_grad()
def test_what_stands_in_a_padded_place_is_never_read(length, ids):
    read, given_ = encoder(), torch.tensor([ids])
    other = torch.where(mask(length), given_, (given_ + 7) % 20)
    for one, two in zip(read(given_, mask(length)), read(other, mask(length)), strict=True):
        assert torch.equal(one, two)


@torch.no_grad()
def test_padding_is_learned_place_by_place_and_seen_by_all():
    read, ids = encoder(), torch.tensor([[3, 4, 5, 0, 0, 0]])
    rows, pooled = read(ids, mask(3))
    read.padding[4] += torch.randn(16)
    moved_rows, moved_pooled = read(ids, mask(3))
    assert ((rows - moved_rows).abs().amax(dim=-1) > 1e-4).all()  # no causal mask, no mask of padding
    assert not torch.allclose(pooled, moved_pooled)
    # In a padded place neither token nor position counts.
    read.positions[3:] += torch.randn(3, 16)
    for one, two in zip(read(ids, mask(3)), (moved_rows, moved_pooled), strict=True):
        assert torch.equal(one, two)
    read.positions[2] += torch.randn(16)
    assert not torch.allclose(read(ids, mask(3))[0], moved_rows)


@torch.no_grad()
def test_every_word_sees_every_word():
    read, ids = encoder(), torch.tensor([[3, 4, 5, 6, 7, 8]])
    rows, _ = read(ids, mask(6))
    for place in range(CONTEXT):
        other = ids.clone()
        other[0, place] += 1
        assert ((rows - read(other, mask(6))[0]).abs().amax(dim=-1) > 1e-5).all()


@torch.no_grad()
def test_the_last_place_speaks_for_all():
    read = encoder()
    for length in (0, 2, CONTEXT):
        rows, pooled = read(torch.tensor([[3, 4, 5, 6, 7, 8]]), mask(length))
        assert rows.shape == (1, CONTEXT, 16)
        torch.testing.assert_close(pooled, read.pool(rows[:, -1]))


@torch.no_grad()
def test_an_empty_caption_is_padding_throughout():
    read = encoder()
    rows, _ = read(torch.zeros(1, CONTEXT, dtype=torch.int64), mask(0))
    expected = read.norm(read.transformer(read.padding[None]))
    torch.testing.assert_close(rows, expected)


def test_captions_come_padded():
    with pytest.raises(ValueError, match="ids: 5 positions, but this encoder pads to 6"):
        encoder()(torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.bool))
