"""wav2vec 2.0's rules: counts, initial values, what is drawn when, and the diversity loss."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from limner.draws import Draws
from limner.quantize.product import (
    ProductConfig,
    ProductQuantizer,
    base,
    diversity_loss,
    joint_ids,
    large,
)

TINY = ProductConfig(width=6, groups=2, entries=5, code_width=8, out=3, shared=False)


def made(config: ProductConfig = TINY) -> ProductQuantizer:
    torch.manual_seed(0)
    return ProductQuantizer(config)


def inputs(seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("config", "count"), [(base(), 410_240), (large(), 574_080)], ids=["base", "large"])
def test_published_counts(config, count):
    with torch.device("meta"):
        whole = ProductQuantizer(config)
    assert isinstance(whole.out, nn.Linear)
    projection = sum(p.numel() for p in whole.out.parameters())
    assert sum(p.numel() for p in whole.parameters()) - projection == count
    assert config.entries**config.groups == 102_400


def test_initial_values():
    quantizer = made(replace(base(), width=64)).requires_grad_(False)
    assert float(quantizer.logits.weight.std()) == pytest.approx(1, abs=0.02)
    assert quantizer.logits.bias.abs().max() == 0
    assert 0 <= float(quantizer.codes.min()) < 0.001
    assert 0.999 < float(quantizer.codes.max()) < 1
    assert float(quantizer.codes.mean()) == pytest.approx(0.5, abs=0.01)


def test_evaluation_takes_the_likeliest_without_noise():
    quantizer, z = made().eval(), inputs()
    out = quantizer(z)
    logits = quantizer.logits(z).reshape(3, 4, 2, 5)
    assert torch.equal(out.ids, logits.argmax(-1))
    first, second = (quantizer.codes[g][out.ids[..., g]] for g in (0, 1))
    assert quantizer.out is not None
    assert torch.allclose(out.vectors, quantizer.out(torch.cat([first, second], -1)), atol=1e-6)
    assert torch.allclose(quantizer.vectors(out.ids), out.vectors)
    assert out.vectors.shape == (3, 4, 3)
    assert out.usage.counts.sum(-1).tolist() == [12, 12]


def test_training_draws_whole_entries():
    quantizer, z = made(), inputs()
    noise = Draws([1, 2, 3]).gumbel(4, 2, 5)
    out = quantizer(z, temperature=2.0, draws=Draws([1, 2, 3]))
    logits = quantizer.logits(z).reshape(3, 4, 2, 5)
    assert torch.equal(out.ids, (logits + noise).argmax(-1))
    assert not torch.equal(out.ids, logits.argmax(-1))
    assert torch.allclose(out.vectors, quantizer.vectors(out.ids), atol=1e-6)
    out.vectors.square().sum().backward()
    for parameter in quantizer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    with pytest.raises(ValueError, match="training needs both"):
        quantizer(z)


def test_temperature_shapes_the_gradient_and_not_the_draw():
    quantizer, z = made(), inputs()
    found = []
    for temperature in (2.0, 0.5):
        out = quantizer(z, temperature=temperature, draws=Draws([1, 2, 3]))
        (gradient,) = torch.autograd.grad(out.vectors.square().sum(), quantizer.logits.weight)
        found.append((out.ids, gradient))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])


def test_diversity_is_of_the_clean_softmax():
    """Neither noise nor temperature nor the mode has any say in it."""
    quantizer, z = made(), inputs()
    logits = quantizer.logits(z).reshape(3, 4, 2, 5)
    shares = logits.softmax(-1).mean((0, 1))
    perplexities = (-(shares * shares.log()).sum(-1)).exp()
    expected = float((10 - perplexities.detach().sum()) / 10)
    losses = [
        quantizer(z, temperature=2.0, draws=Draws([1, 2, 3])).loss,
        quantizer(z, temperature=0.1, draws=Draws([4, 5, 6])).loss,
        quantizer.eval()(z).loss,
    ]
    assert [float(loss.detach()) for loss in losses] == pytest.approx([expected] * 3, rel=1e-5)


def test_diversity_at_its_ends():
    assert float(diversity_loss(torch.zeros(4, 7, 2, 320))) == pytest.approx(0, abs=1e-5)
    one = torch.zeros(4, 7, 2, 320)
    one[..., 3] = 1e4
    assert float(diversity_loss(one)) == pytest.approx(1 - 2 / 640)
    # Each position sure, all entries in turn: as diverse as can be, though every softmax is a point.
    turns = 1e4 * torch.eye(320).reshape(4, 80, 1, 320).expand(-1, -1, 2, -1)
    assert float(diversity_loss(turns)) == pytest.approx(0, abs=1e-5)


def test_one_number_for_each_combination():
    ids = torch.tensor([[0, 0], [0, 319], [1, 0], [319, 319]])
    assert joint_ids(ids, 320).tolist() == [0, 319, 320, 102_399]


def test_a_shared_codebook():
    shared = made(replace(TINY, shared=True, out=None)).eval()
    assert shared.codes.shape == (1, 5, 4)
    out = shared(inputs())
    assert torch.equal(out.vectors[..., :4], shared.codes[0][out.ids[..., 0]])
    assert torch.equal(out.vectors[..., 4:], shared.codes[0][out.ids[..., 1]])


def test_groups_divide_the_width():
    with pytest.raises(ValueError, match="code_width: 8 is not a multiple of the 3 groups"):
        replace(TINY, groups=3)
