"""Nearest codes, straight-through gradients, and codes that follow: against hand-computed numbers."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.draws import Draws
from limner.quantize import Codebook, CodebookConfig, MovingAverage
from limner.quantize import codebook as module

AVERAGE = MovingAverage(decay=0.99, epsilon=1e-5, restart_below=None)


def made(codes: Tensor, average: MovingAverage | None = AVERAGE, beta: float = 0.25) -> Codebook:
    """A codebook of these codes."""
    config = CodebookConfig(codes=len(codes), width=codes.shape[1], beta=beta, average=average)
    book = Codebook(config)
    with torch.no_grad():
        book.codes.copy_(codes)
        if average is not None:
            book.sums.copy_(codes)
    return book


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), codes=st.integers(1, 9), width=st.integers(1, 5))
@settings(max_examples=40)
def test_the_nearest_is_the_nearest(seed, rows, codes, width):
    book = made(normal(codes, width, seed=seed)).eval()
    z = 2 * normal(rows, 3, width, seed=seed + 1)
    distances = (z[..., None, :].double() - book.codes.double()).square().sum(-1)
    ids = book.nearest(z)
    assert torch.equal(ids, distances.argmin(-1))
    assert torch.equal(book(z).ids, ids)
    assert torch.equal(book.vectors(ids), book.codes[ids])


def test_more_vectors_than_are_compared_at_a_time():
    book, z = made(normal(4, 2)).eval(), normal(module.CHUNK + 3, 2, seed=1)
    assert torch.equal(book.nearest(z), torch.cdist(z, book.codes).argmin(1))


def test_codes_are_nearest_to_themselves_and_keep_their_place():
    book = made(normal(6, 3)).eval()
    given = book(book.codes[None])
    assert given.ids.tolist() == [list(range(6))]
    assert float(given.loss) == 0


@pytest.mark.parametrize("average", [AVERAGE, None], ids=["average", "loss"])
def test_straight_through_is_exact(average):
    """The value is the code to the bit; the gradient is the result's own, whatever is done with it."""
    book, z = made(normal(5, 4), average), (100 * normal(2, 3, 4, seed=1)).requires_grad_()
    codes = book.codes.detach().clone()
    out = book(z)
    assert torch.equal(out.vectors, codes[out.ids])
    weight = normal(2, 3, 4, seed=2)
    (gradient,) = torch.autograd.grad((out.vectors * weight).sum(), z, retain_graph=True)
    assert torch.equal(gradient, weight)
    if average is None:  # what comes after the bottleneck teaches the codes nothing
        assert torch.autograd.grad(out.vectors.sum(), book.codes, allow_unused=True) == (None,)


def test_both_losses_are_means_over_every_element():
    """One vector (3, 4) whose nearest code is the origin: ‖z - e‖² = 25 over D = 2."""
    book = made(torch.tensor([[0.0, 0.0], [9.0, 9.0]]), None)
    z = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]], requires_grad=True)
    out = book(z)
    mean = 25 / 4  # two vectors of two elements
    assert float(out.loss.detach()) == pytest.approx(0.25 * mean + mean)
    out.loss.backward()
    assert torch.allclose(z.grad, 0.25 * 2 * torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]) / 4)
    assert torch.allclose(book.codes.grad, -2 * torch.tensor([[3.0, 4.0], [0.0, 0.0]]) / 4)


def test_with_an_average_only_the_commitment_is_left():
    """It is not zero, as it would be if taken after the straight-through step."""
    book = made(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    z = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    out = book(z)
    assert float(out.loss.detach()) == pytest.approx(0.25 * 25 / 2)
    (gradient,) = torch.autograd.grad(out.loss, z)
    assert torch.allclose(gradient, torch.tensor([[[0.75, 1.0]]]))
    assert list(book.parameters()) == []


def test_the_average_by_hand():
    """γ = 1/2, codes 0 and 10; the batch says 1, 2, 3 and 9."""
    epsilon = 0.1
    book = made(torch.tensor([[0.0], [10.0]]), MovingAverage(decay=0.5, epsilon=epsilon, restart_below=None))
    out = book(torch.tensor([[[1.0], [2.0], [3.0], [9.0]]]))
    assert out.ids.tolist() == [[0, 0, 0, 1]]
    assert out.vectors.flatten().tolist() == [0, 0, 0, 10]  # what was used is the codes of before
    counts = [0.5 * 1 + 0.5 * 3, 0.5 * 1 + 0.5 * 1]
    sums = [0.5 * 0 + 0.5 * 6, 0.5 * 10 + 0.5 * 9]
    smoothed = [(n + epsilon) / (sum(counts) + 2 * epsilon) * sum(counts) for n in counts]
    assert book.counts.tolist() == pytest.approx(counts)
    assert book.sums.flatten().tolist() == pytest.approx(sums)
    expected = [m / n for m, n in zip(sums, smoothed, strict=True)]
    assert book.codes.flatten().tolist() == pytest.approx(expected)
    assert sum(smoothed) == pytest.approx(sum(counts))  # smoothing moves weight and adds none


def test_evaluation_leaves_the_codes_alone():
    book, z = made(normal(4, 3)), normal(2, 5, 3, seed=1)
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book.eval()(z)
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())
    book.nearest(z)
    book.train()(z)
    assert all(not torch.equal(value, before[name]) for name, value in book.state_dict().items())


