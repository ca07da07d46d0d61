"""CLIP as Hugging Face's `CLIPModel` keeps it, in and out, and its towers as they travel alone.

Queries, keys and values lie apart, both projections are turned, and `pre_layrnorm` is spelled as they do.
Older files carry `position_ids`, which say nothing.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from limner.clip import (
    Clip,
    ClipConfig,
    TextConfig,
    TextWithProjection,
    TextWithProjectionConfig,
    VisionConfig,
)
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, Part, part
from limner.formats.openai_clip import checked_pixels, hidden, nothing, tried
from limner.formats.places import Place, both, give
from limner.layers.transformer import Activation

HEAD_WIDTH = 64
SETTINGS = "config.json"
IGNORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
TOWERS = ("vision", "text")
TEXT_ALONE = "Hugging Face CLIPTextModelWithProjection"
# What cosines are multiplied by, where nothing says so.
SCALE = 100.0


def fits(contents: Contents) -> bool:
    """Both of its towers by their names."""
    wanted = {"text_model.embeddings.token_embedding.weight", "vision_model.embeddings.class_embedding"}
    return wanted <= contents.tensors.keys()


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part, clip. LimnerError for settings that limner's towers do not have."""
    assumed: list[str] = []
    told = {name: contents.told(SETTINGS, f"{name}_config") for name in TOWERS}
    checked_pixels(contents.told("preprocessor_config.json"), "image_mean", "image_std")
    config = ClipConfig(
        vision=vision_of(contents, told["vision"], assumptions, assumed),
        text=text_of(contents, told["text"], assumptions, assumed),
        embedding=contents.shape("text_projection.weight")[0],
        activation=activation_of(told, assumptions, assumed),
    )
    clip = part("clip", Clip, config, list(places(config)), contents.tensors, tried=tried, ignored=IGNORED)
    return Opened(format="Hugging Face CLIPModel", contents=contents, parts=(clip,), assumed=tuple(assumed))


