"""VQGAN by diffusers' `VQModel`, which is the same mathematics under other names.

Its random weights are renamed as taming-transformers saves them, with all that Lightning leaves beside, and
opened here: the same vectors, codes and pictures.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.formats import network, opened, self_check, usable
from limner.vqgan import Decoder, VqGan

# diffusers' names → taming's.
NAMES = (
    (r"^(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.", r"\1.LEVEL.\2."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
LEVELS, CODES = 3, 40


def theirs(name: str) -> str:
    for pattern, other in NAMES:
        name = re.sub(pattern, other, name)
    half, _, rest = name.partition(".LEVEL.")
    if not rest:
        return name
    # diffusers counts the way up in the order in which it is gone, taming from the finest level.
    number, _, inside = rest.partition(".")
    return f"{half}.down.{rest}" if half == "encoder" else f"{half}.up.{LEVELS - 1 - int(number)}.{inside}"


@pytest.fixture(scope="module")
def model() -> Any:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(32, 32, 64),
        layers_per_block=2,
        latent_channels=12,
        vq_embed_dim=10,
        num_vq_embeddings=CODES,
    )
    for name, parameter in model.named_parameters():
        parameter.data.normal_(0, 1 if "embedding" in name else 0.1)
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data.add_(1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def saved(model: Any, path: Path, **more: Tensor) -> dict[str, Tensor]:
    """As Lightning saves it, with a loss and an optimizer beside."""
    state = {theirs(name): tensor for name, tensor in model.state_dict().items()}
    # Linear layers there, 1×1 convolutions here.
    state = {
        name: tensor[..., None, None] if ".attn" in name and tensor.ndim == 2 else tensor
        for name, tensor in state.items()
    }
    state |= more
    loss = {
        "loss.perceptual_loss.lin0.weight": torch.ones(3),
        "loss.discriminator.main.0.bias": torch.ones(2),
    }
    optimizer = torch.optim.Adam([torch.zeros(3, requires_grad=True)]).state_dict()
    content = {"epoch": 7, "state_dict": state | loss, "optimizer_states": [optimizer], "lr_schedulers": []}
    torch.save(content, path)
    return state


def test_vectors_codes_and_pictures(model: Any, pictures: Tensor, tmp_path: Path) -> None:
    saved(model, tmp_path / "last.ckpt")
    found = usable(opened(tmp_path / "last.ckpt"))
    assert found.format == "taming VQGAN"
    assert self_check(found.parts[0]) == "a picture gives (3, 8, 8)"
    vqgan = network(found.parts[0])
    assert isinstance(vqgan, VqGan)
    vectors = model.encode(pictures).latents
    torch.testing.assert_close(vqgan.encoder(pictures).permute(0, 3, 1, 2), vectors, rtol=1e-4, atol=1e-5)
    ids = model.quantize(vectors)[2][2].reshape(2, 8, 6)
    assert len(ids.unique()) > 5
    assert torch.equal(vqgan.encode(pictures), ids)
    expected = model.decode(vectors).sample
    assert float((expected.abs() < 1).float().mean()) > 0.2
    torch.testing.assert_close(vqgan(pictures).pictures, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vqgan.reconstruct(pictures), expected.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_a_gumbel_quantizer_chooses_by_logits(model: Any, pictures: Tensor, tmp_path: Path) -> None:
    """A 1×1 convolution's argmax in place of the nearest; the codes are then looked up as before."""
    torch.manual_seed(2)
    proj = torch.nn.Conv2d(10, CODES, 1).requires_grad_(False)
    state = saved(model, tmp_path / "nearest.ckpt")
    codes = state.pop("quantize.embedding.weight")
    state |= {
        "quantize.proj.weight": proj.weight,
        "quantize.proj.bias": proj.bias,
        "quantize.embed.weight": codes,
    }
    torch.save({"state_dict": state}, tmp_path / "gumbel.ckpt")
    found = usable(opened(tmp_path / "gumbel.ckpt"))
    assert found.parts[0].config.choice == "gumbel"
    vqgan = network(found.parts[0])
    ids = proj(model.encode(pictures).latents).argmax(dim=1)
    assert len(ids.unique()) > 5
    assert torch.equal(vqgan.encode(pictures), ids)
    expected = model.decode(codes[ids].permute(0, 3, 1, 2), force_not_quantize=True).sample
    torch.testing.assert_close(vqgan.decode(ids), expected.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_the_half_that_paints_in_dalle_mini(model: Any, tmp_path: Path) -> None:
    """min-dalle keeps codes and decoder alone, whose pixels are from 0 to 1 as they come."""
    state = saved(model, tmp_path / "x")
    state["embedding.weight"] = state.pop("quantize.embedding.weight")
    half = {
        name: tensor for name, tensor in state.items() if not name.startswith(("encoder.", "quant_conv."))
    }
    torch.save(half, tmp_path / "detoker.pt")
    found = usable(opened(tmp_path / "detoker.pt"))
    assert found.format == "min-dalle detoker"
    assert self_check(found.parts[0]) == "a grid of codes gives (3, 8, 8)"
    decoder = network(found.parts[0])
    assert isinstance(decoder, Decoder)
    ids = torch.randint(CODES, (2, 3, 4))
    vectors = state["embedding.weight"][ids].permute(0, 3, 1, 2)
    expected = model.decode(vectors, force_not_quantize=True).sample.clip(0, 1)
    torch.testing.assert_close((decoder.decode(ids) + 1) / 2, expected, rtol=1e-4, atol=1e-5)
