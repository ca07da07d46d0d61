"""DALLE2-pytorch's prior: the trainer's file, older names and versions, and what decides between them."""

import json
from dataclasses import replace

import pytest
import torch
from packaging.version import parse
from torch import Tensor, nn

from limner import checkpoint
from limner.cli import main
from limner.dalle2.prior_relative import RelativePrior, RelativePriorConfig
from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats import convert, dalle2_pytorch, network, opened, self_check, usable
from limner.formats.places import give

CONFIG = RelativePriorConfig(
    embedding=8,
    context=5,
    layers=2,
    heads=2,
    head_width=4,
    hidden=12,
    text_rows=1,
    time_rows=1,
    picture_rows=1,
    times=30,
    self_conditioning=False,
    cosine=True,
    guided=True,
    norm_in=False,
    norm_out=True,
    norm_hidden=False,
    project=True,
    rotary=True,
    scale=8**0.5,
    diffusion=DiffusionSpec(schedule="cosine", steps=30, prediction="x0", learned_variance=False),
)
FULL = replace(CONFIG, text_rows=2, time_rows=3, picture_rows=2, times=None, norm_in=True, norm_hidden=True)
BARE = replace(CONFIG, norm_out=False, project=False, rotary=False)


def kept(config: RelativePriorConfig) -> tuple[RelativePrior, dict[str, Tensor]]:
    """A prior of random weights, and its state dict by their names."""
    torch.manual_seed(0)
    prior = RelativePrior(config).eval().requires_grad_(False)
    for name, parameter in prior.named_parameters():
        if name != "frequencies":
            nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    state = give(dalle2_pytorch.places(config), prior.state_dict())
    found = {f"net.{name}": tensor for name, tensor in state.items()}
    if config.rotary:
        first = "net.causal_transformer.layers.0.0.rotary_emb.freqs"
        found["net.causal_transformer.layers.1.0.rotary_emb.freqs"] = found[first].clone()
    levels = config.diffusion.levels()
    found["noise_scheduler.alphas_cumprod"] = levels.alpha_bar.float()
    found["noise_scheduler.betas"] = levels.betas.float()
    return prior, found


def same(one: RelativePrior, other: nn.Module) -> None:
    torch.manual_seed(1)
    d = one.config.embedding
    given = {
        "x": torch.randn(2, d),
        "t": torch.tensor([3.0, 20.0]),
        "tokens": torch.randn(2, 4, d),
        "caption": torch.randn(2, d),
        "mask": torch.tensor([[True, True, False, False], [True] * 4]),
    }
    torch.testing.assert_close(one(**given), other(**given))


@pytest.mark.parametrize("config", [CONFIG, FULL, BARE], ids=["plain", "full", "bare"])
def test_the_trainers_file(tmp_path, config):
    prior, state = kept(config)
    optimizer = torch.optim.AdamW([torch.zeros(3, requires_grad=True)]).state_dict()
    told = {"prior": {"net": {"dim": 8, "self_cond": False}, "timesteps": 30}, "train": {"lr": 1e-4}}
    file = {"model": state, "optimizer": optimizer, "version": parse("1.15.6"), "config": told}
    torch.save(file | {"step": torch.tensor(7)}, tmp_path / "x.pth")
    found = usable(opened(tmp_path / "x.pth"))
    assert found.format == "DALLE2-pytorch prior, version 1.15.6"
    assert found.assumed == ("the network of a training; what it kept for going on is left out",)
    assert found.parts[0].config == config
    assert self_check(found.parts[0]) == "a caption gives (8,)"
    same(prior, network(found.parts[0]))
    (ours,) = convert(found, tmp_path / "ours")
    assert checkpoint.load(ours, RelativePriorConfig)[0] == config


