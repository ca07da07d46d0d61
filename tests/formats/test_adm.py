"""OpenAI's U-Net by its names: sizes are read back from shapes, and packed attention is what it computes."""

import math
from pathlib import Path

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.formats import adm, glide, network, opened, self_check, usable
from limner.formats.contents import Contents
from limner.formats.places import give, take
from limner.glide import Glide, GlideConfig
from limner.glide.model import published
from limner.layers.transformer import SelfAttention
from limner.layers.unet import AttentionBlock, UNet, UNetConfig


def config(
    depth: int, multipliers: tuple[int, ...], attention: tuple[int, ...], context: int | None, shift: bool
) -> UNetConfig:
    return UNetConfig(
        in_channels=3,
        out_channels=6,
        channels=64,
        depth=depth,
        multipliers=multipliers,
        attention=attention,
        head_width=64,
        context_width=context,
        scale_shift=shift,
        dropout=0.0,
        patch=1,
        canvas=0,
    )


@given(
    st.integers(1, 3),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.sets(st.integers(0, 3)),
    st.sampled_from([None, 32]),
    st.booleans(),
)
@settings(max_examples=40)
def test_sizes_are_read_back_from_shapes(depth, multipliers, levels, context, shift):
    attention = tuple(2**level for level in sorted(levels) if level < len(multipliers))
    wanted = config(depth, tuple(multipliers), attention, context if attention else None, shift)
    with torch.device("meta"):
        ours = UNet(wanted).state_dict()
    places = list(adm.places(wanted, ""))
    assert {place.ours for place in places} == ours.keys()
    theirs = give(places, ours)
    found = adm.unet(Contents(path=Path(), kind="", tensors=theirs, settings={}, said={}, size=0))
    assert found == wanted
    back = take(places, theirs, {name: tuple(tensor.shape) for name, tensor in ours.items()})
    assert (back.missing, back.wrong, back.unused) == ((), (), ())


def by_head(qkv: Tensor, heads: int) -> Tensor:
    """Attention as guided-diffusion writes it: rows (b, 3·h·d, n) are cut by head, then into q, k and v."""
    q, k, v = rearrange(qkv, "b (h three d) n -> three b h d n", three=3, h=heads)
    weights = torch.einsum("b h d i, b h d j -> b h i j", q, k) / math.sqrt(q.shape[2])
    return rearrange(
        torch.einsum("b h i j, b h d j -> b h d i", weights.softmax(dim=-1), v), "b h d n -> b (h d) n"
    )


def test_attention_that_is_packed_by_head_is_ours_when_it_is_unpacked():
    """In the U-Net: a convolution of width one over flattened places, then by head."""
    torch.manual_seed(0)
    qkv, out = nn.Conv1d(128, 3 * 128, 1), nn.Conv1d(128, 128, 1)
    ours = AttentionBlock(channels=128, config=config(1, (2,), (1,), None, True))
    theirs = {"a.qkv.weight": qkv.weight, "a.qkv.bias": qkv.bias}
    theirs |= {"a.proj_out.weight": out.weight, "a.proj_out.bias": out.bias}
    theirs |= {"a.norm.weight": torch.rand(128), "a.norm.bias": torch.rand(128)}
    places = list(adm._attention("", "a", 128, config(1, (2,), (1,), None, True)))
    shapes = {f".{name}": tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    taken = take(places, {name: tensor.detach() for name, tensor in theirs.items()}, shapes)
    ours.load_state_dict({name[1:]: tensor for name, tensor in taken.state.items()})
    x = torch.randn(2, 128, 3, 4)
    with torch.no_grad():
        expected = x + rearrange(
            out(by_head(qkv(rearrange(ours.norm(x), "b c h w -> b c (h w)")), 2)), "b c (h w) -> b c h w", h=3
        )
        torch.testing.assert_close(ours(x, None, None), expected, rtol=1e-5, atol=1e-5)


def test_the_text_transformer_is_packed_the_same_way():
    torch.manual_seed(0)
    qkv, ours = nn.Linear(96, 3 * 96), SelfAttention(width=96, heads=4)
    taken = take(
        list(adm.packed("qkv", "c_qkv", 4, 3)),
        {"c_qkv.weight": qkv.weight.detach(), "c_qkv.bias": qkv.bias.detach()},
        {"qkv.weight": (288, 96), "qkv.bias": (288,)},
    )
    ours.load_state_dict(dict(taken.state), strict=False)
    x = torch.randn(2, 5, 96)
    with torch.no_grad():
        expected = ours.out(by_head(qkv(x).mT, 4).mT)
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("upsampler", [False, True])
def test_glide_is_opened_whole(tmp_path, upsampler):
    wanted: GlideConfig = published(channels=64, text_width=64, text_layers=1, upsampler=upsampler)
    torch.manual_seed(0)
    model = Glide(wanted).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    save_file(give(glide.places(wanted), model.state_dict()), tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert found.format == ("GLIDE upsampler" if upsampler else "GLIDE base")
    assert self_check(found.parts[0]) == "noise gives (6, 64, 64)"
    again = network(found.parts[0])
    x, ids = torch.randn(1, 3, 64, 64), torch.randint(0, 50_000, (1, 128))
    given_ = {
        "ids": ids,
        "mask": torch.arange(128)[None] < 9,
        "low": torch.randn(1, 3, 16, 16) if upsampler else None,
    }
    with torch.no_grad():
        torch.testing.assert_close(
            again(x, torch.tensor([7.0]), **given_), model(x, torch.tensor([7.0]), **given_)
        )
