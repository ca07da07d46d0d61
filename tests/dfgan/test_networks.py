"""The two networks: published sizes, the published code's sums, and what they are before they learn."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.dfgan import (
    DfGan,
    DfGanConfig,
    Discriminator,
    Generator,
    SentenceConfig,
    SentenceReader,
    noise,
    paper,
    published_reader,
)
from limner.dfgan.generator import Affine, Fusion
from limner.draws import Draws

SMALL = DfGanConfig(resolution=64, width=4, noise=7, sentence=5, squashed=True)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """With weights as training might leave them: no scale is 1 and no residual shut off any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


# --- published sizes -----------------------------------------------------------------------------


def test_the_published_parameter_counts():
    with torch.device("meta"):
        generator, discriminator = Generator(paper()), Discriminator(paper())
    assert count(generator) == 9_744_131
    head = count(discriminator.join) + count(discriminator.judge)
    assert head == 295_936
    # The published discriminator has a 1×1 shortcut in each block and takes it where channels change. In
    # three blocks they stay 256, so 256 × 256 weights and 256 biases lie there unused; ours has none there.
    unused = 3 * (256 * 256 + 256)
    assert count(discriminator) - head + unused == 6_619_206


@pytest.mark.parametrize(("words", "published"), [(27_297, 8_629_420), (5_450, 2_075_320)])
def test_the_published_readers_have_their_counts(words, published):
    with torch.device("meta"):
        assert count(SentenceReader(published_reader(words))) == published


def test_channels_double_up_to_a_bound():
    assert paper().channels == (32, 64, 128, 256, 256, 256, 256)
    assert SMALL.channels == (4, 8, 16, 32, 32)


def test_sizes_that_do_not_halve_are_refused():
    for resolution in (4, 48, 100):
        with pytest.raises(ValueError, match=f"resolution: {resolution}; give a power of two from 8"):
            DfGanConfig(resolution=resolution, width=4, noise=7, sentence=5, squashed=True)
    with pytest.raises(ValueError, match="noise: 0; give at least 1"):
        DfGanConfig(resolution=8, width=4, noise=0, sentence=5, squashed=True)


# --- the published code's sums, written out ------------------------------------------------------

# Our names of a block's parts and theirs.
UP = {"fuse_in": "fuse1", "conv_in": "c1", "fuse_out": "fuse2", "conv_out": "c2", "shortcut": "c_sc"}
DOWN = {"halve": "conv_r.0", "refine": "conv_r.2", "shortcut": "conv_s", "gamma": "gamma"}
INSIDE = {
    "first": "affine0",
    "second": "affine1",
    "scale": "fc_gamma",
    "shift": "fc_beta",
}


