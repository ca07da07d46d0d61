"""The masks are the published ones, bit for bit; the attention that skips what they hide equals them."""

import hashlib
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from limner.dalle1.attention import SparseAttention
from limner.dalle1.masks import Kind, mask, offsets, published_order

KINDS: list[Kind] = ["row", "column", "convolution", "dense"]

# Allowed pairs of image positions, allowed pairs in all, first digits of the matrix's SHA-256.
PUBLISHED = {
    "row": (33_264, 328_304, "21f1c3f9f77a5d3c"),
    "column": (16_896, 311_936, "937d2c7baf66c0fb"),
    "convolution": (57_169, 352_209, "c9e63bc7a3fda2b0"),
    "dense": (524_800, 819_840, "68d8a1219ccdd15b"),
}
TINY = {
    "row": (70, 187, "91e86f3c7b45e36f"),
    "column": (40, 157, "556e1a447d77db18"),
    "convolution": (67, 184, "f05143c085382fcb"),
    "dense": (136, 253, "6a89d3db4e16a5fb"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "grid", "kernel", "known"), [(256, 32, 11, PUBLISHED), (6, 4, 3, TINY)], ids=["paper", "tiny"]
)
def test_masks_bit_for_bit(kind, text, grid, kernel, known):
    seen = mask(kind, text=text, grid=grid, kernel=kernel)
    within, whole, digest = known[kind]
    assert int(seen[text:, text:].sum()) == within
    assert int(seen.sum()) == whole
    assert hashlib.sha256(seen.to(torch.uint8).numpy().tobytes()).hexdigest()[:16] == digest


def test_no_position_sees_more_of_the_image_than_published():
    most = {kind: int(mask(kind, text=256, grid=32, kernel=11)[256:, 256:].sum(1).max()) for kind in KINDS}
    assert most == {"row": 33, "column": 32, "convolution": 61, "dense": 1024}


def test_the_row_reaches_around_its_end_and_up_to_the_same_column():
    seen = mask("row", text=0, grid=4, kernel=3)
    assert seen[9].nonzero()[:, 0].tolist() == [5, 6, 7, 8, 9]


def test_the_convolution_looks_up_right_and_around_the_end():
    # The defect that this guards against: a window that only ever looks up and left.
    assert offsets("convolution", grid=8, kernel=3) == (0, 1, 7, 8, 9)
    seen = mask("convolution", text=0, grid=4, kernel=3)
    assert seen[7].nonzero()[:, 0].tolist() == [2, 3, 4, 6, 7]  # column 3: "up right" is the next row's first


def test_order_of_layers():
    order = published_order(64)
    assert Counter(order) == {"row": 47, "column": 16, "convolution": 1}
    assert "".join(kind[0] for kind in order[:8]) == "rcrrrcrr"
    assert "".join(kind[0] for kind in order[-6:]) == "rrrcrc"
    assert order[-1] == "convolution"
    assert published_order(2) == ("row", "convolution")


def projections(text: int, length: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = 2 * torch.randn(3, 2, 3, text + length, 5, generator=generator, dtype=dtype)
    return q, k, v


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    text=st.integers(1, 7),
    grid=st.integers(1, 7),
    kernel=st.sampled_from([1, 3, 5, 7, 11]),
    cut=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_skipping_is_hiding(kind, text, grid, kernel, cut, seed):
    length = round((1 - cut) * grid**2)  # the image may end anywhere, as while decoding
    q, k, v = projections(text, length, seed, torch.float64)
    seen = mask(kind, text=text, grid=grid, kernel=kernel)[: text + length, : text + length]
    found = SparseAttention(kind, text=text, grid=grid, kernel=kernel)(q, k, v)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v, attn_mask=seen))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_too(kind):
    q, k, v = (x.requires_grad_() for x in projections(6, 16, 0, torch.float64))
    weight = torch.randn(q.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = mask(kind, text=6, grid=4, kernel=3)
    found = SparseAttention(kind, text=6, grid=4, kernel=3)(q, k, v)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_papers_size_and_in_the_precisions_of_training(kind, dtype, tolerance):
    q, k, v = (x[:1, :1].to(dtype) / 2 for x in projections(256, 1024, 0, torch.float32))
    seen = mask(kind, text=256, grid=32, kernel=11)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=seen)
    found = SparseAttention(kind, text=256, grid=32, kernel=11)(q, k, v)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", ["row", "column"])
def test_a_sparse_layer_multiplies_less(kind):
    """At the paper's 1280 positions: less than half of even the causal half of a dense layer."""
    size = 64
    q, k, v = (torch.zeros(1, 1, 1280, size) for _ in range(3))
    attention = SparseAttention(kind, text=256, grid=32, kernel=11)
    with FlopCounterMode(display=False) as counter:
        attention(q, k, v)
    text = 2 * 2 * size * 256**2  # the counter does not know the CPU's fused attention of text to text
    dense = 2 * 2 * size * (1280 * 1281 // 2)
    assert 0 < counter.get_total_flops() + text < 0.5 * dense


def test_less_than_the_text_is_refused():
    with pytest.raises(ValueError, match="q: 3 positions, fewer than the 4 of the text"):
        SparseAttention("row", text=4, grid=2, kernel=1)(*torch.zeros(3, 1, 1, 3, 2))
