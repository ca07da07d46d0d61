"""The transformer in the U-Net's place: the same door, and what its tokens see."""

from dataclasses import replace

import pytest
import torch

from limner.layers.patch_transformer import PatchTransformer, PatchTransformerConfig

CONFIG = PatchTransformerConfig(
    resolution=16,
    in_channels=3,
    out_channels=6,
    patch=4,
    width=32,
    layers=5,
    heads=4,
    context_width=24,
)


def shaken(config=CONFIG):
    torch.manual_seed(0)
    net = PatchTransformer(config).eval()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net


def inputs():
    return {
        "x": torch.randn(2, 3, 16, 16),
        "t": torch.tensor([3.0, 900.0]),
        "condition": torch.randn(2, 32),
        "context": torch.randn(2, 7, 24),
    }


@torch.no_grad()
def test_everything_reaches_the_output():
    net, given = shaken(), inputs()
    before = net(**given)
    assert before.shape == (2, 6, 16, 16)
    for name in given:
        changed = given | {name: given[name] + 1}
        assert (net(**changed) - before).abs().max() > 1e-4, name
    # Any place may ask any other: one pixel of one corner reaches the opposite one.
    moved = given | {"x": given["x"].clone()}
    moved["x"][:, :, 0, 0] += 3
    assert (net(**moved) - before)[:, :, -4:, -4:].abs().max() > 1e-5
    # But no row of the batch another.
    alone = {name: value[:1] for name, value in given.items()}
    torch.testing.assert_close(net(**alone), before[:1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_hidden_words_are_not_seen_and_read_ones_count_as_read_now():
    net, given = shaken(), inputs()
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[:, 4:] = False
    before = net(**given, context_mask=mask)
    other = given | {"context": given["context"].clone()}
    other["context"][:, 4:] += 5
    torch.testing.assert_close(net(**other, context_mask=mask), before, atol=1e-6, rtol=1e-6)
    read = given | {"context": net.read(given["context"])}
    assert torch.equal(net(**read), net(**given))


@torch.no_grad()
def test_a_new_one_says_nothing_and_its_places_are_those_of_the_picture():
    assert not PatchTransformer(CONFIG)(**inputs()).any()
    net, given = shaken(), inputs()
    for block in (*net.first, net.middle, *net.second):
        torch.nn.init.zeros_(block.attention.out.weight)  # now nothing meets but patch and place
    before = net(**given)
    moved = given | {"x": given["x"].clone()}
    moved["x"][:, :, 5, 9] += 3
    changed = (net(**moved) - before).abs().amax(dim=(0, 1)) > 1e-6
    assert changed[4:8, 8:12].all()
    assert changed.sum() == 16


def test_what_it_cannot_be():
    with pytest.raises(ValueError, match="layers: 4, but halves around a middle need an odd number"):
        PatchTransformer(replace(CONFIG, layers=4))
    with pytest.raises(ValueError, match="patch: 3 does not divide 16 pixels"):
        PatchTransformer(replace(CONFIG, patch=3))
    with pytest.raises(ValueError, match="x: 32×32 pixels, but this network knows 16×16"):
        shaken()(**inputs() | {"x": torch.randn(2, 3, 32, 32)})
    with pytest.raises(ValueError, match="canvas: attention lays pictures out here"):
        shaken()(**inputs(), canvas=torch.zeros(2, 1, 4, 4))