def places(config: ClipConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Clip` with a ViT; they have no other."""
    assert isinstance(config.vision, VisionConfig)
    yield Place("log_scale", ("logit_scale",))
    yield from _vision_places(config.vision)
    yield from text_places(config.text)


def _vision_places(config: VisionConfig) -> Iterator[Place]:
    yield Place("vision.projection", ("visual_projection.weight",), turned=True)
    for ours, theirs in (
        ("patches.weight", "patch_embedding.weight"),
        ("class_token", "class_embedding"),
        ("positions", "position_embedding.weight"),
    ):
        yield Place(f"vision.{ours}", (f"vision_model.embeddings.{theirs}",))
    yield from both("vision.norm_in", "vision_model.pre_layrnorm")
    yield from both("vision.norm_out", "vision_model.post_layernorm")
    yield from _block_places("vision", config.layers)


def text_places(config: TextConfig) -> Iterator[Place]:
    """Where those of the text tower stand."""
    yield Place("text.projection", ("text_projection.weight",), turned=True)
    for ours, theirs in (
        ("embed.weight", "token_embedding.weight"),
        ("positions", "position_embedding.weight"),
    ):
        yield Place(f"text.{ours}", (f"text_model.embeddings.{theirs}",))
    yield from both("text.norm_out", "text_model.final_layer_norm")
    yield from _block_places("text", config.layers)


def _block_places(tower: str, layers: int) -> Iterator[Place]:
    for number in range(layers):
        ours, theirs = f"{tower}.transformer.blocks.{number}", f"{tower}_model.encoder.layers.{number}"
        yield from both(f"{ours}.attention.qkv", *[f"{theirs}.self_attn.{one}_proj" for one in "qkv"])
        for mine, yours in (
            ("norm_attention", "layer_norm1"),
            ("attention.out", "self_attn.out_proj"),
            ("norm_mlp", "layer_norm2"),
            ("widen", "mlp.fc1"),
            ("narrow", "mlp.fc2"),
        ):
            yield from both(f"{ours}.{mine}", f"{theirs}.{yours}")


def vision_of(
    contents: Contents, told: Mapping[str, Any], assumptions: Assumptions, assumed: list[str]
) -> VisionConfig:
    """The picture tower's sizes, by its shapes and its settings. LimnerError for what limner's has not."""
    _checked_norm("vision", told)
    patches = contents.shape("vision_model.embeddings.patch_embedding.weight")
    width, patch = patches[0], patches[-1]
    positions = contents.shape("vision_model.embeddings.position_embedding.weight")[0]
    side = round((positions - 1) ** 0.5)
    if side**2 != positions - 1:
        raise LimnerError(
            f"{contents.path} has {positions} positions of pictures: with a class token no square"
        )
    return VisionConfig(
        resolution=side * patch,
        patch=patch,
        width=width,
        layers=contents.numbered("vision_model.encoder.layers."),
        heads=_heads("vision", width, told, assumptions, assumed),
        hidden=hidden(contents, "vision_model.encoder.layers.0.mlp.fc1.weight", width),
    )


def text_of(
    contents: Contents, told: Mapping[str, Any], assumptions: Assumptions, assumed: list[str]
) -> TextConfig:
    """The same of the text tower."""
    _checked_norm("text", told)
    vocabulary, width = contents.shape("text_model.embeddings.token_embedding.weight")
    end = told.get("eos_token_id")
    if end not in (None, 2, vocabulary - 1):
        raise LimnerError(
            f"its captions end with the token {end}, and limner's with the last of the {vocabulary}: another "
            "row would be read"
        )
    return TextConfig(
        context=contents.shape("text_model.embeddings.position_embedding.weight")[0],
        vocabulary=vocabulary,
        width=width,
        layers=contents.numbered("text_model.encoder.layers."),
        heads=_heads("text", width, told, assumptions, assumed),
    )


def text_alone(contents: Contents, assumptions: Assumptions, assumed: list[str]) -> Part:
    """The part text_encoder, of a text tower with its projection and no more."""
    told = contents.told(SETTINGS)
    config = TextWithProjectionConfig(
        text=text_of(contents, told, assumptions, assumed),
        embedding=contents.shape("text_projection.weight")[0],
        activation=activation_of({"text": told}, assumptions, assumed),
    )
    where = list(text_places(config.text))
    return part(
        "text_encoder",
        TextWithProjection,
        config,
        where,
        contents.tensors,
        tried=lambda tower: {"caption": tower.encode_text(nothing(config.text)).pooled},
        ignored=IGNORED,
    )


def towers_together(seen: Contents, spoken: Contents, assumptions: Assumptions, assumed: list[str]) -> Part:
    """The part clip, of towers that travel each in a folder of its own; only their scale is not there."""
    told = {"vision": seen.told(SETTINGS), "text": spoken.told(SETTINGS)}
    config = ClipConfig(
        vision=vision_of(seen, told["vision"], assumptions, assumed),
        text=text_of(spoken, told["text"], assumptions, assumed),
        embedding=spoken.shape("text_projection.weight")[0],
        activation=activation_of(told, assumptions, assumed),
    )
    assumed.append(f"a scale of {SCALE:.0f} between CLIP's towers, as in all that OpenAI published")
    tensors = {**seen.tensors, **spoken.tensors, "logit_scale": torch.tensor(math.log(SCALE))}
    return part("clip", Clip, config, list(places(config)), tensors, tried=tried, ignored=IGNORED)


def fits_text(contents: Contents) -> bool:
    """The text tower without the other."""
    wanted = {"text_model.embeddings.token_embedding.weight", "text_projection.weight"}
    return wanted <= contents.tensors.keys() and not fits(contents)


def read_text(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part, text_encoder. LimnerError for settings that limner's tower does not have."""
    assumed: list[str] = []
    found = text_alone(contents, assumptions, assumed)
    return Opened(format=TEXT_ALONE, contents=contents, parts=(found,), assumed=tuple(assumed))


def written(config: ClipConfig, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A `Clip` as `CLIPModel` has it: its tensors and its config.json.

    LimnerError for a CLIP that their towers cannot be: residual, at noise levels, or with a layout.
    """
    vision, text = config.vision, config.text
    if not isinstance(vision, VisionConfig):
        raise LimnerError("this CLIP's picture tower is a residual network, and CLIPModel's is a ViT")
    if vision.layout or vision.times is not None:
        raise LimnerError(
            "this CLIP's picture tower has parts of limner's own (layout or noise levels), and CLIPModel has "
            "none: it would give other embeddings there"
        )
    tensors = give(places(config), state)
    shared = _shared(config.activation, config.embedding)
    settings = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embedding,
        "logit_scale_init_value": float(state["log_scale"]),
        "vision_config": shared
        | {
            "model_type": "clip_vision_model",
            "image_size": vision.resolution,
            "patch_size": vision.patch,
            "hidden_size": vision.width,
            "intermediate_size": vision.hidden or 4 * vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
        },
        "text_config": text_settings(text, config.embedding, config.activation),
    }
    return tensors, settings


def text_settings(text: TextConfig, embedding: int, activation: Activation) -> dict[str, Any]:
    """The settings of the text tower."""
    return _shared(activation, embedding) | {
        "model_type": "clip_text_model",
        "vocab_size": text.vocabulary,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "intermediate_size": 4 * text.width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "bos_token_id": text.vocabulary - 2,
        "eos_token_id": text.vocabulary - 1,
        "pad_token_id": 0,
    }


def _shared(activation: Activation, embedding: int) -> dict[str, Any]:
    return {"hidden_act": activation, "projection_dim": embedding, "layer_norm_eps": 1e-5}


def _checked_norm(tower: str, told: Mapping[str, Any]) -> None:
    if told.get("layer_norm_eps", 1e-5) != 1e-5:
        raise LimnerError(
            f"its {tower} tower normalises with {told['layer_norm_eps']}, and limner's with 1e-5"
        )


def _heads(
    tower: str, width: int, told: Mapping[str, Any], assumptions: Assumptions, assumed: list[str]
) -> int:
    heads = told.get("num_attention_heads")
    if assumptions.head_width is not None and tower == "vision":
        heads = width // assumptions.head_width
    elif heads is None:
        assumed.append(
            f"heads of {HEAD_WIDTH} numbers in the {tower} tower, for there is no config.json that says so"
        )
        heads = width // HEAD_WIDTH
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise LimnerError(f"the {tower} tower is {width} wide and would have {heads} heads")
    return heads


def activation_of(
    told: Mapping[str, Mapping[str, Any]], assumptions: Assumptions, assumed: list[str]
) -> Activation:
    """What the towers compute, where their settings agree. LimnerError for what limner's do not."""
    found = {str(one["hidden_act"]) for one in told.values() if "hidden_act" in one}
    if assumptions.activation is not None:
        found = {assumptions.activation}
    if not found:
        assumed.append("activation quick_gelu, for there is no config.json that says so")
        return "quick_gelu"
    if found == {"quick_gelu"}:
        return "quick_gelu"
    if found == {"gelu"}:
        return "gelu"
    raise LimnerError(f"its towers compute {' and '.join(sorted(found))}: limner's quick_gelu or gelu")


FORMAT = Format("Hugging Face CLIPModel", fits, read)
TEXT = Format(TEXT_ALONE, fits_text, read_text)
