"""DALLE-pytorch's files: names within wrappers of every version, sizes, what lies beside, what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limner import checkpoint
from limner.dalle_pytorch import (
    ConvolutionalVae,
    ConvolutionalVaeConfig,
    DallePytorch,
    DallePytorchConfig,
)
from limner.dvae import DVae, DVaeConfig
from limner.errors import LimnerError
from limner.formats import convert, dalle_pytorch, network, openai_dvae, opened, self_check, usable
from limner.formats.places import give

CONFIG = DallePytorchConfig(
    text_context=4,
    text_vocabulary=10,
    image_vocabulary=12,
    grid=4,
    width=16,
    hidden=20,
    heads=2,
    head_width=12,
    pattern=("dense", "row"),
    rotary=True,
    shifted=True,
    sandwich=False,
    divided=False,
    reversible=False,
)
OTHER = replace(
    CONFIG,
    pattern=("window", "column"),
    rotary=False,
    shifted=False,
    sandwich=True,
    divided=True,
    reversible=True,
)
VAE = ConvolutionalVaeConfig(resolution=16, vocabulary=12, codebook=5, hidden=6, halvings=2, blocks=1)
TYPES = {"dense": "full", "row": "axial_row", "column": "axial_col", "window": "conv_like"}
TYPES["centred"] = "conv_like"


def kept(config: DallePytorchConfig, wrappers: int) -> tuple[DallePytorch, dict[str, Tensor]]:
    """A model of random weights, and its state dict with parts within so many wrappers."""
    torch.manual_seed(0)
    model = DallePytorch(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    found: dict[str, Tensor] = {}
    for name, tensor in give(dalle_pytorch.places(config), model.state_dict()).items():
        number, _, inside = name.partition(".")
        if not number.isdigit():
            found[name] = tensor
            continue
        kind, _, end = inside.partition(".")
        side = {False: ("0", "1"), True: ("f.net", "g.net")}[config.reversible][kind == "unit"]
        stack = "blocks" if config.reversible else "layers"
        around = "" if end == "scale" else "fn." if end.startswith("norm") else "fn." * wrappers
        # A unit is never wrapped for a cache of its own where an attention is.
        if kind == "unit" and end.startswith("net") and wrappers in (3, 5):
            around = "fn." * (wrappers - 1)
        found[f"transformer.layers.{stack}.{number}.{side}.{around}{end}"] = tensor
    return model, found


def hparams(config: DallePytorchConfig, **more: Any) -> dict[str, Any]:
    return {
        "num_text_tokens": config.text_vocabulary,
        "text_seq_len": config.text_context,
        "dim": config.width,
        "depth": len(config.pattern),
        "heads": config.heads,
        "dim_head": config.head_width,
        "attn_types": tuple(TYPES[kind] for kind in config.pattern),
        "stable": config.divided,
        **more,
    }


def same(one: DallePytorch, other: nn.Module) -> None:
    text, image = torch.tensor([[3, 5, 0, 0]]), torch.arange(9)[None]
    for found, wanted in zip(other(text, image), one(text, image), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("config", "wrappers"), [(CONFIG, 5), (CONFIG, 4), (OTHER, 3), (OTHER, 2)], ids=str)
def test_a_transformer_with_its_autoencoder(tmp_path, config, wrappers):
    """Four or five wrappers around shifted rows, two or three around others."""
    model, state = kept(config, wrappers)
    vae = ConvolutionalVae(VAE).eval()
    for name, tensor in give(dalle_pytorch.vae_places(VAE), vae.state_dict()).items():
        state[f"vae.{name}"] = tensor
    told = {"image_size": 16, "num_layers": 2, "num_tokens": 12}
    file = {"hparams": hparams(config), "vae_params": told, "weights": state, "version": "1.6.6"}
    torch.save(file | {"opt_state": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, tmp_path / "x.pt")
    found = usable(opened(tmp_path / "x.pt"))
    assert (found.format, found.assumed) == ("DALLE-pytorch, version 1.6.6", ())
    assert [part.config for part in found.parts] == [config, VAE]
    assert [self_check(part) for part in found.parts] == [
        "a caption gives (4, 12)",
        "a picture gives (3, 8, 8)",
    ]
    same(model, network(found.parts[0]))
    pictures = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(found.parts[1]).logits(pictures), vae.logits(pictures))
    folders = convert(found, tmp_path / "ours")
    assert checkpoint.load(folders[0], DallePytorchConfig)[0] == config
    assert checkpoint.load(folders[1], ConvolutionalVaeConfig)[0] == VAE


@pytest.mark.parametrize("blocks", [0, 2])
def test_an_autoencoder_alone(tmp_path, blocks):
    config = replace(VAE, blocks=blocks)
    vae = ConvolutionalVae(config)
    weights = give(dalle_pytorch.vae_places(config), vae.state_dict())
    torch.save({"hparams": {"image_size": 16}, "weights": weights}, tmp_path / "vae.pt")
    found = usable(opened(tmp_path / "vae.pt"))
    assert found.format == "DALLE-pytorch autoencoder"
    assert found.parts[0].config == config


def test_openais_autoencoder_within_is_opened_and_tamings_is_told_of(tmp_path):
    model, state = kept(CONFIG, 5)
    sizes = DVaeConfig(
        resolution=256,
        vocabulary=12,
        codebook=4,
        widths=(4, 4, 8, 8),
        blocks=2,
        poolings=3,
        stem=7,
        gain=1 / 64,
        patch=1,
    )
    dvae = DVae(sizes)
    inside = {}
    for name, tensor in give(openai_dvae.places(sizes), dvae.state_dict()).items():
        half, _, end = name.partition(":")
        inside[f"vae.{half[:3]}.{end}"] = tensor
    torch.save({"hparams": hparams(CONFIG), "weights": state | inside}, tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert [part.config for part in found.parts] == [CONFIG, sizes]
    other = {"vae.model.encoder.conv_in.weight": torch.zeros(2, 3, 3, 3)}
    file = {"hparams": hparams(CONFIG), "weights": state | other, "vae_class_name": "VQGanVAE"}
    torch.save(file, tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert found.assumed == ("its autoencoder, VQGanVAE with 1 tensors, is left out",)
    same(model, network(found.parts[0]))


@pytest.mark.parametrize(("version", "kind"), [("1.5.0", "window"), ("1.4.2", "centred"), (None, "centred")])
def test_where_a_window_lies_its_version_says(tmp_path, version, kind):
    config = replace(CONFIG, pattern=("dense", kind))
    model, state = kept(config, 5)
    file = {"hparams": hparams(config), "weights": state} | ({"version": version} if version else {})
    torch.save(file, tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert ("windows around each position, as before 1.5" in str(found.assumed)) == (version is None)
    same(model, network(found.parts[0]))


def test_older_names_of_places(tmp_path):
    model, state = kept(replace(OTHER, pattern=("centred", "column")), 2)
    older = {name.replace("weights.", "weights_"): tensor for name, tensor in state.items()}
    older["logits_mask"] = torch.ones(1, 20, 26, dtype=torch.bool)
    torch.save({"hparams": hparams(OTHER), "weights": older}, tmp_path / "x")
    same(model, network(usable(opened(tmp_path / "x")).parts[0]))


def test_one_table_for_ids_and_logits(tmp_path):
    model, state = kept(CONFIG, 5)
    table = torch.cat([state.pop("text_emb.weight"), state.pop("image_emb.weight")])
    for kind in ("text", "image"):
        state[f"{kind}_emb.linear.weight"] = table
        state[f"{kind}_emb.linear.bias"] = state["to_logits.1.bias"]
    state["to_logits.1.weight"] = table
    torch.save({"hparams": hparams(CONFIG), "weights": state}, tmp_path / "x")
    model.head.weight.copy_(table)
    same(model, network(usable(opened(tmp_path / "x")).parts[0]))
    state["image_emb.linear.weight"] = table + 1
    torch.save({"hparams": hparams(CONFIG), "weights": state}, tmp_path / "x")
    with pytest.raises(LimnerError, match="its image's table is not that of its logits"):
        opened(tmp_path / "x")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"attn_types": ("full", "sparse")}, "layers of sparse attention, which limner does not compute"),
        ({"attn_types": "mlp"}, "layers of mlp attention"),
        ({"dim_head": 7}, "its attention is 24 wide, and its heads would be 7"),
        ({"num_text_tokens": 14}, "14 words and their paddings it has 14 text ids"),
        ({"text_seq_len": 3}, "10 words and their paddings it has 14 text ids, and 17 image positions"),
    ],
)
def test_what_cannot_be_computed_is_refused(tmp_path, told, says):
    _, state = kept(CONFIG, 5)
    torch.save({"hparams": hparams(CONFIG, **told), "weights": state}, tmp_path / "x")
    with pytest.raises(LimnerError, match=says):
        opened(tmp_path / "x")


def test_what_a_version_adds_is_left_over(tmp_path):
    _, state = kept(CONFIG, 5)
    state["transformer.layers.layers.0.0.fn.fn.fn.fn.fn.to_gate.weight"] = torch.ones(2, 2)
    torch.save({"hparams": hparams(CONFIG), "weights": state}, tmp_path / "x")
    with pytest.raises(LimnerError, match=r"left over: 0\.attention\.to_gate\.weight"):
        usable(opened(tmp_path / "x"))
    del state["transformer.layers.layers.0.0.fn.fn.fn.fn.fn.to_gate.weight"]
    del state["transformer.layers.layers.1.1.scale"]
    torch.save({"hparams": hparams(CONFIG), "weights": state}, tmp_path / "x")
    with pytest.raises(LimnerError, match=r"missing: 1\.unit\.scale"):
        usable(opened(tmp_path / "x"))
