"""The network, its published size, and what can be done with its latent numbers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner import checkpoint
from limner.draws import Draws
from limner.recipes import vae as recipes
from limner.vae import Posterior, Vae, VaeConfig, kl_to_normal
from limner.vae.model import LOG_VARIANCE, paper

CONFIG = VaeConfig(resolution=16, widths=(8, 12), blocks=1, hidden=20, latent=5, sigma=0.5)


def vae(seed: int = 0, config: VaeConfig = CONFIG) -> Vae:
    torch.manual_seed(seed)
    return Vae(config).eval()


def pictures(count: int, side: int = 16, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_size():
    """Counted from the table: four 4×4 convolutions, a dense layer of 256, 32 latent numbers, and back."""
    convs = [(3, 32), (32, 32), (32, 64), (64, 64)]
    weights = sum(16 * a * b for a, b in convs)
    down = weights + (32 + 32 + 64 + 64) + 1024 * 256 + 256 + 256 * 64 + 64
    up = weights + (64 + 32 + 32 + 3) + 32 * 256 + 256 + 256 * 1024 + 1024
    with torch.device("meta"):
        model = Vae(paper())
    assert (count(model.encoder), count(model.decoder)) == (down, up)
    assert count(model) == down + up == 783_235
    assert recipes.paper().model == paper()
    assert recipes.paper().beta == 250


def test_forward_is_encode_draw_decode():
    model, x = vae(), pictures(3)
    noise = Draws([1, 2, 3]).normal(5)
    out = model(x, noise)
    mean, log_variance = model.encode(x)
    torch.testing.assert_close(out.posterior.mean, mean)
    expected = model.decoder(mean + log_variance.exp().sqrt() * noise)
    torch.testing.assert_close(out.pictures, expected)
    assert out.pictures.shape == x.shape


def test_gradients_reach_mean_and_variance():
    """The reparametrization: E[(z − a)²] has the gradients 2(μ − a) and σ² with respect to μ and ln σ²."""
    mean = torch.tensor([0.3], requires_grad=True)
    log_variance = torch.tensor([-1.0], requires_grad=True)
    noise = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    z = mean + (0.5 * log_variance).exp() * noise
    (z - 1.0).square().mean().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert mean.grad.item() == pytest.approx(2 * (0.3 - 1.0), abs=0.01)
    assert log_variance.grad.item() == pytest.approx(math.exp(-1.0), abs=0.01)
    model = vae().train()
    model(pictures(2), torch.ones(2, 5)).pictures.square().sum().backward()
    gradient = model.encoder.out.weight.grad
    assert gradient is not None
    assert gradient[:5].any()
    assert gradient[5:].any()


def test_a_wild_posterior_is_kept_finite():
    model = vae()
    with torch.no_grad():
        model.encoder.out.bias.fill_(1e4)
    assert model.encode(pictures(1)).log_variance.unique().tolist() == [LOG_VARIANCE[1]]
    assert model(pictures(1), torch.ones(1, 5)).pictures.isfinite().all()


def test_a_picture_is_the_same_alone_and_in_company():
    model, x = vae(), pictures(4)
    together = model.reconstruct(x)
    alone = torch.cat([model.reconstruct(picture[None]) for picture in x])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(model.sample(Draws([7])), model.sample(Draws([5, 6, 7]))[2:])
    assert together.abs().max() <= 1


def test_interpolation_is_a_straight_line_between_reconstructions():
    model, (a, b) = vae(), pictures(2)
    strip = model.interpolate(a, b, 5)
    assert strip.shape == (5, 3, 16, 16)
    torch.testing.assert_close(strip[[0, -1]], model.reconstruct(torch.stack([a, b])))
    torch.testing.assert_close(strip.flip(0), model.interpolate(b, a, 5))
    means = model.encode(torch.stack([a, b])).mean
    torch.testing.assert_close(strip[2:3], model.decode(means.mean(dim=0, keepdim=True)))
    with pytest.raises(ValueError, match="steps: 1; a strip has two ends"):
        model.interpolate(a, b, 1)


def test_traversals_move_the_numbers_that_tell_most():
    model, x = vae(), pictures(6)
    with torch.no_grad():  # number 3 tells most, then number 1; the others nothing
        model.encoder.out.weight.zero_()
        model.encoder.out.bias.copy_(torch.tensor([0, 1.0, 0, 2.0, 0, 0, 0, 0, -1.0, 0]))
    found = model.traversals(x, 2, steps=3, span=1.5)
    assert found.numbers.tolist() == [3, 1]
    assert found.kl.tolist() == pytest.approx([2 + 0.5 * math.exp(-1), 0.5])
    assert found.pictures.shape == (2, 3, 3, 16, 16)
    z = torch.tensor([[0, -1.5, 0, 2.0, 0], [0, 0, 0, 2.0, 0], [0, 1.5, 0, 2.0, 0]])
    torch.testing.assert_close(found.pictures[1], model.decode(z))
    for dims in (0, 6):
        with pytest.raises(ValueError, match=f"dims: {dims}; this model has 5 latent numbers"):
            model.traversals(x, dims)


def test_kl_of_the_standard_normal_is_zero_and_of_nothing_else():
    zero = torch.zeros(1, 3)
    assert kl_to_normal(Posterior(zero, zero)).tolist() == [[0, 0, 0]]
    assert (kl_to_normal(Posterior(zero, torch.tensor([[-2.0, 0.1, 3.0]]))) > 0).all()


@pytest.mark.parametrize("side", [8, 24])
def test_pictures_of_another_size_are_refused(side):
    with pytest.raises(ValueError, match=f"pictures: {side}×{side} pixels, this model takes 16×16"):
        vae().reconstruct(pictures(1, side))


def test_configs_that_cannot_be_built():
    with pytest.raises(ValueError, match="resolution: 18 cannot be halved 2 times"):
        Vae(replace(CONFIG, resolution=18))
    with pytest.raises(ValueError, match=r"sigma: 0\.0 is no standard deviation"):
        Vae(replace(CONFIG, sigma=0.0))


@pytest.mark.parametrize("make", [recipes.toy, recipes.small, recipes.paper])
def test_checkpoints_read_back(tmp_path, make):
    config = make().model
    with torch.device("meta"):
        Vae(config)
    checkpoint.save(tmp_path, {"x": torch.zeros(1)}, config)
    assert checkpoint.load(tmp_path, VaeConfig)[0] == config
