"""The same outputs as diffusers' port of Karlo, an unCLIP, from the same random weights."""

import pytest
import torch
from torch import Tensor, nn

from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.diffusion.spec import DiffusionSpec
from limner.layers.unet import AttentionBlock, Level, ResidualBlock, UNet, UNetConfig

diffusers = pytest.importorskip("diffusers")

# diffusers hands torch tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Pairs = list[tuple[Tensor, Tensor]]


def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15, generator=generator)
    return model.eval().requires_grad_(False)


def copy(pairs: Pairs, other: nn.Module) -> None:
    """(theirs, ours); every parameter of theirs must be given."""
    given = set()
    for theirs, ours in pairs:
        given.add(theirs.data_ptr())
        with torch.no_grad():
            theirs.copy_(ours.reshape(theirs.shape))
    missing = [name for name, p in other.named_parameters() if p.data_ptr() not in given]
    assert missing == []


def both(theirs: nn.Module, ours: nn.Module) -> Pairs:
    """Weight and bias of a norm, a linear layer or a convolution."""
    return [(theirs.weight, ours.weight), (theirs.bias, ours.bias)]


def split(theirs: list[nn.Module], ours: nn.Linear) -> Pairs:
    """Projections that we keep fused."""
    weights, biases = ours.weight.chunk(len(theirs)), ours.bias.chunk(len(theirs))
    return [
        pair for t, w, b in zip(theirs, weights, biases, strict=True) for pair in ((t.weight, w), (t.bias, b))
    ]


def of_residual(theirs: nn.Module, ours: ResidualBlock) -> Pairs:
    pairs = [
        *both(theirs.norm1, ours.norm_in),
        *both(theirs.conv1, ours.conv_in),
        *both(theirs.time_emb_proj, ours.embed),
        *both(theirs.norm2, ours.norm_out),
        *both(theirs.conv2, ours.conv_out),
    ]
    return pairs if theirs.conv_shortcut is None else pairs + both(theirs.conv_shortcut, ours.skip)


def of_attention(theirs: nn.Module, ours: AttentionBlock) -> Pairs:
    return [
        *both(theirs.group_norm, ours.norm),
        *split([theirs.to_q, theirs.to_k, theirs.to_v], ours.qkv),
        *split([theirs.add_k_proj, theirs.add_v_proj], ours.context_kv),
        *both(theirs.to_out[0], ours.out),
    ]


def in_order(blocks: nn.ModuleList) -> tuple[list[nn.Module], list[nn.Module]]:
    """Residual and attention blocks of one way, as they are passed; resampling ones where they stand."""
    residual: list[nn.Module] = []
    attention: list[nn.Module] = []
    for block in blocks:
        residual += block.resnets
        attention += getattr(block, "attentions", [])
        residual += getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or []
    return residual, attention


def ours_in_order(steps: nn.ModuleList) -> tuple[list[ResidualBlock], list[AttentionBlock]]:
    residual: list[ResidualBlock] = []
    attention: list[AttentionBlock] = []
    for step in steps:
        if not isinstance(step, Level):
            residual.append(step)
            continue
        residual.append(step.block)
        attention += [step.attention] if step.attention is not None else []
        residual += [step.resample] if step.resample is not None else []
    return residual, attention


