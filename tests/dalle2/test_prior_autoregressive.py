"""Codes of embeddings: PCA against NumPy's, buckets that lose little, causality, decoding with a memory."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from limner.autoregression import Sampling
from limner.clip import unit
from limner.dalle2.decoder import ClipTokens
from limner.dalle2.objective import EmbeddingsAndCaptions, autoregressive_prior_objective
from limner.dalle2.pca import Pca
from limner.dalle2.prior_autoregressive import (
    AutoregressivePrior,
    AutoregressivePriorConfig,
    CodeReader,
    sample,
)
from limner.draws import Draws

CONFIG = AutoregressivePriorConfig(
    embedding=12, text_width=8, context=6, components=5, buckets=32, dots=4, width=16, layers=2, heads=2
)


def embeddings(rows=400, d=12):
    """Unit vectors that vary more in some directions than in others, about a mean."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(d, d, generator=generator) * torch.linspace(1, 0.05, d)
    return unit(torch.randn(rows, d, generator=generator) @ mixing.T + 0.5)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    model = AutoregressivePrior(CONFIG).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.pca.fit(embeddings())
    model.dot_edges.copy_(torch.tensor([-0.2, 0.1, 0.3]))
    return model


def read(rows=3, length=4):
    generator = torch.Generator().manual_seed(1)
    return ClipTokens(
        tokens=torch.randn(rows, length, 8, generator=generator, dtype=torch.float64),
        embedding=unit(torch.randn(rows, 12, generator=generator, dtype=torch.float64)),
        mask=torch.arange(length) < torch.tensor([[4], [2], [3]])[:rows],
    )


# --- components and buckets ----------------------------------------------------------------------


def test_components_are_numpys_by_decreasing_variance():
    z = embeddings()
    pca = Pca(embedding=12, components=5, buckets=32)
    pca.fit(z)
    centred = (z - z.mean(dim=0)).double().numpy()
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs((pca.basis.numpy() * vectors).sum(axis=1)), 1, atol=1e-4)
    np.testing.assert_allclose(pca.kept.numpy(), np.cumsum(singular**2) / (singular**2).sum(), atol=1e-5)
    assert (pca.kept.diff() > 0).all()
    assert pca.kept[-1] == pytest.approx(1)


def test_all_components_in_fine_buckets_lose_nothing_but_their_width():
    z = embeddings()
    for buckets, least in ((16, 0.98), (1024, 0.99999)):
        pca = Pca(embedding=12, components=12, buckets=buckets)
        pca.fit(z)
        codes = pca.encode(z)
        assert codes.min() == 0
        assert codes.max() == buckets - 1
        cosine = (pca.decode(codes) * z).sum(dim=1)
        assert cosine.mean() > least
    # A code's middle has that code.
    assert torch.equal(pca.encode_numbers(pca.numbers(codes)), codes)


