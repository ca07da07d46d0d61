"""The network: published counts and shapes, its blocks by hand, and pictures to tokens and back."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from limner import checkpoint
from limner.draws import Draws
from limner.dvae import DVae, DVaeConfig, drawn_in, drawn_out
from limner.dvae.model import Bottleneck, Decoder, Encoder, convolution, paper
from limner.recipes import dvae as recipes

CONFIG = DVaeConfig(
    resolution=16,
    vocabulary=20,
    codebook=6,
    widths=(8, 16),
    blocks=2,
    poolings=1,
    stem=3,
    gain=0.5,
    patch=2,
)
# The released code's smallest sizes.
TINY = replace(paper(), vocabulary=512, codebook=16, widths=(64, 128, 256, 512))


def dvae(config: DVaeConfig = CONFIG) -> DVae:
    torch.manual_seed(0)
    return DVae(config).eval()


def pictures(count: int, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("config", "encoder", "decoder"),
    [
        (paper(), 53_786_240, 43_829_766),
        (TINY, 2_585_504, 2_675_318),
        (replace(TINY, blocks=1), 1_321_744, 1_411_558),
    ],
    ids=["paper", "tiny", "tiny, one block a group"],
)
def test_published_counts(config, encoder, decoder):
    with torch.device("meta"):
        model = DVae(config)
    assert count(model.encoder) == encoder
    assert count(model.decoder) == decoder
    assert count(model) == encoder + decoder


def test_published_shapes():
    with FakeTensorMode():
        model = DVae(paper())
        codes = torch.zeros(1, 32, 32, 8192)
        assert model.encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 8192, 32, 32)
        assert model.decoder(codes).shape == (1, 6, 256, 256)
        assert model.encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 8192, 8, 8)
        found: list[tuple[int, ...]] = []
        for group in [*model.encoder.groups, *model.decoder.groups]:
            group.register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[1:])))
        model.decoder(model.encoder(torch.zeros(1, 3, 256, 256)).permute(0, 2, 3, 1))
    down = [(256, 256, 256), (512, 128, 128), (1024, 64, 64), (2048, 32, 32)]
    up = [(2048, 32, 32), (1024, 64, 64), (512, 128, 128), (256, 256, 256)]
    assert found == down + up
    assert (paper().factor, paper().grid) == (8, 32)
    assert paper().gain == 1 / (len(paper().widths) * paper().blocks) ** 2


def test_the_decoder_mirrors_the_encoder():
    """Groups of one width work at one size on both ways, also where fewer than all boundaries halve."""
    model = dvae(replace(CONFIG, widths=(8, 12, 16), poolings=1, patch=1))
    found: list[tuple[int, ...]] = []
    for group in [*model.encoder.groups, *reversed(model.decoder.groups)]:
        group.register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[1:])))
    model.decode(model.tokens(pictures(1)))
    assert sorted(found[:3]) == sorted(found[3:]) == [(8, 16, 16), (12, 8, 8), (16, 8, 8)]


def test_small_is_small():
    with torch.device("meta"):
        model = DVae(recipes.small().model)
    assert count(model) <= 3_500_000
    assert (model.config.grid, model.config.vocabulary) == (16, 1024)
    toy = recipes.toy().model
    assert (toy.grid, toy.vocabulary) == (8, 256)


def test_no_norm_layers_and_every_convolution_begins_at_unit_gain():
    model = dvae(TINY)
    kinds = {type(m) for m in model.modules() if not list(m.children())}
    assert kinds == {nn.Conv2d, nn.Identity}
    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        fan_in = conv.weight[0].numel()
        assert conv.bias is not None
        assert not conv.bias.any()
        assert float(conv.weight.detach().std(correction=0)) == pytest.approx(fan_in**-0.5, rel=0.1)
        assert conv.padding[0] * 2 + 1 == conv.kernel_size[0]


def test_a_block_by_hand():
    block = Bottleneck(8, 12, kernels=(3, 3, 3, 1), gain=1 / 64)
    x = torch.randn(2, 8, 5, 5)
    widths = [(conv.in_channels, conv.out_channels, conv.kernel_size[0]) for conv in block.convs]
    assert widths == [(8, 3, 3), (3, 3, 3), (3, 3, 3), (3, 12, 1)]
    h = x
    for conv in block.convs:
        h = conv(F.relu(h))
    torch.testing.assert_close(block(x), block.skip(x) + h / 64)
    assert isinstance(Bottleneck(8, 8, kernels=(1, 3), gain=1.0).skip, nn.Identity)


def test_kernels_of_encoder_and_decoder():
    model = dvae()
    for part, kernels in ((model.encoder, [3, 3, 3, 1]), (model.decoder, [1, 3, 3, 3])):
        blocks = [block for group in part.groups for block in group]
        assert len(blocks) == 4
        for block in blocks:
            assert [conv.kernel_size[0] for conv in block.convs] == kernels
            assert block.gain == CONFIG.gain


def test_logits_begin_near_a_fair_die():
    """Measured on the released code: a standard deviation near 0.4 for uniform input."""
    torch.manual_seed(0)
    encoder = Encoder(TINY)
    values = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert 0.25 < float(encoder(drawn_in(2 * values - 1)).std()) < 0.6


def test_forward_is_the_relaxation():
    model, x = dvae(), pictures(3)
    noise = Draws([1, 2, 3]).gumbel(4, 4, 20)
    out = model(x, noise, 0.7)
    logits = model.logits(x)
    torch.testing.assert_close(out.logits, logits)
    soft = ((logits + noise) / 0.7).softmax(dim=-1)
    expected = model.decoder(soft)
    torch.testing.assert_close(out.location, expected[:, :3])
    torch.testing.assert_close(out.log_scale, expected[:, 3:])
    assert not torch.allclose(model(x, noise, 0.3).location, out.location)


def test_the_encoder_sees_what_is_drawn_in():
    model, x = dvae(), pictures(2)
    torch.testing.assert_close(model.logits(x).permute(0, 3, 1, 2), model.encoder(0.4 * (x + 1) + 0.1))


def test_tokens_are_the_likeliest_words():
    model, x = dvae(), pictures(3)
    tokens = model.tokens(x)
    assert tokens.shape == (3, 4, 4)
    assert tokens.dtype == torch.int64
    assert (model.logits(x).gather(-1, tokens[..., None])[..., 0] == model.logits(x).amax(dim=-1)).all()
    assert torch.equal(tokens, model.tokens(x))
    assert len(tokens.unique()) > 1


def test_looking_words_up_equals_multiplying_by_one_hot():
    model = dvae()
    tokens = torch.randint(20, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one_hot = model.decoder(F.one_hot(tokens, 20).float())
        torch.testing.assert_close(model.decoder.of_tokens(tokens), one_hot)
    torch.testing.assert_close(model.decode(tokens), drawn_out(torch.sigmoid(one_hot[:, :3])))


def test_cold_words_equal_tokens():
    """As the temperature falls, what training decodes becomes what use decodes: argmax(logits + noise)."""
    model, x = dvae(), pictures(2)
    noise = Draws([1, 2]).gumbel(4, 4, 20)
    tokens = (model.logits(x) + noise).argmax(dim=-1)
    with torch.no_grad():
        cold = model(x, noise, 1e-4).location
    torch.testing.assert_close(cold, model.decoder.of_tokens(tokens)[:, :3], atol=1e-4, rtol=1e-3)


def test_pictures_of_other_sizes():
    model = dvae()
    wide = model.reconstruct(pictures(1, 8, 24))
    assert wide.shape == (1, 3, 8, 24)
    assert wide.abs().max() <= 1
    with pytest.raises(ValueError, match="pictures: 18×16 pixels, but a token stands for 4×4"):
        model.tokens(pictures(1, 16, 18))


def test_tokens_that_name_no_word_are_refused():
    for number in (-1, 20):
        with pytest.raises(ValueError, match="this model's words are 0 to 19"):
            dvae().decode(torch.full((1, 2, 2), number))


def test_a_picture_is_the_same_alone_and_in_company():
    model, x = dvae(), pictures(4)
    assert torch.equal(model.tokens(x), torch.cat([model.tokens(picture[None]) for picture in x]))
    torch.testing.assert_close(
        model.reconstruct(x), torch.cat([model.reconstruct(picture[None]) for picture in x])
    )


def test_the_token_layers_stay_in_full_precision():
    model, x = dvae(), pictures(2)
    seen: dict[str, torch.dtype] = {}
    for name in ("encoder.out", "encoder.stem", "decoder.codebook"):
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x, Draws([1, 2]).gumbel(4, 4, 20), 0.5)
    assert seen == {
        "encoder.stem": torch.bfloat16,
        "encoder.out": torch.float32,
        "decoder.codebook": torch.float32,
    }
    assert out.location.dtype == out.log_scale.dtype == torch.float32


def test_gradients_reach_every_parameter():
    model = dvae().train()
    out = model(pictures(2), Draws([1, 2]).gumbel(4, 4, 20), 0.5)
    (out.location.square().mean() + out.log_scale.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_folded_pixels_come_back_in_place():
    """An identity through fold and unfold: pixel (2i + p, 2j + q) is channel 4c + 2p + q at (i, j)."""
    decoder = Decoder(replace(CONFIG, vocabulary=24, codebook=24, widths=(24,), blocks=0, poolings=0))
    with torch.no_grad():
        decoder.codebook.weight.copy_(torch.eye(24)[:, :, None, None])
        decoder.out.weight.copy_(torch.eye(24)[:, :, None, None])
    picture = torch.rand(1, 6, 4, 6)
    folded = picture.reshape(1, 6, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 2, 3, 24)
    torch.testing.assert_close(decoder(folded), picture)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poolings": 2}, "poolings: 2 with 2 groups"),
        ({"widths": (8, 18)}, "widths: 18 is no multiple of 4"),
        ({"stem": 4}, "stem: a kernel of 4 has no middle"),
        ({"resolution": 18}, "resolution: 18 is no multiple of 4"),
    ],
)
def test_configs_that_cannot_be_built(changes, message):
    with pytest.raises(ValueError, match=message):
        DVae(replace(CONFIG, **changes))


@pytest.mark.parametrize("make", [recipes.toy, recipes.small, recipes.paper])
def test_checkpoints_read_back(tmp_path, make):
    config = make().model
    checkpoint.save(tmp_path, {"x": torch.zeros(1)}, config)
    assert checkpoint.load(tmp_path, DVaeConfig)[0] == config


def test_a_convolution_keeps_the_size_and_the_scale():
    torch.manual_seed(0)
    x = torch.randn(4, 32, 20, 20)
    y = convolution(32, 64, 5)(x).detach()
    assert y.shape == (4, 64, 20, 20)
    assert float(y[:, :, 2:-2, 2:-2].std()) == pytest.approx(1, abs=0.1)
    assert math.isclose(float(y.mean()), 0, abs_tol=0.1)
