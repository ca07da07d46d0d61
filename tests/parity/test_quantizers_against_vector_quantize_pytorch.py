"""The same codes as two other implementations, step after step, from the same random weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.draws import Draws
from limner.quantize import Codebook, CodebookConfig, MovingAverage
from limner.quantize.product import ProductConfig, ProductQuantizer, diversity_loss

CODES, WIDTH, ROWS, LENGTH = 24, 6, 3, 50


def inputs(seed: int) -> Tensor:
    return torch.randn(ROWS, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def ours(average: MovingAverage | None, beta: float) -> Codebook:
    torch.manual_seed(0)
    return Codebook(CodebookConfig(codes=CODES, width=WIDTH, beta=beta, average=average))


def theirs(book: Codebook, **options) -> nn.Module:
    package = pytest.importorskip("vector_quantize_pytorch")
    other = package.VectorQuantize(dim=WIDTH, codebook_size=CODES, rotation_trick=False, **options)
    inner = other._codebook
    with torch.no_grad():
        inner.embed.copy_(book.codes[None])
        if book.config.average is not None:
            inner.embed_avg.copy_(book.sums[None])
            inner.cluster_size.copy_(book.counts[None])
    return other


def test_moving_average():
    average = MovingAverage(decay=0.9, epsilon=1e-3, restart_below=None)
    book = ours(average, 0.25)
    other = theirs(book, decay=0.9, eps=1e-3, commitment_weight=0.25)
    for step in range(6):
        z, twin = inputs(step).requires_grad_(), inputs(step).requires_grad_()
        mine = book(z)
        vectors, ids, loss = other(twin)
        assert torch.equal(mine.ids, ids)
        assert torch.allclose(mine.vectors, vectors, atol=1e-5)
        assert torch.allclose(mine.loss, loss.squeeze(), atol=1e-6)
        (mine.loss + mine.vectors.square().mean()).backward()
        (loss.squeeze() + vectors.square().mean()).backward()
        assert z.grad is not None
        assert twin.grad is not None
        assert torch.allclose(z.grad, twin.grad, atol=1e-6)
        inner = other._codebook
        assert torch.allclose(book.counts, inner.cluster_size[0], atol=1e-5)
        assert torch.allclose(book.sums, inner.embed_avg[0], atol=1e-5)
        assert torch.allclose(book.codes, inner.embed[0], atol=1e-4)
    frozen = book.codes.clone()
    other.eval()
    assert torch.equal(book.eval()(inputs(9)).ids, other(inputs(9))[1])
    assert torch.equal(book.codes, frozen)


def test_codebook_loss():
    """Theirs lets one mean of squares teach both sides, which is our two with β = 1."""
    book = ours(None, 1.0)
    other = theirs(book, learnable_codebook=True, ema_update=False, commitment_weight=1.0)
    z, twin = inputs(0).requires_grad_(), inputs(0).requires_grad_()
    mine = book(z)
    vectors, ids, loss = other(twin)
    assert torch.equal(mine.ids, ids)
    assert torch.allclose(mine.loss, 2 * loss.squeeze(), atol=1e-6)
    mine.loss.backward()
    loss.backward()
    assert z.grad is not None
    assert twin.grad is not None
    assert torch.allclose(z.grad, twin.grad, atol=1e-7)
    assert torch.allclose(book.codes.grad, other._codebook.embed.grad[0], atol=1e-7)
    assert torch.allclose(mine.vectors, vectors, atol=1e-6)


@pytest.fixture(scope="module")
def pair() -> tuple[ProductQuantizer, nn.Module]:
    """Ours and transformers' port of the quantizer released with wav2vec 2.0, of the same weights."""
    pytest.importorskip("transformers")
    from transformers import Wav2Vec2Config
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

    config = ProductConfig(width=WIDTH, groups=3, entries=7, code_width=12, out=None, shared=False)
    torch.manual_seed(0)
    mine = ProductQuantizer(config)
    other = Wav2Vec2GumbelVectorQuantizer(
        Wav2Vec2Config(
            conv_dim=(WIDTH,) * 7,
            num_codevector_groups=3,
            num_codevectors_per_group=7,
            codevector_dim=12,
        )
    )
    with torch.no_grad():
        other.weight_proj.weight.copy_(mine.logits.weight)
        other.weight_proj.bias.copy_(mine.logits.bias)
        other.codevectors.copy_(mine.codes.reshape(1, 21, 4))
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in other.parameters())
    return mine, other


def test_wav2vec_evaluation(pair):
    mine, other = pair
    vectors, _ = other.eval()(inputs(0))
    assert torch.allclose(mine.eval()(inputs(0)).vectors, vectors, atol=1e-6)


def test_wav2vec_training_with_the_same_noise(pair, monkeypatch):
    """Values, gradients, and the diversity loss computed from their perplexity."""
    mine, other = pair
    seeds = [4, 5, 6]
    noise = Draws(seeds).gumbel(LENGTH, 3, 7).reshape(-1, 7)

    def same_noise(logits: Tensor, tau: float, hard: bool) -> Tensor:
        soft = ((logits + noise) / tau).softmax(-1)
        assert hard
        return F.one_hot(soft.argmax(-1), 7) - soft.detach() + soft

    monkeypatch.setattr(nn.functional, "gumbel_softmax", same_noise)
    out = mine.train()(inputs(0), temperature=float(other.temperature), draws=Draws(seeds))
    vectors, perplexity = other.train()(inputs(0))
    assert torch.allclose(out.vectors, vectors, atol=1e-6)
    assert torch.allclose(out.loss, (21 - perplexity) / 21, atol=1e-6)
    weight = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(1))
    ((out.vectors * weight).sum() + out.loss).backward()
    ((vectors * weight).sum() + (21 - perplexity) / 21).backward()
    assert torch.allclose(mine.logits.weight.grad, other.weight_proj.weight.grad, rtol=1e-4, atol=1e-4)
    assert torch.allclose(mine.codes.grad.reshape(1, 21, 4), other.codevectors.grad, atol=1e-4)


def test_wav2vec_diversity_is_not_of_what_was_drawn(pair):
    mine, _ = pair
    logits = mine.logits(inputs(0)).reshape(ROWS, LENGTH, 3, 7)
    out = mine.train()(inputs(0), temperature=0.1, draws=Draws([1, 2, 3]))
    assert torch.allclose(out.loss, diversity_loss(logits), atol=1e-6)
