"""The two autoencoders: what goes where, what gradients reach, what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner import checkpoint
from limner.draws import Draws
from limner.quantize import CodebookConfig, MovingAverage
from limner.vqvae import Codes, VqVae, VqVae2, VqVae2Config, VqVaeConfig

AVERAGE = MovingAverage(decay=0.9, epsilon=1e-5, restart_below=None)
BOOK = CodebookConfig(codes=32, width=6, beta=0.25, average=AVERAGE)
ONE = VqVaeConfig(channels=16, hidden=8, blocks=1, halvings=2, codebook=BOOK)
TWO = VqVae2Config(channels=16, hidden=8, blocks=1, codebook=BOOK)


def made(config: VqVaeConfig | VqVae2Config) -> VqVae | VqVae2:
    torch.manual_seed(0)
    return VqVae(config) if isinstance(config, VqVaeConfig) else VqVae2(config)


def pictures(rows: int = 2, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(rows, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


both = pytest.mark.parametrize("config", [ONE, TWO], ids=["one level", "two levels"])


def grids(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    found = model.encode(x)
    return tuple(found) if isinstance(found, tuple) else (found,)


@both
def test_codes_and_pictures_agree_with_the_forward_pass(config):
    model, x = made(config).eval(), pictures()
    out = model(x)
    ids = grids(model, x)
    assert [level.ids.shape for level in out.levels.values()] == [g.shape for g in ids]
    assert all(torch.equal(level.ids, g) for level, g in zip(out.levels.values(), ids, strict=True))
    assert out.pictures.shape == x.shape
    again = model.decode(model.encode(x))
    assert torch.allclose(again, out.pictures.clamp(-1, 1), atol=1e-5)
    assert torch.equal(model.reconstruct(x), again)


def test_how_much_of_the_picture_a_code_stands_for():
    assert grids(made(ONE), pictures())[0].shape == (2, 4, 6)
    assert [g.shape for g in grids(made(TWO), pictures())] == [(2, 2, 3), (2, 4, 6)]
    eighths = replace(ONE, halvings=3)
    assert (eighths.factor, grids(made(eighths), pictures())[0].shape) == (8, (2, 2, 3))


@both
def test_reading_and_painting_teach_the_codes_nothing(config):
    """Even while the model is in training."""
    model, x = made(config).train(), pictures()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.reconstruct(x)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model(x)
    assert not any(torch.equal(value, before[name]) for name, value in model.named_buffers())


@both
def test_the_picture_s_error_reaches_the_encoder_through_the_codes(config):
    model = made(config)
    model(pictures()).pictures.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@both
def test_codes_that_are_parameters_learn_from_their_loss_alone(config):
    model = made(replace(config, codebook=replace(BOOK, average=None)))
    codes = [p for name, p in model.named_parameters() if name.endswith("codes")]
    assert len(codes) == len(grids(model, pictures()))
    out = model(pictures())
    of_picture = torch.autograd.grad(out.pictures.sum(), codes, allow_unused=True, retain_graph=True)
    assert of_picture == (None,) * len(codes)
    for level, book in zip(out.levels.values(), codes, strict=True):
        (gradient,) = torch.autograd.grad(level.loss, book, retain_graph=True)
        assert gradient.abs().max() > 0


def test_as_wide_as_the_channels_needs_no_projection():
    same = made(replace(ONE, codebook=replace(BOOK, width=16)))
    assert not isinstance(same.encoder[-1], nn.ReLU)  # codes may be negative
    assert [tuple(m.kernel_size) for m in same.encoder if isinstance(m, nn.Conv2d)] == [(4, 4), (4, 4)]
    narrow = made(ONE)
    assert tuple(narrow.encoder[-1].kernel_size) == tuple(narrow.decoder[0].kernel_size) == (1, 1)


def test_the_bottom_is_quantised_knowing_the_top():
    """Other top codes, other bottom vectors; the top knows nothing of the bottom."""
    model, x = made(TWO).eval(), pictures(width=96)
    features = model._features(x)
    top = model.top_codebook.vectors(model.encode(x).top)
    vectors = model._bottom_vectors(features, top)
    changed = top.clone()
    changed[:, 0, 0] += 1
    difference = (model._bottom_vectors(features, changed) - vectors).abs().amax(dim=(0, 3))
    assert difference[0, 0] > 1e-4
    assert difference[-1, -1] == 0  # and only near by
    codes = model.encode(x)
    other = Codes(codes.top, (codes.bottom + 1) % 32)
    assert not torch.allclose(model.decode(codes), model.decode(other))
    other = Codes((codes.top + 1) % 32, codes.bottom)
    assert not torch.allclose(model.decode(codes), model.decode(other))


@both
def test_pictures_stay_within_bounds(config):
    model = made(config)
    with torch.no_grad():
        model.decoder[-1].bias.fill_(9.0)
    assert torch.equal(model.reconstruct(pictures()), torch.ones(2, 3, 16, 24))
    assert float(model(pictures()).pictures.detach().min()) > 1  # training sees how far off it is


@both
def test_a_row_is_coded_alike_in_any_company(config):
    model, x = made(config).eval(), pictures(4)
    for alone, among in zip(grids(model, x[2:3]), grids(model, x), strict=True):
        assert torch.equal(alone[0], among[2])


@both
def test_what_fits_no_grid_is_refused(config):
    model, codes = made(config), made(config).encode(pictures())
    with pytest.raises(ValueError, match=r"pictures: 18×24 pixels, but both must be multiples of [48]"):
        model(pictures(height=18))
    wrong = Codes(codes.top, codes.bottom + 32) if isinstance(codes, Codes) else codes - 40
    with pytest.raises(
        ValueError, match=r"(bottom|ids): numbers from -?\d+ to -?\d+, but the codes are 0 to 31"
    ):
        model.decode(wrong)
    if isinstance(codes, Codes):
        with pytest.raises(ValueError, match=r"bottom: .* must be twice as high and wide as top"):
            model.decode(Codes(codes.top, codes.top))


@both
def test_it_goes_through_a_checkpoint(config, tmp_path):
    """Codes and all, for these are not among the parameters."""
    restarting = replace(config, codebook=replace(BOOK, average=replace(AVERAGE, restart_below=0.5)))
    model = made(restarting)
    model(pictures(), Draws([1, 2]))
    checkpoint.save(tmp_path, model.state_dict(), restarting)
    read, state = checkpoint.load(tmp_path, type(config))
    assert read == restarting
    again = type(model)(read)
    checkpoint.load_into(again, state)
    assert torch.equal(again.reconstruct(pictures()), model.reconstruct(pictures()))
