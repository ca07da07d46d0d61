"""ADM's U-Net by diffusers' `UNet2DModel`, the same mathematics under other names; its classifier by formula.

Random weights are renamed as guided-diffusion saves them, and opened here: the same noise. Of the classifier
there is no other class that installs; it is written out below from the reference's layout, in plain torch.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.adm import Adm, ClassifierConfig, NoisedClassifier
from limner.formats import Assumptions, guided_diffusion, network, opened, self_check, usable
from limner.formats.places import give
from limner.layers.unet import UNetConfig

# diffusers hands torch tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DEPTH, WIDTHS, HEAD = 2, (32, 64, 128), 32
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.1)
        if "norm" in name and name.endswith("weight"):
            parameter.data.add_(1)
    return model.eval().requires_grad_(False)


def unet(*, channels: int) -> Any:
    diffusers = pytest.importorskip("diffusers")
    return randomised(
        diffusers.UNet2DModel(
            in_channels=channels,
            out_channels=6,
            block_out_channels=WIDTHS,
            layers_per_block=DEPTH,
            down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            downsample_type="resnet",
            upsample_type="resnet",
            attention_head_dim=HEAD,
            attn_norm_num_groups=32,
            resnet_time_scale_shift="scale_shift",
            flip_sin_to_cos=True,
            freq_shift=0,
            num_class_embeds=7,
        )
    )


def saved(model: Any, path: Path, *, by_head: bool) -> None:
    """Under guided-diffusion's names, queries, keys and values by head or by kind."""
    found: dict[str, Tensor] = {"label_emb.weight": model.class_embedding.weight}

    def put(module: nn.Module, name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = module.weight, module.bias

    def residual(block: nn.Module, name: str) -> None:
        for theirs, guided in RESIDUAL.items():
            if getattr(block, theirs) is not None:
                put(getattr(block, theirs), f"{name}.{guided}")

    def attention(block: nn.Module, name: str) -> None:
        put(block.group_norm, f"{name}.norm")
        put(block.to_out[0], f"{name}.proj_out")
        found[f"{name}.proj_out.weight"] = block.to_out[0].weight[..., None]
        for end in ("weight", "bias"):
            kinds = torch.stack([getattr(one, end) for one in (block.to_q, block.to_k, block.to_v)])
            heads = kinds.unflatten(1, (-1, HEAD))  # (3, heads, d, …)
            packed = (heads.transpose(0, 1) if by_head else heads).flatten(0, 2)
            found[f"{name}.qkv.{end}"] = packed[..., None] if end == "weight" else packed

    put(model.time_embedding.linear_1, "time_embed.0")
    put(model.time_embedding.linear_2, "time_embed.2")
    put(model.conv_in, "input_blocks.0.0")
    put(model.conv_norm_out, "out.0")
    put(model.conv_out, "out.2")
    number = 0
    for block in model.down_blocks:
        for i, one in enumerate(block.resnets):
            number += 1
            residual(one, f"input_blocks.{number}.0")
            if hasattr(block, "attentions"):
                attention(block.attentions[i], f"input_blocks.{number}.1")
        for one in block.downsamplers or []:
            number += 1
            residual(one, f"input_blocks.{number}.0")
    residual(model.mid_block.resnets[0], "middle_block.0")
    attention(model.mid_block.attentions[0], "middle_block.1")
    residual(model.mid_block.resnets[1], "middle_block.2")
    number = 0
    for block in model.up_blocks:
        for i, one in enumerate(block.resnets):
            residual(one, f"output_blocks.{number}.0")
            if hasattr(block, "attentions"):
                attention(block.attentions[i], f"output_blocks.{number}.1")
            number += 1
        for one in block.upsamplers or []:
            residual(one, f"output_blocks.{number - 1}.{2 if hasattr(block, 'attentions') else 1}")
    save_file({name: tensor.contiguous().clone() for name, tensor in found.items()}, path)


@pytest.mark.parametrize("by_head", [True, False])
@pytest.mark.parametrize("enlarges", [False, True])
def test_the_same_noise(tmp_path: Path, by_head: bool, enlarges: bool) -> None:
    model = unet(channels=6 if enlarges else 3)
    saved(model, tmp_path / "x", by_head=by_head)
    found = usable(opened(tmp_path / "x", Assumptions(head_width=HEAD, by_head=by_head)))
    assert found.format == f"guided-diffusion {'upsampler' if enlarges else 'adm'}"
    assert self_check(found.parts[0]) == "noise gives (6, 8, 8)"
    adm = network(found.parts[0])
    assert isinstance(adm, Adm)
    x, t, label = torch.randn(2, 3, 16, 24), torch.tensor([3.0, 812.0]), torch.tensor([6, 0])
    low = torch.randn(2, 3, 4, 6) if enlarges else None
    pair = x if low is None else torch.cat([x, F.interpolate(low, (16, 24), mode="bilinear")], dim=1)
    expected = model(pair, t, class_labels=label).sample
    torch.testing.assert_close(adm(x, t, label=label, low=low), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(adm(x, t, label=label.flip(0), low=low), expected, atol=1e-2)


def test_the_number_of_heads_may_be_told_instead(tmp_path: Path) -> None:
    """Four heads of 32 at the widest level, two at the other: four everywhere is another network."""
    saved(unet(channels=3), tmp_path / "x", by_head=True)
    x, t, label = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 812.0]), torch.tensor([6, 0])

    def noise(told: Assumptions) -> Tensor:
        return network(opened(tmp_path / "x", told).parts[0])(x, t, label=label)

    assert not torch.allclose(noise(Assumptions(heads=4)), noise(Assumptions(head_width=HEAD)), atol=1e-3)


