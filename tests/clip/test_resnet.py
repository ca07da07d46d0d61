"""The residual picture tower: what strides, what pools, and what the batch has a say in."""

import json
from dataclasses import replace

import pytest
import torch
from einops import reduce, repeat
from torch import nn

from limner import checkpoint
from limner.clip import Clip, ClipConfig, ResNetConfig, TextConfig, VisionConfig, contrastive_loss
from limner.clip.resnet import AttentionPool, Bottleneck, Convolution, ResNetTower
from limner.clip.tower import PIXEL_MEAN, PIXEL_STD

CONFIG = ClipConfig(
    vision=ResNetConfig(resolution=32, width=8, blocks=(1, 2, 1), heads=4),
    text=TextConfig(context=9, vocabulary=40, width=24, layers=2, heads=3),
    embedding=8,
    activation="quick_gelu",
)
IDS = torch.tensor([[38, 1, 39], [38, 2, 39], [38, 3, 39], [38, 4, 39]])


def clip() -> Clip:
    torch.manual_seed(0)
    return Clip(CONFIG).eval()


def pictures(count: int) -> torch.Tensor:
    fields = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return nn.functional.interpolate(fields, size=32)


@torch.no_grad()
def test_a_stride_is_the_average_of_four_places():
    torch.manual_seed(0)
    block, given = Bottleneck(channels=6, width=4, stride=2).eval(), {}
    for name in ("narrow", "mix", "widen", "skip"):
        getattr(block, name).register_forward_hook(
            lambda _module, args, out, name=name: given.update({name: (args[0], out)})
        )
    x = torch.randn(2, 6, 8, 8)
    out = block(x)
    four = "b c (h two) (w deux) -> b c h w"
    assert given["mix"][1].shape == (2, 4, 8, 8)  # no convolution strides
    averaged = reduce(given["mix"][1].relu(), four, "mean", two=2, deux=2)
    torch.testing.assert_close(given["widen"][0], averaged)
    torch.testing.assert_close(given["skip"][0], reduce(x, four, "mean", two=2, deux=2))
    torch.testing.assert_close(out, (given["widen"][1] + given["skip"][1]).relu())


@torch.no_grad()
def test_a_stride_does_not_alias():
    """The finest checkerboard is grey from further away; every second place of it is all white."""
    block = Bottleneck(channels=6, width=4, stride=2).eval()
    board = repeat(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), "h w -> 1 c (m h) (n w)", c=6, m=4, n=4)
    assert block.skip(block.average(board)).abs().max() == 0
    assert block.skip(board[..., ::2, ::2]).abs().max() > 0.01


@torch.no_grad()
def test_a_block_begins_as_what_goes_around_it():
    block = Bottleneck(channels=16, width=4, stride=1)
    x = torch.randn(2, 16, 5, 5)
    for mode in (True, False):
        assert torch.equal(block.train(mode)(x), x.relu())


@torch.no_grad()
@pytest.mark.parametrize("silent", ["query", "key"])
def test_attention_that_prefers_nothing_gives_the_mean(silent):
    torch.manual_seed(0)
    pool = AttentionPool(places=9, width=12, heads=3, out=5)
    nn.init.zeros_(getattr(pool, silent).weight)
    nn.init.zeros_(getattr(pool, silent).bias)
    x = torch.randn(2, 12, 3, 3)
    pooled, tokens = pool(x)
    torch.testing.assert_close(pooled, pool.out(pool.value(tokens.mean(dim=1))))
    torch.testing.assert_close(tokens[:, 0], x.mean(dim=(2, 3)) + pool.positions[0])
    # The mean of the places and their mean is their mean.
    nn.init.zeros_(pool.positions)
    torch.testing.assert_close(pool(x).pooled, pool.out(pool.value(x.mean(dim=(2, 3)))))


@torch.no_grad()
def test_attention_that_prefers_one_place_gives_that_place():
    pool = AttentionPool(places=9, width=12, heads=1, out=12)
    for linear in (pool.query, pool.key, pool.value, pool.out):
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    nn.init.zeros_(pool.positions)
    x = torch.zeros(1, 12, 3, 3)
    x[0, 0, 2, 1] = 1000.0
    torch.testing.assert_close(pool(x).pooled, x[:, :, 2, 1])


@torch.no_grad()
def test_the_mean_alone_asks_and_sees_every_place():
    model = clip()
    before = model.encode_image(pictures(1))
    assert before.tokens.shape == (1, 1 + 4, 128)
    assert before.pooled.shape == (1, 8)
    for row in range(2):
        for column in range(2):
            other = pictures(1)
            other[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] *= -1
            assert not torch.allclose(model.encode_image(other).pooled, before.pooled)