def test_half_precision_around_it_does_not_move_a_code():
    pca = Pca(embedding=12, components=12, buckets=4096)
    z = embeddings()
    pca.fit(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pca.encode(z)
    assert torch.equal(inside, pca.encode(z))


def test_fewer_components_keep_the_share_that_was_said():
    z = embeddings()
    pca = Pca(embedding=12, components=5, buckets=1024)
    pca.fit(z)
    y = (z - pca.mean) @ pca.basis.T
    lost = y[:, 5:].square().sum() / y.square().sum()
    assert float(1 - pca.kept[4]) == pytest.approx(float(lost), rel=1e-3)


def test_reduced_embeddings_come_nearer_with_every_component():
    z = embeddings()[:50]
    pca = Pca(embedding=12, components=5, buckets=32)
    pca.fit(embeddings())
    ways = pca.reduced(z, torch.tensor([0, 1, 4, 12]))
    torch.testing.assert_close(ways[0], unit(pca.mean).expand(50, 12))
    torch.testing.assert_close(ways[3], z, atol=1e-5, rtol=0)
    cosines = (ways * z).sum(dim=2).mean(dim=1)
    assert (cosines.diff() > 0).all()


def test_refusals():
    with pytest.raises(ValueError, match="components is 13: give a number from 1 to the embedding's 12"):
        Pca(embedding=12, components=13, buckets=32)
    with pytest.raises(ValueError, match="buckets is 1"):
        Pca(embedding=12, components=5, buckets=1)
    with pytest.raises(ValueError, match="embeddings: 12 of 12 dimensions"):
        Pca(embedding=12, components=5, buckets=32).fit(embeddings(12))


# --- the network ---------------------------------------------------------------------------------


def test_a_code_is_told_by_those_before_it_alone(prior):
    condition, dots = read(), torch.tensor([0, 1, 3])
    codes = torch.randint(32, (3, 5), generator=torch.Generator().manual_seed(2))

    def logits(codes, dots, condition):
        return prior(codes, dots, tokens=condition.tokens, caption=condition.embedding, mask=condition.mask)

    with torch.no_grad():
        before = logits(codes, dots, condition)
        assert before.shape == (3, 5, 32)
        for place in range(5):
            other = codes.clone()
            other[:, place] = (other[:, place] + 7) % 32
            changed = (logits(other, dots, condition) != before).any(dim=2).any(dim=0)
            assert changed.tolist() == [later > place for later in range(5)]
        # All of them hear of the dot product, of z_t and of the words, but not of what stands behind these.
        assert (logits(codes, (dots + 1) % 4, condition) != before).any(dim=2).all()
        turned = condition._replace(embedding=condition.embedding.flip(1))
        assert (logits(codes, dots, turned) != before).any(dim=2).all()
        words = condition._replace(tokens=condition.tokens + condition.mask[..., None])
        assert (logits(codes, dots, words) != before).any(dim=2).all()
        behind = condition._replace(tokens=condition.tokens + ~condition.mask[..., None])
        assert torch.equal(logits(codes, dots, behind), before)


def test_decoding_with_a_memory_says_what_one_pass_says(prior):
    condition, dots = read(), torch.tensor([0, 1, 3])
    codes = torch.randint(32, (3, 5), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = prior(codes, dots, tokens=condition.tokens, caption=condition.embedding, mask=condition.mask)
        reader = CodeReader(prior, dots, condition)
        parts = [reader.read(codes[:, :0]), *(reader.read(codes[:, i : i + 1]) for i in range(4))]
    torch.testing.assert_close(torch.stack(parts, dim=1), whole)


def test_dot_tokens_are_the_ranges(prior):
    z = torch.eye(12, dtype=torch.float64)[:1].repeat(4, 1)
    caption = torch.zeros(4, 12, dtype=torch.float64)
    caption[:, 0] = torch.tensor([-0.5, 0.0, 0.2, 0.9])
    assert prior.dot_tokens(z, caption).tolist() == [0, 1, 2, 3]


def test_samples_ask_for_pictures_that_fit_and_belong_to_their_seed(prior):
    asked = []
    embed = prior.embed_dot.forward
    prior.embed_dot.forward = lambda dots: asked.append(dots) or embed(dots)
    heard = []
    z = sample(
        prior, read(), Draws([4, 5, 6]), guidance=1.0, sampling=Sampling(), on_code=lambda: heard.append(1)
    )
    assert z.shape == (3, 12)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert len(heard) == 5
    assert set(torch.cat(asked).tolist()) <= {2, 3}
    first = ClipTokens(*(part[1:2] for part in read()))
    alone = sample(prior, first, Draws([5]), guidance=1.0, sampling=Sampling())
    torch.testing.assert_close(alone[0], z[1])
    # The upper half is drawn evenly.
    asked.clear()
    many = ClipTokens(*(part[:1].expand(200, *part.shape[1:]) for part in read()))
    sample(prior, many, Draws(range(200)), guidance=1.0, sampling=Sampling())
    shares = torch.bincount(torch.cat(asked), minlength=4) / 200
    assert shares[:2].sum() == 0
    assert 0.38 < shares[2] < 0.62


def test_guidance_one_is_the_condition_and_zero_is_none(prior):
    given, empty = read(), read()._replace(embedding=unit(torch.ones(3, 12, dtype=torch.float64)))
    both = ClipTokens(*(torch.cat(pair) for pair in zip(given, empty, strict=True)))

    def painted(read, guidance):
        return sample(prior, read, Draws([4, 5, 6]), guidance=guidance, sampling=Sampling())

    torch.testing.assert_close(painted(both, 1.0), painted(given, 1.0))
    torch.testing.assert_close(painted(both, 0.0), painted(empty, 1.0))
    assert not torch.allclose(painted(both, 100.0), painted(given, 1.0))


# --- the loss ------------------------------------------------------------------------------------


def test_the_loss_is_the_entropy_of_the_buckets_where_nothing_is_known():
    torch.manual_seed(0)
    model = AutoregressivePrior(CONFIG)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    model.pca.fit(embeddings())
    condition = read()
    objective = autoregressive_prior_objective(
        lambda ids: ClipTokens(
            condition.tokens.float()[ids[:, 0] % 3],
            condition.embedding.float()[ids[:, 0] % 3],
            condition.mask[ids[:, 0] % 3],
        ),
        empty=torch.zeros(4, dtype=torch.long),
        drop_caption=0.1,
    )
    ids = torch.arange(60)[:, None].repeat(1, 4)
    loss = objective(model, EmbeddingsAndCaptions(embeddings()[:60], ids), Draws(range(60)))
    assert loss.total.item() == pytest.approx(math.log(32), rel=1e-5)
    assert loss.baseline == pytest.approx(math.log(32))
    assert loss.report["bits"].item() == pytest.approx(5, rel=1e-5)


def test_captions_are_dropped_as_often_as_said_and_the_dot_product_is_with_the_true_one():
    """The share of empty captions among those that the model is given, in a thousand rows."""
    seen, dots = [], []

    def reader(ids):
        seen.append(ids)
        b = len(ids)
        # Empty captions point the other way, so that a dot product with them would show.
        captions = unit(torch.ones(b, 12)) * (2 * ids[:, :1] - 1)
        return ClipTokens(torch.zeros(b, 4, 8), captions, torch.ones(b, 4, dtype=torch.bool))

    model = AutoregressivePrior(CONFIG)
    model.pca.fit(embeddings())
    model.register_forward_pre_hook(lambda _, given: dots.append(given[1]))
    objective = autoregressive_prior_objective(
        reader, empty=torch.zeros(4, dtype=torch.long), drop_caption=0.1
    )
    rows = 1000
    batch = EmbeddingsAndCaptions(embeddings(rows), torch.ones(rows, 4, dtype=torch.long))
    with torch.no_grad():
        objective(model, batch, Draws(range(rows)))
    true, given = seen
    assert (true == 1).all()
    dropped = (given == 0).all(dim=1).float().mean().item()
    assert abs(dropped - 0.1) < 3.3 * math.sqrt(0.1 * 0.9 / rows)
    wanted = model.dot_tokens(batch.embeddings, unit(torch.ones(rows, 12)))
    assert torch.equal(dots[0], wanted)
    assert not torch.equal(wanted, model.dot_tokens(batch.embeddings, -unit(torch.ones(rows, 12))))
