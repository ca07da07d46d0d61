"""Forward, back, and the determinant in between; published sizes; what the first batch sets."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.draws import Draws
from limner.glow import Glow, GlowConfig, paper
from limner.glow.model import squeezed, unsqueezed
from limner.glow.steps import ActNorm, Coupling, FlowStep, Mix
from limner.pipelines import load_generator

SMALL = GlowConfig(
    resolution=8, levels=2, steps=3, width=16, coupling="affine", bits=8, lu=True, condition=None
)
KINDS = [(coupling, lu) for coupling in ("affine", "additive") for lu in (True, False)]


def pictures(rows: int, side: int = 8, seed: int = 0) -> Tensor:
    levels = torch.randint(256, (rows, 3, side, side), generator=torch.Generator().manual_seed(seed))
    return levels / 127.5 - 1


def shaken(config: GlowConfig, seed: int = 0) -> Glow:
    """With weights as training might leave them: nothing is zero any more."""
    torch.manual_seed(seed)
    model = Glow(config)
    model.initialise(pictures(16, config.resolution), Draws(range(16)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


# --- inverse pairs -------------------------------------------------------------------------------


@pytest.mark.parametrize(("coupling", "lu"), KINDS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_pictures_come_back(coupling, lu, dtype, error):
    model = shaken(replace(SMALL, coupling=coupling, lu=lu)).to(dtype)
    x = torch.rand(4, 3, 8, 8, dtype=dtype) - 0.5
    with torch.no_grad():
        noise = model(x).noise
        assert [tuple(e.shape[1:]) for e in noise] == model.shapes
        assert (model.inverse(noise) - x).abs().max() < error


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(KINDS))
def test_noise_comes_back(seed, kind):
    coupling, lu = kind
    model = shaken(replace(SMALL, coupling=coupling, lu=lu), seed % 7).double()
    draws = Draws([seed, seed + 1])
    noise = tuple(draws.normal(*shape).double() for shape in model.shapes)
    with torch.no_grad():
        again = model(model.inverse(noise)).noise
    for e, other in zip(noise, again, strict=True):
        torch.testing.assert_close(other, e, atol=1e-10, rtol=0)


def test_squeezing_loses_nothing():
    x = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    assert torch.equal(unsqueezed(squeezed(x)), x)
    # The four numbers of a place that becomes one stay together.
    assert set(squeezed(x)[0, :4, 0, 0].tolist()) == {0.0, 1.0, 4.0, 5.0}


def test_eight_bits_come_back_exactly_and_fewer_as_their_bins():
    x = pictures(3)
    model = shaken(SMALL).double()
    torch.testing.assert_close(model.decode(model.encode(x.double())), x.double(), atol=1e-6, rtol=0)
    five = Glow(replace(SMALL, bits=5))
    back = five.quantised(five.dequantised(x, Draws([0, 1, 2])))
    assert len(back.unique()) == 32
    assert (back - x).abs().max() < 2 / 31


@given(seed=st.integers(0, 2**31), bits=st.integers(1, 8))
def test_spread_values_lie_in_their_bins(seed, bits):
    model, x = Glow(replace(SMALL, bits=bits)), pictures(2, seed=seed % 1000)
    spread = model.dequantised(x, Draws([seed, seed + 1]))
    assert spread.min() >= -0.5
    assert spread.max() <= 0.5
    level = ((x + 1) * 127.5).round() / 2 ** (8 - bits)
    assert torch.equal(((spread + 0.5) * 2**bits).floor().clamp(max=2**bits - 1), level.floor())


# --- determinants --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        lambda: ActNorm(8),
        lambda: Mix(8, lu=True),
        lambda: Mix(8, lu=False),
        lambda: Coupling(8, 6, kind="affine", floor=0.0),
        lambda: Coupling(8, 6, kind="affine", floor=0.2),
        lambda: Coupling(8, 6, kind="additive", floor=0.0),
        lambda: FlowStep(8, 6, kind="affine", floor=0.0, lu=True),
    ],
)
def test_the_determinant_of_a_step_is_that_of_its_jacobian(step):
    torch.manual_seed(1)
    layer: nn.Module = step().double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 8, 2, 3, dtype=torch.float64)
    _, said = layer(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x).reshape(48, 48)
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(said.detach().sum()), abs=1e-10)


@pytest.mark.parametrize(("coupling", "lu"), KINDS)
def test_the_density_is_that_of_the_noise_and_the_jacobian(coupling, lu):
    """ln p(x) = ln N(e; 0, 1) + ln |det de/dx|, whatever the split priors expect."""
    model = shaken(replace(SMALL, resolution=4, coupling=coupling, lu=lu)).double()
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64) - 0.5

    def noise(x: Tensor) -> Tensor:
        return torch.cat([e.flatten(1) for e in model(x).noise], dim=1)

    with torch.no_grad():
        e, said = noise(x), float(model(x).log_density)
    jacobian = torch.autograd.functional.jacobian(noise, x).reshape(48, 48)
    normal = float(-0.5 * (e.square() + math.log(2 * math.pi)).sum())
    assert said == pytest.approx(normal + float(torch.linalg.slogdet(jacobian)[1]), abs=1e-8)


def test_lu_begins_as_a_rotation_and_says_its_determinant():
    torch.manual_seed(0)
    mix = Mix(12, lu=True)
    matrix = mix.matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(12), atol=1e-5, rtol=0)
    assert sum(p.numel() for p in mix.parameters()) == 144
    with torch.no_grad():
        mix.weight.add_(0.2 * torch.randn(12, 12))
    _, said = mix(torch.zeros(1, 12, 2, 2))
    with torch.no_grad():
        wanted = 4 * float(torch.linalg.slogdet(mix.matrix())[1])
    assert float(said.detach()) == pytest.approx(wanted, abs=1e-4)


# --- the first batch -----------------------------------------------------------------------------


def test_the_first_batch_sets_every_scale():
    torch.manual_seed(0)
    model, x = Glow(SMALL), pictures(32)
    seen: dict[str, Tensor] = {}
    model.initialise(x, Draws(range(32)))
    for name, module in model.named_modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out[0]}))
    with torch.no_grad():
        model(model.dequantised(x, Draws(range(32))))
    assert len(seen) == 2 * 3 * 3
    for name, z in seen.items():
        assert z.mean(dim=(0, 2, 3)).abs().max() < 1e-4, name
        assert (z.var(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-3, name


def test_a_new_coupling_moves_all_places_alike():
    """Zero convolutions: shift 0, scale σ(2), as the published code begins."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 3)
    z, moved = Coupling(8, 6, kind="affine", floor=0.0)(x)
    assert torch.equal(z[:, :4], x[:, :4])
    torch.testing.assert_close(z[:, 4:], x[:, 4:] * torch.tensor(2.0).sigmoid())
    torch.testing.assert_close(moved, torch.full((2,), 36 * math.log(1 / (1 + math.exp(-2)))))