# --- the classifier --------------------------------------------------------------------------------


class Formula:
    """guided-diffusion's classifier from its state dict, blocks by their numbers."""

    def __init__(self, state: dict[str, Tensor], heads: int) -> None:
        self.state, self.heads = state, heads

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        width = self.state["time_embed.0.weight"].shape[1]
        half = width // 2
        angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        emb = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
        emb = self.linear(F.silu(self.linear(emb, "time_embed.0")), "time_embed.2")
        h = self.conv(x, "input_blocks.0.0")
        for number, halves in ((1, False), (2, True), (3, False)):
            h = self.residual(h, emb, f"input_blocks.{number}.0", halves)
            if f"input_blocks.{number}.1.norm.weight" in self.state:
                h = self.attention(h, f"input_blocks.{number}.1")
        h = self.residual(h, emb, "middle_block.0", False)
        h = self.attention(h, "middle_block.1")
        h = self.residual(h, emb, "middle_block.2", False)
        return self.pool(F.silu(self.norm(h, "out.0")))

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, *self.of(name))

    def conv(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.of(name)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.group_norm(x, 32, *self.of(name))

    def residual(self, x: Tensor, emb: Tensor, name: str, halves: bool) -> Tensor:
        h = F.silu(self.norm(x, f"{name}.in_layers.0"))
        if halves:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = self.conv(h, f"{name}.in_layers.2")
        scale, shift = self.linear(F.silu(emb), f"{name}.emb_layers.1")[..., None, None].chunk(2, dim=1)
        h = F.silu(self.norm(h, f"{name}.out_layers.0") * (1 + scale) + shift)
        h = self.conv(h, f"{name}.out_layers.3")
        skip = f"{name}.skip_connection"
        return (self.conv(x, skip) if f"{skip}.weight" in self.state else x) + h

    def attention(self, x: Tensor, name: str) -> Tensor:
        rows = self.norm(x, f"{name}.norm").flatten(2)
        qkv = F.conv1d(rows, *self.of(f"{name}.qkv"))
        q, k, v = rearrange(qkv, "b (h three d) n -> three b h d n", three=3, h=self.heads)
        return x + F.conv1d(self.mixed(q, k, v), *self.of(f"{name}.proj_out")).view_as(x)

    def pool(self, x: Tensor) -> Tensor:
        rows = x.flatten(2)
        rows = torch.cat([rows.mean(dim=2, keepdim=True), rows], dim=2)
        qkv = F.conv1d(rows + self.state["out.2.positional_embedding"], *self.of("out.2.qkv_proj"))
        q, k, v = rearrange(qkv, "b (three h d) n -> three b h d n", three=3, h=self.heads)
        return F.conv1d(self.mixed(q, k, v), *self.of("out.2.c_proj"))[:, :, 0]

    @staticmethod
    def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (torch.einsum("bhdi,bhdj->bhij", q, k) / math.sqrt(q.shape[2])).softmax(dim=-1)
        return torch.einsum("bhij,bhdj->bhdi", weights, v).flatten(1, 2)


def test_the_classifier_by_formula(tmp_path: Path) -> None:
    backbone = UNetConfig(
        in_channels=3,
        out_channels=5,
        channels=64,
        depth=1,
        multipliers=(1, 2),
        attention=(2,),
        head_width=64,
        context_width=None,
        scale_shift=True,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    config = ClassifierConfig(resolution=8, unet=backbone)
    model = randomised(NoisedClassifier(config))
    state = give(guided_diffusion.classifier_places(config), model.state_dict())
    assert state["out.2.positional_embedding"].shape == (128, 17)
    # Theirs are convolutions of width one.
    ones = ("qkv.weight", "proj_out.weight", "qkv_proj.weight", "c_proj.weight")
    state = {name: tensor[..., None] if name.endswith(ones) else tensor for name, tensor in state.items()}
    save_file(state, tmp_path / "x")
    found = usable(opened(tmp_path / "x"))
    assert found.format == "guided-diffusion classifier"
    assert found.parts[0].config == config
    assert self_check(found.parts[0]) == "a picture gives (5,)"
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([0.0, 500.0, 999.0])
    expected = Formula(state, heads=2)(x, t)
    torch.testing.assert_close(network(found.parts[0])(x, t), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="16×8 pixels, but this classifier takes 8×8"):
        model(torch.zeros(1, 3, 16, 8), torch.zeros(1))