def test_idle_codes_stay_where_they_are():
    """Neither thrown out by a vanishing count nor drawn to the origin while their count lasts."""
    far = torch.tensor([[50.0, -70.0]])
    book = made(torch.cat([normal(3, 2), far]))
    for step in range(200):
        book(normal(4, 8, 2, seed=step))
    assert torch.allclose(book.codes[3:], far, rtol=1e-3)
    for step in range(3000):
        book(normal(1, 2, 2, seed=step))
    assert book.codes.isfinite().all()
    assert float(book.codes[3].norm()) <= float(far.norm()) * 1.001


def test_codes_become_the_means_of_what_chooses_them():
    centres = torch.tensor([[4.0, 0.0], [-4.0, 1.0], [0.0, 6.0]])
    book = made(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), replace(AVERAGE, decay=0.9))
    for step in range(100):
        z = centres + 0.1 * normal(32, 3, 2, seed=step)
        book(z)
    assert torch.allclose(book.codes, centres, atol=0.03)


def test_a_code_restarts_where_a_vector_lies_once_it_has_been_idle_long_enough():
    average = MovingAverage(decay=0.99, epsilon=1e-5, restart_below=0.5)
    book = made(torch.cat([torch.zeros(1, 2), torch.full((3, 2), 1000.0)]), average)
    for step in range(68):
        book(normal(4, 5, 2, seed=step), Draws([1, 2, 3, 4]))
    assert (book.codes[1:] > 999).all()
    z = normal(4, 5, 2, seed=99)
    book(z, Draws([1, 2, 3, 4]))
    flat = z.reshape(-1, 2).tolist()
    rows = [flat.index(code) // 5 for code in book.codes[1:].tolist()]  # each is one of the batch's vectors
    assert rows == [0, 1, 2]  # of different pictures
    assert book.counts[1:].tolist() == [1, 1, 1]
    assert torch.equal(book.sums[1:], book.codes[1:])
    assert float(book.counts[0]) > 10


def test_restarts_are_a_function_of_the_streams():
    average = MovingAverage(decay=0.1, epsilon=1e-5, restart_below=0.5)
    found = []
    for seeds in ([1, 2], [1, 2], [1, 3]):
        book = made(torch.full((9, 2), 1000.0), average)
        book(normal(2, 50, 2), Draws(seeds))
        found.append(book.codes)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len(found[0][1:].unique(dim=0)) == 8


def test_without_the_option_nothing_restarts():
    book = made(torch.cat([torch.zeros(1, 2), torch.full((3, 2), 1000.0)]), replace(AVERAGE, decay=0.5))
    for step in range(8):
        book(normal(4, 5, 2, seed=step))
    assert (book.codes[1:] > 900).all()


def test_half_precision_around_it_changes_no_choice():
    book, z = made(normal(64, 16)).eval(), normal(32, 16, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        out = book(z)
        assert torch.equal(book.nearest(z), out.ids)
    assert torch.equal(out.ids, book(z).ids)
    assert torch.equal(out.vectors, book(z).vectors)
    assert book(z.bfloat16()).vectors.dtype == torch.bfloat16


def test_what_cannot_be_quantized_is_refused():
    book = made(normal(4, 3), MovingAverage(decay=0.99, epsilon=1e-5, restart_below=0.5))
    with pytest.raises(ValueError, match="z: vectors of width 2, but the codes have 3"):
        book(normal(1, 2))
    with pytest.raises(ValueError, match="draws: missing"):
        book(normal(1, 3))
    book.eval()(normal(1, 3))
    for settings_, name in (
        ({"decay": 1.0}, "decay"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"restart_below": 1.0}, "rest"),
    ):
        with pytest.raises(ValueError, match=name):
            replace(AVERAGE, **settings_)