# --- conditions, strips, temperatures ------------------------------------------------------------


def test_a_condition_changes_what_is_expected_and_begins_by_changing_nothing():
    model = shaken(replace(SMALL, condition=5))
    x, words = torch.rand(2, 3, 8, 8) - 0.5, torch.randn(2, 5)
    with torch.no_grad():
        with_words, without = model(x, words), model(x)
        assert (with_words.log_density - without.log_density).abs().min() > 1e-3
        assert torch.equal(with_words.noise[0], without.noise[0])
        torch.testing.assert_close(model.inverse(with_words.noise, words), x, atol=1e-5, rtol=0)
        fresh = Glow(replace(SMALL, condition=5))
        assert torch.equal(fresh(x, words).log_density, fresh(x).log_density)
    with pytest.raises(ValueError, match="condition: this model was made without one"):
        Glow(SMALL)(x, words)
    with pytest.raises(ValueError, match="condition: this model was made without one"):
        Glow(SMALL).sample(Draws([1]), temperature=1.0, condition=words[:1])


def test_a_strip_has_the_pictures_at_its_ends():
    model, x = shaken(SMALL).double(), pictures(2).double()
    strip = model.interpolate(x[0], x[1], 4)
    torch.testing.assert_close(strip[[0, -1]], x, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="steps: 1; a strip has two ends"):
        model.interpolate(x[0], x[1], 1)