def test_the_averaged_network_comes_first(tmp_path):
    prior, state = kept(CONFIG)
    torch.save({"model": {n: 2 * t for n, t in state.items()}, "ema_model": state}, tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert "the averaged network of a training" in found.assumed[0]
    same(prior, network(found.parts[0]))


@pytest.mark.parametrize(
    ("version", "cosine"), [("0.23.10", False), ("1.4.2", False), ("1.4.3", True), ("1.8.0", True)]
)
def test_before_1_9_the_version_says_what_attention_computes(tmp_path, version, cosine):
    """The names are the same on both sides of 1.4.3."""
    config = replace(CONFIG, guided=False, cosine=cosine)
    prior, state = kept(config)
    state["net.null_text_embed"] = state.pop("net.null_text_encodings")
    torch.save({"model": state, "version": parse(version)}, tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert found.parts[0].config == config
    same(prior, network(found.parts[0]))
    torch.save(state, tmp_path / "x")
    assert any("attention of before 1.4.3, for no version" in one for one in opened(tmp_path / "x").assumed)


def test_older_names_of_norms(tmp_path):
    prior, state = kept(CONFIG)
    older = {}
    for name, tensor in state.items():
        older[f"{name.removesuffix('.g')}.gamma" if name.endswith(".g") else name] = tensor
        if name.endswith(".g"):
            older[f"{name.removesuffix('.g')}.beta"] = torch.zeros_like(tensor)
    torch.save(older, tmp_path / "x")
    same(prior, network(usable(opened(tmp_path / "x")).parts[0]))
    older["net.causal_transformer.norm.beta"] += 1
    torch.save(older, tmp_path / "x")
    with pytest.raises(LimnerError, match=r"norm\.beta' shifts a norm, which none of theirs does"):
        opened(tmp_path / "x")


@pytest.mark.parametrize("beside", [True, False])
def test_what_it_predicts_is_in_its_configuration(tmp_path, beside):
    """In the file, or in prior_config.json; with neither it is assumed."""
    _, state = kept(replace(CONFIG, diffusion=replace(CONFIG.diffusion, schedule="linear")))
    told = {"prior": {"predict_x_start": False, "image_embed_scale": 3.0, "net": {"self_cond": True}}}
    torch.save({"model": state} | ({} if beside else {"config": told}), tmp_path / "x.pth")
    if beside:
        (tmp_path / "prior_config.json").write_text(json.dumps(told))
    config = usable(opened(tmp_path / "x.pth")).parts[0].config
    assert (config.diffusion.prediction, config.diffusion.schedule) == ("eps", "linear")
    assert (config.scale, config.self_conditioning) == (3.0, True)
    told["prior"]["predict_v"] = True
    torch.save({"model": state, "config": told}, tmp_path / "x.pth")
    assert opened(tmp_path / "x.pth").parts[0].config.diffusion.prediction == "v"
    (tmp_path / "prior_config.json").unlink(missing_ok=True)
    torch.save(state, tmp_path / "x.pth")
    assert "the clean embedding is predicted" in opened(tmp_path / "x.pth").assumed[0]


def test_a_clip_beside_it_is_left_out_and_said(tmp_path):
    _, state = kept(CONFIG)
    torch.save(state | {"clip.clip.logit_scale": torch.zeros(())}, tmp_path / "x")
    assert "a CLIP of 1 tensors that lies beside it is left out" in usable(opened(tmp_path / "x")).assumed


def test_what_is_none_of_theirs_is_refused(tmp_path):
    _, state = kept(CONFIG)
    levels = "noise_scheduler.alphas_cumprod"
    torch.save(state | {levels: torch.linspace(0.9, 0.1, 30)}, tmp_path / "x")
    with pytest.raises(LimnerError, match="its 30 noise levels are neither cosine nor linear"):
        opened(tmp_path / "x")
    torch.save({name: tensor for name, tensor in state.items() if name != levels}, tmp_path / "x")
    with pytest.raises(LimnerError, match=r"lacks the tensor 'noise_scheduler\.alphas_cumprod'"):
        opened(tmp_path / "x")
    other = "net.causal_transformer.layers.1.0.rotary_emb.freqs"
    torch.save(state | {other: state[other] + 1}, tmp_path / "x")
    with pytest.raises(LimnerError, match="turns its layer by other frequencies than the first's"):
        opened(tmp_path / "x")
    torch.save(state | {"net.causal_transformer.layers.0.0.to_gates.weight": torch.ones(2)}, tmp_path / "x")
    with pytest.raises(LimnerError, match=r"left over: causal_transformer\.layers\.0\.0\.to_gates"):
        usable(opened(tmp_path / "x"))
    older = {name: t for name, t in state.items() if not name.startswith("net.null_")}
    torch.save(older, tmp_path / "x")
    with pytest.raises(LimnerError, match="null_text_encodings"):
        opened(tmp_path / "x")


def test_its_decoder_is_told_of_and_of_no_use_here(tmp_path, capsys):
    """Of each U-Net what its shapes and the configuration say; then that nothing here computes it."""
    state = {
        "unets.0.to_time_hiddens.1.weight": torch.zeros(64, 16),
        "unets.0.init_conv.convs.0.weight": torch.zeros(8, 3, 3, 3),
        "unets.0.text_to_cond.weight": torch.zeros(16, 24),
        "unets.0.downs.0.1.time_mlp.1.weight": torch.zeros(32, 64),
        "unets.0.downs.1.1.time_mlp.1.weight": torch.zeros(32, 64),
        "unets.1.to_time_hiddens.1.weight": torch.zeros(32, 8),
        "unets.1.init_conv.convs.0.weight": torch.zeros(4, 6, 3, 3),
        "noise_schedulers.0.betas": torch.zeros(10),
    }
    told = {"decoder": {"image_sizes": [64, 256], "unets": [{"dim": 16}]}}
    path = tmp_path / "decoder.pth"
    torch.save({"model": state, "version": "1.15.6", "config": told}, path)
    found = opened(path)
    assert (found.format, found.parts) == ("DALLE2-pytorch decoder, version 1.15.6", ())
    first = "U-Net 0 (5,720 numbers, 16 channels at first, 2 levels, 64 pixels wide, "
    first += "told of the caption's tokens)"
    second = "U-Net 1 (472 numbers, 8 channels at first, 0 levels, 256 pixels wide, enlarges)"
    why = "is of a make that limner does not compute"
    assert found.beyond == (f"{first} {why}", f"{second} {why}")
    with pytest.raises(LimnerError, match=r"cannot be used: U-Net 0 .* does not compute; U-Net 1"):
        convert(found, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main(["open", str(path), "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["beyond"] == list(found.beyond)
    assert said.err.startswith(f"limner: {path} cannot be used: U-Net 0")
    assert main(["open", str(path)]) == 2
    assert "U-Net 1 (472 numbers" in capsys.readouterr().out
