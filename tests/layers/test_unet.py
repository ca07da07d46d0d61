"""The U-Net block by block against its formulas, then as a whole by what may and may not reach its output."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.layers.unet import AttentionBlock, Level, ResidualBlock, UNet, UNetConfig, group_norm

TINY = UNetConfig(
    in_channels=3,
    out_channels=6,
    channels=32,
    depth=1,
    multipliers=(1, 2),
    attention=(2,),
    head_width=16,
    context_width=8,
    scale_shift=True,
    dropout=0.0,
    patch=1,
    canvas=0,
)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter away from zero, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


def of(config: UNetConfig) -> UNet:
    net = UNet(config)
    randomised(net)
    return net.eval()


def inputs(config: UNetConfig, size: int = 8, batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(batch, config.in_channels, size, size, generator=generator),
        "t": torch.tensor([3.0, 700.0])[:batch],
        "condition": torch.randn(batch, config.embedding_width, generator=generator),
        "context": torch.randn(batch, 5, 8, generator=generator),
        "context_mask": torch.tensor([[True, True, False, True, False], [True] * 5])[:batch],
    }


def normed(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """GroupNorm written out."""
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(dim=2, keepdim=True), groups.var(dim=2, keepdim=True, correction=0)
    plain = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    return plain * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("resample", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("out", [64, 96])
@torch.no_grad()
def test_residual_block_is_adms(scale_shift, resample, out):
    config = replace(TINY, scale_shift=scale_shift)
    block = ResidualBlock(channels=64, out=out, config=config, resample=resample)
    randomised(block)
    x, embedding = torch.randn(2, 64, 4, 6), torch.randn(2, config.embedding_width)

    def changed(y: Tensor) -> Tensor:
        if resample == 2.0:
            return y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        if resample == 0.5:
            return (y[:, :, ::2, ::2] + y[:, :, 1::2, ::2] + y[:, :, ::2, 1::2] + y[:, :, 1::2, 1::2]) / 4
        return y

    h = block.conv_in(changed(F.silu(normed(block.norm_in, x))))
    e = block.embed(F.silu(embedding))[:, :, None, None]
    if scale_shift:
        h = normed(block.norm_out, h) * (1 + e[:, :out]) + e[:, out:]
    else:
        h = normed(block.norm_out, h + e)
    expected = block.skip(changed(x)) + block.conv_out(F.silu(h))
    torch.testing.assert_close(block(x, embedding), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_attention_reads_text_and_pixels_and_only_pixels_ask():
    block = AttentionBlock(channels=32, config=TINY)
    randomised(block)
    x, context = torch.randn(2, 32, 2, 3), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, False, True, True, False], [True] * 5])
    pixels = normed(block.norm, x).flatten(2).transpose(1, 2)
    q, k, v = block.qkv(pixels).chunk(3, dim=-1)
    k_text, v_text = block.context_kv(context).chunk(2, dim=-1)  # raw text, neither normed nor asking
    expected = torch.zeros(2, 6, 32)
    for b in range(2):
        keys, values = torch.cat([k_text[b][mask[b]], k[b]]), torch.cat([v_text[b][mask[b]], v[b]])
        for h in (slice(0, 16), slice(16, 32)):
            weights = torch.softmax(q[b, :, h] @ keys[:, h].T / 4, dim=-1)
            expected[b, :, h] = weights @ values[:, h]
    expected = x + block.out(expected).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x, block.read(context), mask), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, patch=2), replace(TINY, attention=(), scale_shift=False)]
)
@torch.no_grad()
def test_a_new_network_says_nothing(config):
    net, given_ = UNet(config), inputs(config)
    assert not net(**given_).any()
    for module in net.modules():
        if isinstance(module, AttentionBlock):
            y = torch.randn(2, module.norm.num_channels, 4, 4)
            assert torch.equal(module(y, module.read(given_["context"]), None), y)


@torch.no_grad()
def test_everything_that_is_shown_reaches_the_output_and_nothing_else():
    net, given_ = of(TINY), inputs(TINY)
    before = net(**given_)
    assert before.shape == (2, 6, 8, 8)
    for name in ("x", "t", "condition"):
        after = net(**given_ | {name: given_[name] + 1})
        assert (after - before).abs().amax(dim=(1, 2, 3)).min() > 1e-3, name
    hidden = ~given_["context_mask"][..., None]
    after = net(**given_ | {"context": given_["context"] + 50 * hidden})
    torch.testing.assert_close(after, before)
    for token in (0, 1, 3):
        moved = given_["context"].clone()
        moved[0, token] += 1
        after = net(**given_ | {"context": moved})
        assert not torch.allclose(after[0], before[0], atol=1e-4)
        torch.testing.assert_close(after[1], before[1])  # and rows of a batch know nothing of each other


@torch.no_grad()
def test_hiding_tokens_is_leaving_them_out():
    net, given_ = of(TINY), inputs(TINY, batch=1)
    short = given_["context"][:, given_["context_mask"][0]]
    torch.testing.assert_close(net(**given_), net(**given_ | {"context": short, "context_mask": None}))


@torch.no_grad()
def test_no_condition_is_a_condition_of_zeros():
    net, given_ = of(TINY), inputs(TINY)
    zeros = torch.zeros_like(given_["condition"])
    assert torch.equal(net(**given_ | {"condition": None}), net(**given_ | {"condition": zeros}))


@pytest.mark.parametrize("patch", [1, 2, 4])
@torch.no_grad()
def test_folding_is_undone_exactly(patch):
    config = replace(TINY, patch=patch)
    net, given_ = of(config), inputs(config, size=16)
    folded: dict[str, Tensor] = {}
    net.stem.register_forward_pre_hook(lambda _module, args: folded.update(stem=args[0]))
    net.head.register_forward_hook(lambda _module, _args, out: folded.update(head=out))
    result = net(**given_)
    assert folded["stem"].shape == (2, 3 * patch**2, 16 // patch, 16 // patch)
    assert torch.equal(F.pixel_shuffle(folded["stem"], patch), given_["x"])
    assert torch.equal(F.pixel_shuffle(folded["head"], patch), result)


@settings(max_examples=15)
@given(height=st.integers(5, 20), width=st.integers(5, 20))  # 4×4 leaves GroupNorm a single value
@torch.no_grad()
def test_sizes_that_do_not_halve_are_refused(height, width):
    net = UNet(replace(TINY, patch=2))
    x, rest = torch.zeros(1, 3, height, width), inputs(TINY, batch=1)
    del rest["x"]
    if height % 4 or width % 4:
        with pytest.raises(ValueError, match=f"x: {height}×{width} pixels, but both must be multiples of 4"):
            net(x, **rest)
    else:
        assert net(x, **rest).shape == (1, 6, height, width)


def blocks_with_attention(net: UNet) -> list[int]:
    """Channels of the attention blocks, in order, the middle one among them."""
    return [module.norm.num_channels for module in net.modules() if isinstance(module, AttentionBlock)]


def test_attention_stands_where_it_is_asked_for():
    with torch.device("meta"):
        assert blocks_with_attention(UNet(replace(TINY, attention=()))) == []
        # depth on the way down, the middle, depth + 1 on the way up
        deep = replace(TINY, multipliers=(1, 2, 3), depth=2, attention=(2,))
        assert blocks_with_attention(UNet(deep)) == [64, 64, 96, 64, 64, 64]
        deep = replace(deep, attention=(1, 4))
        assert blocks_with_attention(UNet(deep)) == [32, 32, 96, 96, 96, 96, 96, 96, 32, 32, 32]


def test_dropout_is_active_in_training_alone():
    net, given_ = of(replace(TINY, dropout=0.5)), inputs(TINY)
    with torch.no_grad():
        assert torch.equal(net(**given_), net(**given_))
        net.train()
        assert not torch.equal(net(**given_), net(**given_))


def test_every_parameter_learns():
    net, given_ = of(TINY), inputs(TINY)
    net(**given_).square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_refusals():
    with pytest.raises(ValueError, match="channels: 48 is not a multiple of GroupNorm's 32 groups"):
        group_norm(48)
    with pytest.raises(ValueError, match="head_width: 24 does not divide 64 channels"):
        AttentionBlock(channels=64, config=replace(TINY, head_width=24))
    with pytest.raises(ValueError, match="context: this network reads text tokens and was given none"):
        UNet(TINY)(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="canvas: this network reads 0 channels and was given 2 channels"):
        UNet(TINY)(torch.zeros(1, 3, 8, 8), torch.zeros(1), canvas=torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="canvas: this network reads 2 channels and was given none"):
        UNet(replace(TINY, canvas=2))(torch.zeros(1, 3, 8, 8), torch.zeros(1))


@torch.no_grad()
def test_a_canvas_lies_beside_the_folded_picture_place_by_place():
    config = replace(TINY, canvas=2, patch=2, context_width=None, attention=())
    stem = of(config).stem
    canvas = torch.zeros(1, 2, 8, 8)
    canvas[0, 1, 2, 6] = 1.0
    touched = (
        stem(torch.cat([torch.zeros(1, 12, 8, 8), canvas], dim=1)) - stem(torch.zeros(1, 14, 8, 8))
    ).abs()
    places = touched.sum(dim=(0, 1)).nonzero().tolist()
    assert places == [[row, column] for row in (1, 2, 3) for column in (5, 6, 7)]


def test_glides_blocks_one_by_one():
    """GLIDE's released 64×64 network: parameters of every block, as its own code has them."""
    config = UNetConfig(
        in_channels=3,
        out_channels=6,
        channels=192,
        depth=3,
        multipliers=(1, 2, 3, 4),
        attention=(2, 4, 8),
        head_width=64,
        context_width=512,
        scale_shift=True,
        dropout=0.1,
        patch=1,
        canvas=0,
    )
    with torch.device("meta"):
        net = UNet(config)

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    text = sum(count(m.context_kv) for m in net.modules() if isinstance(m, AttentionBlock) and m.context_kv)
    assert text == 13_198_464
    assert len(blocks_with_attention(net)) == 22
    assert [count(net.stem), *(count(step) for step in net.down)] == [
        *(5_376, 960_000, 960_000, 960_000, 960_000),
        *(3_643_392, 4_233_216, 4_233_216, 3_247_104),
        *(8_008_896, 8_782_848, 8_782_848, 6_861_312),
        *(14_070_144, 14_954_496, 14_954_496),
    ]
    assert count(net.middle_in, net.middle_attention, net.middle_out) == 26_757_120
    assert [count(step) for step in net.up] == [
        *(21_444_864, 21_444_864, 21_444_864, 31_772_544),
        *(13_540_416, 12_434_112, 12_434_112, 18_189_120),
        *(6_594_048, 5_856_384, 5_856_384, 8_365_824),
        *(1_735_104, 1_366_080, 1_366_080, 1_366_080),
    ]
    assert all(isinstance(step, Level) for step in net.up)


@torch.no_grad()
def test_a_caption_that_was_read_before_counts_as_one_that_is_read_now():
    net, given_ = of(TINY), inputs(TINY)
    context = given_.pop("context")
    read = net.read(context)
    assert len(read) == len(net.attentions) > 1
    assert torch.equal(net(**given_, context=read), net(**given_, context=context))
    assert not torch.equal(net(**given_, context=read[::-1]), net(**given_, context=context))
