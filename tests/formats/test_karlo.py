"""Karlo's own files: what its prior and decoder compute, written out again, and all of them in a folder."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from limner.dalle2.decoder import ClipTokens
from limner.errors import LimnerError
from limner.formats import karlo, network, opened, self_check, usable
from limner.formats.places import give
from limner.formats.writing import to_diffusers
from limner.pipelines.dalle2 import Dalle2

EMBEDDING, CONTEXT = 12, 77


@pytest.fixture(scope="module")
def prior(tiny_karlo):
    return tiny_karlo.prior()


@pytest.fixture(scope="module")
def decoder(tiny_karlo):
    return tiny_karlo.decoder()


@pytest.fixture(scope="module")
def upsampler(tiny_karlo):
    return tiny_karlo.upsampler()


@pytest.fixture(scope="module")
def clip(tiny_karlo):
    return tiny_karlo.clip()


@pytest.fixture(scope="module")
def folder(tiny_karlo, prior, decoder, upsampler, clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("karlo")
    return tiny_karlo.saved(path, prior=prior, decoder=decoder, upsampler=upsampler, clip=clip)


def test_a_folder_of_them_is_what_it_was(folder, prior, decoder, upsampler, clip):
    found = usable(opened(folder))
    assert found.format == "Karlo"
    assert [part.name for part in found.parts] == ["clip", "prior", "decoder", "upsampler"]
    for part, one in zip(found.parts, (clip, prior, decoder, upsampler), strict=True):
        again = network(part)
        assert again.config == one.config
        state = one.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
        assert "gives" in self_check(part)


def test_it_paints(folder):
    painter = Dalle2.load(folder)
    (picture,) = painter.paint(
        "a red apple", size=64, settings=replace(painter.usual, prior_steps=2, steps=2)
    )
    assert picture.size == (64, 64)


def test_what_diffusers_prior_cannot_be_is_not_written(folder, tmp_path):
    """Its tokens and its embeddings are of one width."""
    with pytest.raises(LimnerError, match="tokens have 64 numbers and its embeddings 12"):
        to_diffusers(opened(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_alone_a_prior_wants_its_statistics(folder):
    found = opened(folder / "prior.ckpt")
    assert found.complaints[0].endswith("put ViT-L-14_stats.th beside it")
    assert found.complaints[1:] == ["prior: missing: statistics.0, statistics.1"]
    with pytest.raises(LimnerError, match="holds no CLIP"):
        Dalle2.load(folder / "decoder.ckpt")


def test_nothing_else_may_lie_there(folder, tmp_path):
    for one in folder.iterdir():
        (tmp_path / one.name).symlink_to(one)
    torch.save({"w": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(LimnerError, match=r"other\.pt is no part of Karlo"):
        opened(tmp_path)
    (tmp_path / "other.pt").unlink()
    (tmp_path / "again.ckpt").symlink_to(folder / "prior.ckpt")
    with pytest.raises(LimnerError, match="two of Karlo's prior"):
        opened(tmp_path)


def attention(x: Tensor, w: dict[str, Tensor], name: str, heads: int, mask: Tensor) -> Tensor:
    """Queries, keys and values of each head lie together, [head][q|k|v]."""
    both = F.linear(x, w[f"{name}.c_qkv.weight"], w[f"{name}.c_qkv.bias"])
    packed = rearrange(both, "b l (heads three d) -> three b heads l d", heads=heads, three=3)
    q, k, v = packed
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask).softmax(dim=-1)
    joined = rearrange(weights @ v, "b heads l d -> b l (heads d)")
    return F.linear(joined, w[f"{name}.c_proj.weight"], w[f"{name}.c_proj.bias"])


def test_the_prior_by_its_formula(prior):
    """[tokens, z_t, time, noised z_i, query], positions added, causal and without padding."""
    w = give(karlo.prior_places(prior.config), prior.state_dict())

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    generator = torch.Generator().manual_seed(3)
    x, caption = (torch.randn(2, EMBEDDING, generator=generator) for _ in range(2))
    tokens = torch.randn(2, CONTEXT, 64, generator=generator)
    mask = torch.arange(CONTEXT) < torch.tensor([[5], [77]])
    t = torch.tensor([40.0, 900.0])
    frequencies = torch.exp(-math.log(10_000) * torch.arange(64) / 64)
    angles = t[:, None] * frequencies
    time = linear(
        F.silu(linear(torch.cat([angles.cos(), angles.sin()], dim=-1), "time_embed.0")), "time_embed.2"
    )
    rows = [
        linear(tokens, "text_enc_proj"),
        linear(caption, "text_emb_proj")[:, None],
        time[:, None],
        linear(x, "clip_img_proj")[:, None],
        w["prd_emb"].reshape(1, 1, -1).expand(2, -1, -1),
    ]
    h = torch.cat(rows, dim=1) + w["positional_embedding"]
    hidden = torch.full((81, 81), -math.inf).triu(1)
    hidden = hidden + torch.where(F.pad(mask, (0, 4), value=True), 0.0, -math.inf)[:, None, None, :]
    for number in range(2):
        block = f"transformer.resblocks.{number}"
        h = h + attention(norm(h, f"{block}.ln_1"), w, f"{block}.attn", 2, hidden)
        h = h + linear(F.gelu(linear(norm(h, f"{block}.ln_2"), f"{block}.mlp.c_fc")), f"{block}.mlp.c_proj")
    expected = linear(norm(h, "final_ln")[:, -1], "out_proj")
    found = prior(x, t, tokens=tokens, caption=caption, mask=mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prior.embeddings(found), found * w[karlo.DEVIATION] + w[karlo.MEAN])


def test_what_the_decoder_is_told_by_its_formula(decoder, monkeypatch):
    """Four tokens of z_i, whose numbers are the slower axis of the projection, before the words' rows."""
    w = give(karlo.decoder_places(decoder.config), decoder.state_dict())
    generator = torch.Generator().manual_seed(3)
    z, caption = (torch.randn(2, EMBEDDING, generator=generator) for _ in range(2))
    tokens = torch.randn(2, 3, 64, generator=generator)
    heard = {}

    def unet(x: Tensor, _t: Tensor, **told: Tensor) -> Tensor:
        heard.update(told)
        return x

    monkeypatch.setattr(decoder.unet, "forward", unet)
    decoder(
        torch.zeros(2, 3, 16, 16),
        torch.zeros(2),
        picture=decoder.told(z),
        keep_picture=torch.tensor([True, False]),
        caption=ClipTokens(tokens, caption, torch.tensor([[True, True, False], [True] * 3])),
    )
    z = torch.stack([z[0], w["cf_param"]])
    four = F.linear(z, w["clip_tok_proj.weight"], w["clip_tok_proj.bias"]).reshape(2, -1, 4).permute(0, 2, 1)
    rows = F.linear(tokens, w["text_seq_proj.0.weight"], w["text_seq_proj.0.bias"])
    rows = F.layer_norm(rows, (20,), w["text_seq_proj.1.weight"], w["text_seq_proj.1.bias"])
    torch.testing.assert_close(heard["context"], torch.cat([four, rows], dim=1))
    condition = F.linear(z, w["clip_emb.weight"], w["clip_emb.bias"])
    condition = condition + F.linear(caption, w["text_feat_proj.weight"], w["text_feat_proj.bias"])
    torch.testing.assert_close(heard["condition"], condition)
    assert heard["context_mask"].tolist() == [[True] * 6 + [False], [True] * 7]
