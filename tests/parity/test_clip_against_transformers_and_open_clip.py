"""The same embeddings as two other implementations, from the same random weights."""

from functools import partial
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig

CONFIG = ClipConfig(
    vision=VisionConfig(resolution=24, patch=8, width=32, layers=3, heads=4),
    text=TextConfig(context=12, vocabulary=50, width=48, layers=2, heads=3),
    embedding=20,
    activation="quick_gelu",
)
END = CONFIG.text.vocabulary - 1


@pytest.fixture(scope="module")
def clip() -> Clip:
    generator = torch.Generator().manual_seed(0)
    model = Clip(CONFIG).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def ids() -> Tensor:
    rows = torch.zeros(3, 12, dtype=torch.int64)
    for row, words in zip(rows, ([5, 7, 3], [], [9] * 10), strict=True):
        row[: len(words) + 2] = torch.tensor([END - 1, *words, END])
    return rows


def normalised(clip: Clip, pictures: Tensor) -> Tensor:
    """As others are fed: the published statistics taken off beforehand."""
    return ((pictures + 1) / 2 - clip.vision.mean) / clip.vision.std


def copy(pairs: list[tuple[Tensor, Tensor]], other: nn.Module) -> None:
    """(theirs, ours); every parameter of theirs must be given once."""
    given = set()
    for theirs, ours in pairs:
        assert theirs.shape == ours.shape
        given.add(theirs.data_ptr())
        with torch.no_grad():
            theirs.copy_(ours)
    assert given == {p.data_ptr() for p in other.parameters()}


def test_transformers(clip: Clip, pictures: Tensor, ids: Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    shared = {"hidden_act": "quick_gelu", "projection_dim": CONFIG.embedding}
    other = transformers.CLIPModel(
        transformers.CLIPConfig(
            projection_dim=CONFIG.embedding,
            vision_config=shared
            | {
                "image_size": 24,
                "patch_size": 8,
                "hidden_size": 32,
                "intermediate_size": 128,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
            },
            text_config=shared
            | {
                "vocab_size": 50,
                "max_position_embeddings": 12,
                "hidden_size": 48,
                "intermediate_size": 192,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                "bos_token_id": END - 1,
                "eos_token_id": END,
                "pad_token_id": 0,
            },
        )
    ).eval()
    vision, text = other.vision_model, other.text_model
    pairs = [
        (vision.embeddings.class_embedding, clip.vision.class_token),
        (vision.embeddings.patch_embedding.weight, clip.vision.patches.weight),
        (vision.embeddings.position_embedding.weight, clip.vision.positions),
        *norms(vision.pre_layrnorm, clip.vision.norm_in),
        *norms(vision.post_layernorm, clip.vision.norm_out),
        (other.visual_projection.weight, clip.vision.projection.T),
        (text.embeddings.token_embedding.weight, clip.text.embed.weight),
        (text.embeddings.position_embedding.weight, clip.text.positions),
        *norms(text.final_layer_norm, clip.text.norm_out),
        (other.text_projection.weight, clip.text.projection.T),
        (other.logit_scale, clip.log_scale),
    ]
    for theirs, ours in ((vision.encoder, clip.vision), (text.encoder, clip.text)):
        for layer, block in zip(theirs.layers, ours.transformer.blocks, strict=True):
            attention = layer.self_attn
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            for i, projection in enumerate(projections):
                pairs.append((projection.weight, block.attention.qkv.weight.chunk(3)[i]))
                pairs.append((projection.bias, block.attention.qkv.bias.chunk(3)[i]))
            pairs += norms(attention.out_proj, block.attention.out)
            pairs += norms(layer.layer_norm1, block.norm_attention) + norms(layer.layer_norm2, block.norm_mlp)
            pairs += norms(layer.mlp.fc1, block.widen) + norms(layer.mlp.fc2, block.narrow)
    copy(pairs, other)
    with torch.no_grad():
        theirs = other(input_ids=ids, pixel_values=normalised(clip, pictures), attention_mask=None)
        agree(nn.functional.normalize(clip.encode_image(pictures).pooled, dim=-1), theirs.image_embeds)
        agree(nn.functional.normalize(clip.encode_text(ids).pooled, dim=-1), theirs.text_embeds)
        agree(clip.encode_text(ids).tokens, theirs.text_model_output.last_hidden_state)
        pair = clip(pictures, ids)
        agree(pair.scale.clone() * pair.images @ pair.texts.T, theirs.logits_per_image)


def test_open_clip(open_clip: ModuleType, clip: Clip, pictures: Tensor, ids: Tensor) -> None:
    vision = open_clip.transformer.VisionTransformer(
        image_size=24,
        patch_size=8,
        width=32,
        layers=3,
        heads=4,
        mlp_ratio=4.0,
        output_dim=20,
        act_layer=open_clip.transformer.QuickGELU,
    ).eval()
    text = open_clip.transformer.TextTransformer(
        context_length=12,
        vocab_size=50,
        width=48,
        heads=3,
        layers=2,
        output_dim=20,
        act_layer=open_clip.transformer.QuickGELU,
        pool_type="argmax",
    ).eval()
    copy(
        [
            (vision.class_embedding, clip.vision.class_token),
            (vision.positional_embedding, clip.vision.positions),
            (vision.conv1.weight, clip.vision.patches.weight),
            *norms(vision.ln_pre, clip.vision.norm_in),
            *norms(vision.ln_post, clip.vision.norm_out),
            (vision.proj, clip.vision.projection),
            *blocks(vision.transformer.resblocks, clip.vision.transformer.blocks),
        ],
        vision,
    )
    copy(
        [
            (text.token_embedding.weight, clip.text.embed.weight),
            (text.positional_embedding, clip.text.positions),
            *norms(text.ln_final, clip.text.norm_out),
            (text.text_projection, clip.text.projection),
            *blocks(text.transformer.resblocks, clip.text.transformer.blocks),
        ],
        text,
    )
    with torch.no_grad():
        agree(clip.encode_image(pictures).pooled, vision(normalised(clip, pictures)))
        agree(clip.encode_text(ids).pooled, text(ids))


agree = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


def norms(theirs: nn.Module, ours: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of a norm or a linear layer."""
    return [(theirs.weight, ours.weight), (theirs.bias, ours.bias)]


def blocks(theirs: nn.ModuleList, ours: nn.ModuleList) -> list[tuple[Tensor, Tensor]]:
    """A stack of residual blocks with fused projections, as OpenAI's and open_clip's are."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for layer, block in zip(theirs, ours, strict=True):
        pairs.append((layer.attn.in_proj_weight, block.attention.qkv.weight))
        pairs.append((layer.attn.in_proj_bias, block.attention.qkv.bias))
        pairs += norms(layer.attn.out_proj, block.attention.out)
        pairs += norms(layer.ln_1, block.norm_attention) + norms(layer.ln_2, block.norm_mlp)
        pairs += norms(layer.mlp.c_fc, block.widen) + norms(layer.mlp.c_proj, block.narrow)
    return pairs