@pytest.mark.parametrize("scale_shift", [True, False])
@torch.no_grad()
def test_unet(scale_shift: bool) -> None:
    config = UNetConfig(
        in_channels=3,
        out_channels=6,
        channels=32,
        depth=2,
        multipliers=(1, 2, 3),
        attention=(2, 4),
        head_width=16,
        context_width=12,
        scale_shift=scale_shift,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    net = randomised(UNet(config))
    other = diffusers.UNet2DConditionModel(
        in_channels=3,
        out_channels=6,
        block_out_channels=(32, 64, 96),
        layers_per_block=2,
        down_block_types=(
            "ResnetDownsampleBlock2D",
            "SimpleCrossAttnDownBlock2D",
            "SimpleCrossAttnDownBlock2D",
        ),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
        class_embed_type="identity",
        cross_attention_dim=12,
        attention_head_dim=16,
        flip_sin_to_cos=True,
        freq_shift=0,
    ).eval()
    middle = other.mid_block
    pairs = [
        *both(other.conv_in, net.stem),
        *both(other.time_embedding.linear_1, net.time.net[0]),
        *both(other.time_embedding.linear_2, net.time.net[2]),
        *of_residual(middle.resnets[0], net.middle_in),
        *of_attention(middle.attentions[0], net.middle_attention),
        *of_residual(middle.resnets[1], net.middle_out),
        *both(other.conv_norm_out, net.norm),
        *both(other.conv_out, net.head),
    ]
    for theirs, ours in ((other.down_blocks, net.down), (other.up_blocks, net.up)):
        their_residual, their_attention = in_order(theirs)
        our_residual, our_attention = ours_in_order(ours)
        for one, two in zip(their_residual, our_residual, strict=True):
            pairs += of_residual(one, two)
        for one, two in zip(their_attention, our_attention, strict=True):
            pairs += of_attention(one, two)
    copy(pairs, other)

    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor([3.0, 950.0])
    condition = torch.randn(2, config.embedding_width, generator=generator)
    context = torch.randn(2, 7, 12, generator=generator)
    mask = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])
    for hidden in (None, mask):
        theirs = other(x, t, context, class_labels=condition, attention_mask=hidden).sample
        ours = net(x, t, condition=condition, context=context, context_mask=hidden)
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4 * float(theirs.std()))


@torch.no_grad()
def test_prior() -> None:
    config = PriorConfig(
        embedding=10,
        text_width=10,
        context=6,
        width=24,
        layers=2,
        heads=3,
        scale=1.0,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
    )
    prior = randomised(Prior(config))
    other = diffusers.PriorTransformer(
        num_attention_heads=3, attention_head_dim=8, num_layers=2, embedding_dim=10, num_embeddings=6
    ).eval()
    pairs = [
        *both(other.time_embedding.linear_1, prior.time.net[0]),
        *both(other.time_embedding.linear_2, prior.time.net[2]),
        *both(other.proj_in, prior.from_picture),
        *both(other.embedding_proj, prior.from_caption),
        *both(other.encoder_hidden_states_proj, prior.from_tokens),
        (other.positional_embedding, prior.positions),
        (other.prd_embedding, prior.query),
        *both(other.norm_out, prior.norm),
        *both(other.proj_to_clip_embeddings, prior.to_picture),
    ]
    for theirs, ours in zip(other.transformer_blocks, prior.transformer.blocks, strict=True):
        pairs += both(theirs.norm1, ours.norm_attention) + both(theirs.norm3, ours.norm_mlp)
        pairs += split([theirs.attn1.to_q, theirs.attn1.to_k, theirs.attn1.to_v], ours.attention.qkv)
        pairs += both(theirs.attn1.to_out[0], ours.attention.out)
        pairs += both(theirs.ff.net[0].proj, ours.widen) + both(theirs.ff.net[2], ours.narrow)
    # The statistics by which Karlo un-whitens samples are no part of its forward pass.
    statistics = [(p, p.clone()) for p in (other.clip_mean, other.clip_std)]
    copy(pairs + statistics, other)

    generator = torch.Generator().manual_seed(1)
    x, caption = (torch.randn(2, 10, generator=generator) for _ in range(2))
    tokens, t = torch.randn(2, 6, 10, generator=generator), torch.tensor([40.0, 800.0])
    mask = torch.tensor([[True] * 3 + [False] * 3, [True] * 6])
    theirs = other(x, t, caption, tokens, mask).predicted_image_embedding
    ours = prior(x, t, tokens=tokens, caption=caption, mask=mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