def test_temperature_scales_the_noise_of_all_levels():
    model = shaken(SMALL)
    cold = model.sample(Draws([1, 2]), temperature=0.0)
    assert torch.equal(cold[0], cold[1])
    warm, warmer = (model.sample(Draws(range(40)), temperature=t).var(dim=0).mean() for t in (0.3, 0.7))
    assert 0 < warm < warmer
    alone = model.sample(Draws([2]), temperature=0.7)
    torch.testing.assert_close(alone[0], model.sample(Draws([1, 2]), temperature=0.7)[1], atol=1e-2, rtol=0)
    with pytest.raises(ValueError, match=r"temperature: -1\.0; give a finite number"):
        model.sample(Draws([1]), temperature=-1.0)


def test_autocast_changes_nothing():
    model, x = shaken(SMALL), torch.rand(2, 3, 8, 8) - 0.5
    with torch.no_grad():
        exact = model(x).log_density
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(x).log_density, exact)


# --- sizes ---------------------------------------------------------------------------------------

PUBLISHED = [
    ({}, 44_603_604),
    ({"coupling": "additive"}, 38_395_668),
    ({"steps": 48}, 66_861_588),
    ({"steps": 48, "levels": 4, "resolution": 64}, 112_377_540),
    ({"coupling": "additive", "levels": 6, "resolution": 256, "bits": 5}, 175_099_620),
]


@pytest.mark.parametrize(("changes", "count"), PUBLISHED)
def test_published_parameter_counts(changes, count):
    """CIFAR-10 affine and additive, ImageNet 32 and 64, CelebA-HQ 256."""
    with torch.device("meta"):
        model = Glow(replace(paper(), **changes))
    assert sum(p.numel() for p in model.parameters()) == count


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="resolution: 12 cannot be halved 3 times; give a multiple of 8"):
        replace(SMALL, resolution=12, levels=3)
    with pytest.raises(ValueError, match="levels: 0; give at least 1"):
        replace(SMALL, levels=0)
    with pytest.raises(ValueError, match="bits: 9; a colour value has 1 to 8"):
        replace(SMALL, bits=9)
    with pytest.raises(ValueError, match=r"x: shape .*; this model takes \(pictures, 3, 8, 8\)"):
        Glow(SMALL)(torch.zeros(1, 3, 4, 4))


@torch.no_grad()
def test_with_a_floor_the_way_back_stretches_no_more_than_its_inverse():
    torch.manual_seed(0)
    z = torch.randn(4, 8, 5, 5)
    for floor in (0.1, 0.5):
        coupling = Coupling(8, 6, kind="affine", floor=floor)
        # A network that says a scale of almost nothing, as one does that meets what it has never seen.
        coupling.say.conv.conv.bias[1::2] = -50.0
        x = coupling.inverse(z)
        assert (x[:, 4:].abs() <= z[:, 4:].abs() / floor * 1.0001).all()
        torch.testing.assert_close(coupling(x)[0], z, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"floor: 1\.0; give a share from 0, as published, to below 1"):
        replace(SMALL, floor=1.0)


@torch.no_grad()
def test_what_ships_paints_numbers_at_any_temperature():
    glow = load_generator("glow")
    for temperature in (0.7, 1.0):
        assert glow.sample(Draws(range(8)), temperature=temperature).isfinite().all()
