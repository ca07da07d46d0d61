"""DALLE-pytorch's transformer: who sees whom, turns and shifts by definition, the whole by perturbation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.autoregression import ClassifierFree, Sampling, decode
from limner.dalle_pytorch import (
    ConvolutionalVae,
    ConvolutionalVaeConfig,
    DallePytorch,
    DallePytorchConfig,
    ImageReader,
)
from limner.dalle_pytorch.layers import GatedUnit, angles, shifted, turned, visible
from limner.draws import Draws

CONFIG = DallePytorchConfig(
    text_context=4,
    text_vocabulary=10,
    image_vocabulary=12,
    grid=3,
    width=16,
    hidden=20,
    heads=2,
    head_width=12,
    pattern=("dense", "row", "column", "window"),
    rotary=True,
    shifted=True,
    sandwich=False,
    divided=False,
    reversible=False,
)
TEXT = torch.tensor([[3, 5, 0, 0], [1, 2, 9, 4]])
VARIANTS = {
    "as it is": CONFIG,
    "learned places": replace(CONFIG, rotary=False, shifted=False, sandwich=True, divided=True),
    "two streams": replace(CONFIG, reversible=True),
}


def made(config: DallePytorchConfig) -> DallePytorch:
    torch.manual_seed(0)
    model = DallePytorch(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.4)
    return model


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 12, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["dense", "row", "column", "window", "centred"])
def test_who_sees_whom(kind):
    """Place by place, on a grid that is larger than the window."""
    text, grid = 3, 7
    found = visible(kind, text=text, grid=grid)
    for i in range(text + grid**2):
        for j in range(text + grid**2):
            expected = j <= i
            if i >= text and j >= text:
                (r, c), (s, d) = divmod(i - text, grid), divmod(j - text, grid)
                near = {"row": r == s, "column": c == d, "window": 0 <= r - s < 5 and 0 <= c - d < 5}
                near["centred"] = abs(r - s) <= 2 and abs(c - d) <= 2
                expected &= near.get(kind, True)
            assert bool(found[i, j]) == expected


def test_turns_are_those_that_were_published():
    """Of a head of 12: two pairs by text, two by the row, two by the column, each angle twice."""
    found = angles(text=5, grid=3, head_width=12)
    assert found.shape == (14, 12)
    assert torch.equal(found[:, ::2], found[:, 1::2])
    cells = [math.pi, 5 * math.pi]
    for position, (word, row, column) in {
        0: (0, -10, -10),
        4: (4, -10, -10),
        5: (8192, -1, -1),
        7: (8192, -1, 1),
        9: (8192, 0, 0),
        13: (8192, 1, 1),
    }.items():
        wanted = [word, word / 100, *(row * cell for cell in cells), *(column * cell for cell in cells)]
        torch.testing.assert_close(found[position, ::2], torch.tensor(wanted), rtol=1e-5, atol=1e-5)


def test_turning_is_a_rotation_of_neighbours():
    x, quarter = torch.randn(2, 1, 6), torch.full((1, 4), math.pi / 2)
    a, b, c, d, e, f = turned(x, quarter).unbind(dim=-1)
    expected = [-x[..., 1], x[..., 0], -x[..., 3], x[..., 2], x[..., 4], x[..., 5]]
    torch.testing.assert_close(torch.stack([a, b, c, d, e, f]), torch.stack(expected))


def test_shifts_come_from_above_from_the_left_and_from_before():
    """Each number says where it was: position, and in the ones which quarter of the row."""
    n, text, grid = 3 + 9, 3, 3
    x = (10 * torch.arange(n)[:, None] + torch.arange(4)[None]).float()[None]
    found = shifted(x, text=text, grid=grid)[0]
    for position in range(n):
        before = 10 * (position - 1)
        if position < text:
            late = [before, before + 1] if position else [0, 0]
            assert found[position].tolist() == [*late, 10 * position + 2, 10 * position + 3]
            continue
        above = 10 * (position - grid) if position - grid >= text else 0
        left = before + 1 if (position - text) % grid else 0
        assert found[position].tolist() == [above, left, 10 * position + 2, 10 * position + 3]
    for end in range(text, n):
        assert torch.equal(shifted(x[:, :end], text=text, grid=grid)[0], found[:end])


def test_the_value_comes_before_its_gate():
    unit = GatedUnit(width=3, hidden=5)
    x = torch.randn(1, 2, 3)
    value, gate = (unit.widen.weight @ x[0].T + unit.widen.bias[:, None]).chunk(2)
    gelu = 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
    torch.testing.assert_close(unit(x)[0], (value * gelu).T @ unit.narrow.weight.T + unit.narrow.bias)


def test_branches_and_streams_by_the_published_formula():
    """Plain: x += s·f(norm x), x += s·g(norm x). Reversible: f reads the second stream, g the first."""
    for reversible in (False, True):
        model = made(replace(CONFIG, pattern=("dense", "dense"), shifted=False, reversible=reversible))
        x = torch.randn(1, 8, 16)
        seen = visible("dense", text=5, grid=3)[:8, :8]
        turns = model.angles[:8]
        one = two = x
        for attention, unit in zip(model.attentions, model.units, strict=True):
            read = two if reversible else one
            one = one + attention.scale * attention.part(attention.norm(read), seen=seen, angles=turns)
            if reversible:
                two = two + unit.scale * unit.part(unit.norm(one))
            else:
                one = one + unit.scale * unit.part(unit.norm(one))
        expected = (one + two) / 2 if reversible else one
        torch.testing.assert_close(model.blocks(x, turns), expected)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_what_comes_later_changes_nothing_and_what_came_before_does(config, image):
    model = made(config)
    before = model(TEXT, image[:, :-1])
    assert before.text.shape == (2, 4, 14)
    assert before.image.shape == (2, 9, 12)
    for place in range(8):
        changed = image[:, :-1].clone()
        changed[:, place] = (changed[:, place] + 1) % 12
        after = model(TEXT, changed)
        assert torch.equal(after.text, before.text)
        moved = (after.image - before.image).abs().amax(dim=(0, 2))
        assert moved[: place + 1].eq(0).all()
        assert moved[place + 1] > 0
    for place in range(4):
        other = TEXT.clone()
        other[:, place] = 7
        moved = (model(other, image[:, :-1]).text - before.text).abs().amax(dim=(0, 2))
        assert moved[: place + 1].eq(0).all()
        assert moved[place + 1 :].gt(0).all()


def test_every_padding_has_an_id_of_its_own_position(image):
    model = made(CONFIG)
    before = model(TEXT, image[:, :-1])
    model.embed_text.weight[10 + 3] += torch.arange(16.0)
    after = model(TEXT, image[:, :-1])
    assert not torch.allclose(after.image[0], before.image[0])
    assert torch.equal(after.image[1], before.image[1])


def test_reading_on_is_reading_anew(image):
    model = made(CONFIG)
    whole = model(TEXT, image[:, :-1]).image
    reader = ImageReader(model, TEXT)
    found = [reader.read(image[:, :2]), *(reader.read(image[:, n : n + 1]) for n in range(2, 8))]
    torch.testing.assert_close(torch.stack(found, dim=1), whole[:, 2:], rtol=1e-5, atol=1e-5)


def test_the_loop_paints_with_it():
    model = made(CONFIG)
    reader = ClassifierFree(ImageReader(model, torch.cat([TEXT, torch.zeros_like(TEXT)])), 1.0)
    columns = decode(
        reader,
        prefix=torch.zeros(2, 0, dtype=torch.int64),
        length=9,
        draws=Draws([0, 1]),
        sampling=Sampling(temperature=0.0),
    )
    painted = torch.stack(list(columns), dim=1)
    assert torch.equal(model(TEXT, painted[:, :-1]).image.argmax(dim=-1), painted)


def test_what_it_cannot_read_is_refused(image):
    with pytest.raises(ValueError, match="text and image: 3 and 8 tokens; this model reads 4, and at most 8"):
        made(CONFIG)(TEXT[:, :3], image[:, :8])
    with pytest.raises(ValueError, match="text and image: 4 and 9 tokens"):
        made(CONFIG)(TEXT, image)


@pytest.mark.parametrize("blocks", [0, 2])
def test_the_autoencoder_by_the_published_formula(blocks):
    """Layer by layer, in the order in which the package stacks them."""
    config = ConvolutionalVaeConfig(
        resolution=16, vocabulary=9, codebook=5, hidden=6, halvings=2, blocks=blocks
    )
    torch.manual_seed(0)
    vae = ConvolutionalVae(config).requires_grad_(False)
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    x = pictures
    for layer in vae.halvings:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
        x = torch.relu(layer(x))
    for block in vae.encoder_blocks:
        x = x + block.net(x)
    torch.testing.assert_close(vae.logits(pictures), vae.to_logits(x))
    codes = vae.encode(pictures)
    assert codes.shape == (2, 4, 4)
    assert torch.equal(codes, vae.to_logits(x).argmax(dim=1))
    x = vae.codebook.weight[codes].permute(0, 3, 1, 2)
    x = vae.from_codes(x)
    for block in vae.decoder_blocks:
        x = x + block.net(x)
    for layer in vae.doublings:
        x = torch.relu(layer(x))
    torch.testing.assert_close(vae.decode(codes), vae.to_pixels(x))
    assert vae.decode(codes).shape == pictures.shape
