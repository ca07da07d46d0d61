"""Attention is the formula, masks hide what they say, and the initialisation is CLIP's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.layers.transformer import Block, SelfAttention, Transformer, quick_gelu

WIDTH, HEADS, LENGTH = 12, 3, 6


def rows(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn(batch, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def attention_by_hand(attention: SelfAttention, x: Tensor, allowed: Tensor) -> Tensor:
    """One head and one query at a time: softmax over the keys it may see."""
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    size = WIDTH // HEADS
    out = torch.zeros_like(x)
    for b in range(len(x)):
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            for i in range(LENGTH):
                seen = allowed[b, i].nonzero()[:, 0]
                weights = torch.softmax(k[b, seen, part] @ q[b, i, part] / math.sqrt(size), dim=0)
                out[b, i, part] = weights @ v[b, seen, part]
    return attention.out(out)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_attention_is_the_formula(causal, masked):
    torch.manual_seed(0)
    attention, x = SelfAttention(width=WIDTH, heads=HEADS), rows()
    key_mask = torch.tensor([[True, True, False, True, True, False], [True] * 6]) if masked else None
    allowed = torch.ones(2, LENGTH, LENGTH, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    if key_mask is not None:
        allowed = allowed & key_mask[:, None, :]
    expected = attention_by_hand(attention, x, allowed)
    torch.testing.assert_close(attention(x, causal=causal, key_mask=key_mask), expected)


@given(changed=st.integers(0, LENGTH - 1), seed=st.integers(0, 20))
@torch.no_grad()
def test_a_causal_stack_sees_no_future(changed, seed):
    torch.manual_seed(seed)
    stack = Transformer(width=WIDTH, layers=2, heads=HEADS, activation="gelu")
    x = rows(seed)
    y = x.clone()
    y[:, changed] += 1 + torch.rand(WIDTH)  # not a constant, which the norm would take away
    before, after = stack(x, causal=True), stack(y, causal=True)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.isclose(before[:, changed:], after[:, changed:]).all(dim=-1).any()
    # Without causality the first row sees the change wherever it is.
    assert not torch.allclose(stack(x)[:, 0], stack(y)[:, 0])


@given(mask=st.lists(st.booleans(), min_size=LENGTH - 1, max_size=LENGTH - 1), causal=st.booleans())
@torch.no_grad()
def test_hidden_rows_change_nothing(mask, causal):
    torch.manual_seed(0)
    stack = Transformer(width=WIDTH, layers=2, heads=HEADS, activation="quick_gelu")
    key_mask = torch.tensor([True, *mask]).expand(2, -1)
    x = rows()
    y = torch.where(key_mask[..., None], x, 100 * rows(1))
    one = stack(x, causal=causal, key_mask=key_mask)
    other = stack(y, causal=causal, key_mask=key_mask)
    torch.testing.assert_close(one[key_mask], other[key_mask])


@torch.no_grad()
def test_hiding_rows_is_leaving_them_out():
    torch.manual_seed(0)
    stack = Transformer(width=WIDTH, layers=3, heads=HEADS, activation="gelu")
    x, key_mask = rows(), torch.tensor([True, True, False, True, False, True]).expand(2, -1)
    short = x[:, key_mask[0]]
    for causal in (False, True):
        whole = stack(x, causal=causal, key_mask=key_mask)[:, key_mask[0]]
        torch.testing.assert_close(whole, stack(short, causal=causal))


@torch.no_grad()
def test_a_block_adds_to_what_it_is_given():
    torch.manual_seed(0)
    block, x = Block(width=WIDTH, heads=HEADS, activation="gelu"), rows()
    middle = x + block.attention(block.norm_attention(x))
    inner = torch.nn.functional.gelu(block.widen(block.norm_mlp(middle)))
    torch.testing.assert_close(block(x), middle + block.narrow(inner))


def test_quick_gelu_is_not_gelu():
    x = torch.tensor([1.0, -1.0])
    torch.testing.assert_close(quick_gelu(x), torch.tensor([0.8457957506, -0.1542042345]))
    torch.testing.assert_close(torch.nn.functional.gelu(x), torch.tensor([0.8413447142, -0.1586552560]))
    assert Block(width=8, heads=1, activation="quick_gelu").activation is quick_gelu


def test_initialised_as_clips_text_tower():
    torch.manual_seed(0)
    width, layers = 256, 4
    stack = Transformer(width=width, layers=layers, heads=4, activation="gelu")
    expected = {
        "attention.qkv.weight": width**-0.5,
        "attention.out.weight": width**-0.5 * (2 * layers) ** -0.5,
        "widen.weight": (2 * width) ** -0.5,
        "narrow.weight": width**-0.5 * (2 * layers) ** -0.5,
    }
    for block in stack.blocks:
        named = dict(block.named_parameters())
        for name, std in expected.items():
            assert named[name].std().item() == pytest.approx(std, rel=0.02), name
            assert abs(named[name].mean().item()) < 0.05 * std
            assert not named[name.replace("weight", "bias")].any()


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads: 5 does not divide the width 12"):
        SelfAttention(width=12, heads=5)
