"""The prior of DALLE2-pytorch: its parts by the published formula, and what sees what by perturbation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.dalle2.prior_relative import RelativePrior, RelativePriorConfig, buckets, rotated
from limner.diffusion.spec import DiffusionSpec

CONFIG = RelativePriorConfig(
    embedding=12,
    context=5,
    layers=2,
    heads=2,
    head_width=6,
    hidden=10,
    text_rows=1,
    time_rows=1,
    picture_rows=1,
    times=20,
    self_conditioning=False,
    cosine=True,
    guided=True,
    norm_in=False,
    norm_out=True,
    norm_hidden=False,
    project=True,
    rotary=True,
    scale=12**0.5,
    diffusion=DiffusionSpec(schedule="cosine", steps=20, prediction="x0", learned_variance=False),
)


def made(config: RelativePriorConfig) -> RelativePrior:
    torch.manual_seed(0)
    prior = RelativePrior(config).eval().requires_grad_(False)
    for name, parameter in prior.named_parameters():
        if name != "frequencies":
            nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return prior


@pytest.fixture
def given() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(3, 12, generator=generator),
        "t": torch.tensor([0.0, 7.0, 19.0]),
        "tokens": torch.randn(3, 4, 12, generator=generator),
        "caption": torch.randn(3, 12, generator=generator),
        "mask": torch.arange(4)[None] < torch.tensor([4, 1, 2])[:, None],
    }


def test_buckets_are_t5s():
    """One direction, 32 buckets, 128 the farthest, as Raffel et al. 2020 have it; below zero counts as 0."""
    found = buckets(200, 201)
    for i, j in ((0, 0), (5, 6), (5, 5), (15, 0), (16, 0), (17, 0), (40, 3), (127, 0), (199, 0)):
        back = max(i - j, 0)
        expected = back if back < 16 else min(31, 16 + int(math.log(back / 16) / math.log(8) * 16))
        assert int(found[i, j]) == expected


def test_turning_keeps_lengths_and_knows_only_distances():
    """A product of two turned vectors depends on how far apart they stand; what lies behind is not turned."""
    torch.manual_seed(0)
    q, k = torch.randn(8).expand(6, 8), torch.randn(8).expand(6, 8)
    frequencies = torch.tensor([1.0, 0.1, 0.01])
    turned_q, turned_k = rotated(q, frequencies), rotated(k, frequencies)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(turned_q[:, 6:], q[:, 6:])
    products = turned_q @ turned_k.T
    for back in range(5):
        torch.testing.assert_close(products.diagonal(-back), products[back, 0].expand(6 - back))
    assert not torch.allclose(products[1, 0], products[0, 0])


def normed(x: Tensor, scale: Tensor) -> Tensor:
    return (
        (x - x.mean(dim=-1, keepdim=True))
        / (x.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        * scale
    )


@pytest.mark.parametrize("cosine", [True, False])
def test_attention_by_the_published_formula(cosine):
    """Written out pair by pair: every head, every query, nothing first among its keys."""
    prior = made(replace(CONFIG, cosine=cosine))
    attention, table = prior.blocks[0].attention, prior.distances.weight
    x = torch.randn(1, CONFIG.rows, 12)
    h = normed(x, attention.norm.weight)
    q = (h @ attention.query.weight.T).unflatten(-1, (2, 6))[0]
    keys, values = (h @ attention.key_value.weight.T)[0].chunk(2, dim=-1)
    gathered = torch.zeros(CONFIG.rows, 2, 6)
    for i in range(CONFIG.rows):
        for head in range(2):
            query = rotated(q[:, head], prior.frequencies)[i]
            seen = torch.cat([attention.nothing[:1], rotated(keys, prior.frequencies)[: i + 1]])
            bias = torch.stack([table[max(i - j, 0), head] for j in range(i + 2)])  # all within 16
            if cosine:
                scores = 16 * torch.cosine_similarity(query[None], seen) + bias
            else:
                # q/(α√d)·k + bias, the largest taken off, times α = 128.
                scores = query / 128 / 6**0.5 @ seen.T + bias
                scores = 128 * (scores - scores.max())
            gathered[i, head] = scores.softmax(dim=0) @ torch.cat([attention.nothing[1:], values[: i + 1]])
    expected = normed(gathered.flatten(1) @ attention.out.weight.T, attention.norm_out.weight)
    found = attention(x, bias=prior.bias(), frequencies=prior.frequencies)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_blocks_and_ends_by_the_published_formula(given, inside):
    """The order of rows, SwiGLU with the value before its gate, a last norm that divides first."""
    prior = made(replace(CONFIG, norm_hidden=inside, norm_in=inside))
    x, mask = given["x"], given["mask"]
    words = torch.where(mask[..., None], given["tokens"], prior.no_tokens[:4])
    rows = [words, prior.no_tokens[4].expand(3, 1, 12), given["caption"][:, None]]
    rows += [prior.time.weight[given["t"].long()][:, None], x[:, None], prior.query.expand(3, 1, 12)]
    h = torch.cat(rows, dim=1)
    h = normed(h, prior.norm_in.weight) if inside else h
    for block in prior.blocks:
        h = h + block.attention(h, bias=prior.bias(), frequencies=prior.frequencies)
        value, gate = (normed(h, block.norm.weight) @ block.widen.weight.T).chunk(2, dim=-1)
        hidden = value * gate * torch.sigmoid(gate)
        hidden = normed(hidden, block.norm_hidden.weight) if inside else hidden
        h = h + hidden @ block.narrow.weight.T
    last = h[:, -1]
    expected = normed(last / last.max(dim=-1, keepdim=True).values, prior.norm_out.weight)
    torch.testing.assert_close(prior(**given), expected @ prior.to_picture.weight.T, rtol=1e-4, atol=1e-4)


def test_what_is_not_told_changes_nothing(given):
    """Without a caption neither it nor the noised picture is known; the time is."""
    prior = made(CONFIG)
    untold = {"known": torch.tensor([False, False, True])}
    before = prior(**given, **untold)
    other = given | {"caption": -given["caption"], "tokens": -given["tokens"], "x": -given["x"]}
    after = prior(**other, **untold)
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2])
    later = prior(**(given | {"t": given["t"].flip(0)}), **untold)
    assert not torch.allclose(before[0], later[0])
    torch.testing.assert_close(prior(**given)[2], before[2])


def test_padding_is_seen_and_its_tokens_are_not(given):
    prior = made(CONFIG)
    before = prior(**given)
    noisy = given | {"tokens": torch.where(given["mask"][..., None], given["tokens"], 100.0)}
    assert torch.equal(prior(**noisy), before)
    prior.no_tokens[3] += torch.arange(12) / 4  # a norm would take off what all components share
    assert not torch.allclose(prior(**given)[1], before[1])
    assert torch.equal(prior(**given)[0], before[0])


def test_a_guess_is_a_row_and_zero_by_default(given):
    prior = made(replace(CONFIG, self_conditioning=True))
    assert torch.equal(prior(**given), prior(**given, guess=torch.zeros(3, 12)))
    assert not torch.allclose(prior(**given), prior(**given, guess=torch.randn(3, 12)))


def test_sinusoids_are_those_of_ddpm(given):
    """[sin, cos], and the last frequency is 10⁻⁴; any time between two."""
    prior = made(replace(CONFIG, times=None, time_rows=2, text_rows=2, picture_rows=3))
    seen: list[Tensor] = []
    prior.time.net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    prior(**(given | {"t": torch.tensor([0.0, 2.5, 7.0])}))
    rates = 10_000 ** (-torch.arange(6) / 5)
    torch.testing.assert_close(seen[0][1], torch.cat([(2.5 * rates).sin(), (2.5 * rates).cos()]))


def test_what_it_cannot_do_is_refused(given):
    with pytest.raises(ValueError, match="tokens: 6 positions, but this prior has 5"):
        made(CONFIG)(**(given | {"tokens": torch.zeros(3, 6, 12), "mask": torch.ones(3, 6).bool()}))
    with pytest.raises(ValueError, match="nothing that stands for a caption"):
        made(replace(CONFIG, guided=False))(**given, known=torch.ones(3, dtype=torch.bool))