def published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the names that they have in the published checkpoints (netG, netD and netC)."""
    roots = {
        "start": "fc",
        "colours": "to_rgb.1",
        "look": "conv_img",
        "join": "joint_conv.0",
        "judge": "joint_conv.2",
    }
    found = {}
    for name, value in state.items():
        first, *rest = name.split(".")
        if first == "said":
            continue
        if first != "blocks":
            found[".".join([roots[first], *rest])] = value
            continue
        number, part, *inside = rest
        up = (
            part in ("fuse_in", "fuse_out", "conv_in", "conv_out")
            or "blocks.0.fuse_in.first.scale.0.weight" in state
        )
        list_, parts = ("GBlocks", UP) if up else ("DBlocks", DOWN)
        told = [INSIDE.get(one, one) for one in inside]
        if part.startswith("fuse"):
            told[2] = {"0": "linear1", "2": "linear2"}[told[2]]
        found[".".join([list_, number, parts[part], *told])] = value
    return found


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def reference_affine(w: dict[str, Tensor], name: str, x: Tensor, y: Tensor) -> Tensor:
    said = []
    for which in ("fc_gamma", "fc_beta"):
        hidden = y @ w[f"{name}.{which}.linear1.weight"].T + w[f"{name}.{which}.linear1.bias"]
        hidden = hidden.clamp(min=0)
        said.append(hidden @ w[f"{name}.{which}.linear2.weight"].T + w[f"{name}.{which}.linear2.bias"])
    return said[0][:, :, None, None] * x + said[1][:, :, None, None]


def reference_generator(w: dict[str, Tensor], z: Tensor, c: Tensor, blocks: int) -> Tensor:
    out = (z @ w["fc.weight"].T + w["fc.bias"]).view(len(z), -1, 4, 4)
    y = torch.cat((z, c), dim=1)
    for i in range(blocks):
        b = f"GBlocks.{i}"
        x = out.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        h = x
        for fuse, conv in (("fuse1", "c1"), ("fuse2", "c2")):
            for affine in ("affine0", "affine1"):
                h = lrelu(reference_affine(w, f"{b}.{fuse}.{affine}", h, y))
            h = F.conv2d(h, w[f"{b}.{conv}.weight"], w[f"{b}.{conv}.bias"], padding=1)
        if f"{b}.c_sc.weight" in w:
            x = F.conv2d(x, w[f"{b}.c_sc.weight"], w[f"{b}.c_sc.bias"])
        out = x + h
    return torch.tanh(F.conv2d(lrelu(out), w["to_rgb.1.weight"], w["to_rgb.1.bias"], padding=1))


def reference_discriminator(w: dict[str, Tensor], x: Tensor, y: Tensor, blocks: int) -> Tensor:
    out = F.conv2d(x, w["conv_img.weight"], w["conv_img.bias"], padding=1)
    for i in range(blocks):
        b = f"DBlocks.{i}"
        res = lrelu(F.conv2d(out, w[f"{b}.conv_r.0.weight"], stride=2, padding=1))
        res = lrelu(F.conv2d(res, w[f"{b}.conv_r.2.weight"], padding=1))
        if f"{b}.conv_s.weight" in w:
            out = F.conv2d(out, w[f"{b}.conv_s.weight"], w[f"{b}.conv_s.bias"])
        out = F.avg_pool2d(out, 2) + w[f"{b}.gamma"] * res
    told = y.view(len(y), -1, 1, 1).repeat(1, 1, 4, 4)
    h = lrelu(F.conv2d(torch.cat((out, told), 1), w["joint_conv.0.weight"], padding=1))
    return F.conv2d(h, w["joint_conv.2.weight"]).flatten()


@torch.no_grad()
def test_both_networks_compute_what_the_published_code_does():
    torch.manual_seed(0)
    gan = shaken(DfGan(SMALL)).double()
    z, s = torch.randn(3, 7).double(), torch.randn(3, 5).double()
    blocks = len(SMALL.channels) - 1
    wanted = reference_generator(published_names(gan.generator.state_dict()), z, s, blocks)
    found = gan.generator(z, s)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    assert found.shape == (3, 3, 64, 64)
    bare = Generator(replace(SMALL, squashed=False)).double()
    bare.load_state_dict(gan.generator.state_dict())
    torch.testing.assert_close(bare(z, s).tanh(), wanted, atol=1e-12, rtol=0)
    wanted = reference_discriminator(published_names(gan.discriminator.state_dict()), found, s, blocks)
    torch.testing.assert_close(gan.discriminator(found, s), wanted, atol=1e-12, rtol=0)
    assert wanted.std() > 1e-3


# --- before anything was learned -----------------------------------------------------------------


@torch.no_grad()
def test_a_new_affine_map_is_the_identity_whatever_it_is_told():
    torch.manual_seed(0)
    affine, x = Affine(9, 6), torch.randn(4, 6, 3, 3)
    assert torch.equal(affine(x, 100 * torch.randn(4, 9)), x)
    torch.testing.assert_close(Fusion(9, 6)(x, torch.randn(4, 9)), lrelu(lrelu(x)))


@torch.no_grad()
def test_an_affine_map_is_one_line_for_each_channel_of_each_picture():
    torch.manual_seed(0)
    affine = shaken(Affine(9, 6)).double()
    condition, x = torch.randn(4, 9).double(), torch.randn(4, 6, 3, 3).double()
    shift = affine(torch.zeros_like(x), condition)
    scale = affine(torch.ones_like(x), condition) - shift
    for said in (scale, shift):
        torch.testing.assert_close(said, said[:, :, :1, :1].expand_as(said))
        assert said[:, :, 0, 0].std(dim=0).min() > 1e-3
    torch.testing.assert_close(affine(x, condition), scale * x + shift)


@torch.no_grad()
def test_words_say_nothing_at_first_and_something_as_soon_as_weights_move():
    torch.manual_seed(0)
    generator, z = Generator(SMALL), torch.randn(2, 7)
    told = [torch.randn(2, 5) for _ in range(2)]
    assert torch.equal(generator(z, told[0]), generator(z, told[1]))
    shaken(generator)
    first, second = (generator(z, s) for s in told)
    assert (first - second).abs().mean() > 0.01
    assert first.abs().max() <= 1


@torch.no_grad()
def test_a_new_discriminator_looks_at_the_pooled_picture_alone():
    """γ is 0 in every block, so what is seen of a picture is that of its 4×4 means."""
    torch.manual_seed(0)
    discriminator = Discriminator(SMALL).double()
    x = torch.randn(2, 3, 64, 64).double()
    assert all(float(block.gamma) == 0 for block in discriminator.blocks)
    seen = F.avg_pool2d(discriminator.look(x), 16)
    for block in discriminator.blocks:
        seen = block.shortcut(seen)
    torch.testing.assert_close(discriminator.features(x), seen)


# --- noise ---------------------------------------------------------------------------------------


def test_truncated_noise_has_the_moments_of_a_normal_that_is_cut():
    config = DfGanConfig(resolution=8, width=4, noise=20_000, sentence=5, squashed=True)
    z = noise(Draws([3]), config, truncation=0.88).double() / 0.88
    density = math.exp(-2.0) / math.sqrt(2 * math.pi)  # of the normal at the cut, 2
    inside = math.erf(2 / math.sqrt(2))
    variance = 1 - 2 * 2 * density / inside
    assert z.abs().max() <= 2
    assert float(z.mean()) == pytest.approx(0, abs=0.03)
    assert float(z.var()) == pytest.approx(variance, rel=0.03)
    untouched = noise(Draws([3]), config)
    assert untouched.abs().max() > 3
    assert float(untouched.var()) == pytest.approx(1, rel=0.05)


@given(seed=st.integers(0, 2**31), truncation=st.one_of(st.none(), st.floats(0, 2)))
def test_noise_is_a_row_s_own(seed, truncation):
    together = noise(Draws([seed, seed + 1]), SMALL, truncation=truncation)
    assert torch.equal(noise(Draws([seed + 1]), SMALL, truncation=truncation)[0], together[1])


# --- the published reader ------------------------------------------------------------------------

READER = SentenceConfig(vocabulary=30, width=6, hidden=4, dropout=0.5)


@torch.no_grad()
def test_a_sentence_is_read_from_both_ends_and_padding_is_not_read():
    torch.manual_seed(0)
    reader = SentenceReader(READER).eval()
    ids = torch.tensor([[3, 7, 2, 9, 0, 0], [5, 1, 0, 0, 0, 0], [4, 4, 8, 1, 2, 6]])
    found = reader(ids)
    assert found.shape == (3, 8)
    for row in ids:
        words = reader.words(row[row != 0])[None]
        states = reader.lstm(words)[0][0]
        # Forward it ends at the last word, backward at the first.
        wanted = torch.cat([states[-1, :4], states[0, 4:]])
        torch.testing.assert_close(reader(row[None])[0], wanted)
    torch.testing.assert_close(found[1], reader(ids[1:2, :2])[0])
    assert (found[0] - reader(torch.tensor([[9, 2, 7, 3, 0, 0]]))[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="ids: row 1 has no word; give at least one"):
        reader(torch.tensor([[1, 2], [0, 0]]))