@torch.no_grad()
def test_training_normalises_by_the_batch_and_remembers_a_tenth():
    torch.manual_seed(0)
    layer, x = Convolution(3, 5, 3), torch.randn(4, 3, 8, 8)
    mapped = layer.conv(x)
    out = layer(x)
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=(0, 2, 3), unbiased=False), torch.ones(5), atol=1e-3, rtol=0)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * mapped.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(layer.norm.running_var, 0.9 + 0.1 * mapped.var(dim=(0, 2, 3)))
    layer.eval()
    deviation = (layer.norm.running_var + 1e-5).sqrt()[:, None, None]
    torch.testing.assert_close(layer(x), (mapped - layer.norm.running_mean[:, None, None]) / deviation)


@torch.no_grad()
def test_after_training_pictures_do_not_disturb_each_other():
    model = clip()
    model.train()(pictures(4), IDS)
    model.eval()
    together = model.encode_image(pictures(4)).pooled
    alone = torch.cat([model.encode_image(picture[None]).pooled for picture in pictures(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pictures_are_given_in_minus_one_to_one():
    """The published mean becomes nought and a standard deviation above it becomes one."""
    model, seen = clip(), []
    model.vision.stem[0].register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    for number, colour in enumerate((mean, mean + std)):
        model.encode_image((2 * colour - 1)[None, :, None, None].expand(1, 3, 32, 32))
        expected = torch.full((1, 3, 32, 32), float(number))
        torch.testing.assert_close(seen[number], expected, atol=1e-6, rtol=0)


def test_initialised_as_published():
    torch.manual_seed(0)
    tower = ResNetTower(ResNetConfig(resolution=256, width=16, blocks=(1, 1, 2, 1), heads=8), embedding=512)
    pool = tower.pool
    for linear in (pool.query, pool.key, pool.value, pool.out):
        assert linear.weight.std().item() == pytest.approx(512**-0.5, rel=0.02)
    assert pool.positions.std().item() == pytest.approx(512**-0.5, rel=0.02)
    blocks = [module for module in tower.modules() if isinstance(module, Bottleneck)]
    assert len(blocks) == 5
    assert not any(block.widen.norm.weight.any() for block in blocks)
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(bool((norm.weight == 1).all()) for norm in norms) == len(norms) - len(blocks)


def test_it_learns_which_caption_is_whose():
    model = clip().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        pair = model(pictures(4), IDS)
        loss = contrastive_loss(pair.images, pair.texts, pair.scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0], losses
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_refusals():
    model, vision = clip(), CONFIG.vision
    with pytest.raises(ValueError, match=r"pictures: \(32, 16\) pixels, this tower reads 32×32"):
        model.encode_image(torch.zeros(1, 3, 32, 16))
    with pytest.raises(ValueError, match="t: this tower reads clean pictures; leave it out"):
        model.encode_image(torch.zeros(1, 3, 32, 32), torch.zeros(1))
    for change, complaint in (
        (
            {"resolution": 40},
            "resolution: 40 is no multiple of the 16 pixels that 3 stages make one place of",
        ),
        ({"width": 7}, "width: 7 is odd"),
        ({"heads": 5}, "heads: 5 does not divide the 128 channels"),
        ({"blocks": (1, 0, 1)}, r"blocks: \(1, 0, 1\), but"),
        ({"blocks": ()}, r"blocks: \(\), but"),
    ):
        with pytest.raises(ValueError, match=complaint):
            ResNetTower(replace(vision, **change), embedding=8)


def test_statistics_of_a_batch_are_not_taken_in_chunks():
    model = clip()
    with torch.no_grad():
        whole, chunked = model(pictures(4), IDS), model(pictures(4), IDS, chunk=3)
    torch.testing.assert_close(chunked.images, whole.images, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="chunk: 3, but a residual picture tower's batch statistics"):
        model.train()(pictures(4), IDS, chunk=3)


def test_a_checkpoint_knows_which_tower_it_is_of(tmp_path):
    patches = VisionConfig(resolution=32, patch=8, width=16, layers=1, heads=2, layout=3)
    for name, config in (("patches", replace(CONFIG, vision=patches)), ("residual", CONFIG)):
        model = Clip(config).eval()
        checkpoint.save(tmp_path / name, model.state_dict(), config)
        again, state = checkpoint.load(tmp_path / name, ClipConfig)
        assert again == config
        assert type(again.vision) is type(config.vision)
        other = Clip(again).eval()
        checkpoint.load_into(other, state)
        with torch.no_grad():
            seen = other.encode_image(pictures(1)).pooled
            assert torch.equal(seen, model.encode_image(pictures(1)).pooled)
    # That it reads clean pictures is no size, so nothing of it is written.
    written = json.loads((tmp_path / "residual" / "config.json").read_text())["config"]["vision"]
    assert written == {"resolution": 32, "width": 8, "blocks": [1, 2, 1], "heads": 4}
    assert CONFIG.vision.times is None
