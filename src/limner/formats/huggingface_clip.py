"""CLIP as Hugging Face's `CLIPModel` keeps it, in and out.

Queries, keys and values lie apart, both projections are turned, and `pre_layrnorm` is spelled as they do.
Older files carry `position_ids`, which say nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, part
from limner.formats.openai_clip import checked_pixels, tried
from limner.formats.places import Place, both, give
from limner.layers.transformer import Activation

HEAD_WIDTH = 64
SETTINGS = "config.json"
IGNORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
TOWERS = ("vision", "text")


def fits(contents: Contents) -> bool:
    """Both of its towers by their names."""
    wanted = {"text_model.embeddings.token_embedding.weight", "vision_model.embeddings.class_embedding"}
    return wanted <= contents.tensors.keys()


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part, clip. LimnerError for settings that limner's towers do not have."""
    assumed: list[str] = []
    told = {name: contents.told(SETTINGS, f"{name}_config") for name in TOWERS}
    checked_pixels(contents.told("preprocessor_config.json"), "image_mean", "image_std")
    for name, found in told.items():
        if found.get("layer_norm_eps", 1e-5) != 1e-5:
            raise LimnerError(
                f"its {name} tower normalises with {found['layer_norm_eps']}, and limner's with 1e-5"
            )
    patches = contents.shape("vision_model.embeddings.patch_embedding.weight")
    width, patch = patches[0], patches[-1]
    positions = contents.shape("vision_model.embeddings.position_embedding.weight")[0]
    side = round((positions - 1) ** 0.5)
    if side**2 != positions - 1:
        raise LimnerError(
            f"{contents.path} has {positions} positions of pictures: with a class token no square"
        )
    vocabulary, text_width = contents.shape("text_model.embeddings.token_embedding.weight")
    config = ClipConfig(
        vision=VisionConfig(
            resolution=side * patch,
            patch=patch,
            width=width,
            layers=contents.numbered("vision_model.encoder.layers."),
            heads=_heads("vision", width, told, assumptions, assumed),
        ),
        text=TextConfig(
            context=contents.shape("text_model.embeddings.position_embedding.weight")[0],
            vocabulary=vocabulary,
            width=text_width,
            layers=contents.numbered("text_model.encoder.layers."),
            heads=_heads("text", text_width, told, assumptions, assumed),
        ),
        embedding=contents.shape("text_projection.weight")[0],
        activation=_activation(told, assumptions, assumed),
    )
    end = told["text"].get("eos_token_id")
    if end not in (None, 2, vocabulary - 1):
        raise LimnerError(
            f"its captions end with the token {end}, and limner's with the last of the {vocabulary}: another "
            "row would be read"
        )
    clip = part("clip", Clip, config, list(places(config)), contents.tensors, tried=tried, ignored=IGNORED)
    return Opened(format="Hugging Face CLIPModel", contents=contents, parts=(clip,), assumed=tuple(assumed))


def places(config: ClipConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Clip` with a ViT; they have no other."""
    assert isinstance(config.vision, VisionConfig)
    yield Place("log_scale", ("logit_scale",))
    yield Place("vision.projection", ("visual_projection.weight",), turned=True)
    yield Place("text.projection", ("text_projection.weight",), turned=True)
    seen, read_ = "vision_model.embeddings", "text_model.embeddings"
    for ours, theirs in (
        ("vision.patches.weight", f"{seen}.patch_embedding.weight"),
        ("vision.class_token", f"{seen}.class_embedding"),
        ("vision.positions", f"{seen}.position_embedding.weight"),
        ("text.embed.weight", f"{read_}.token_embedding.weight"),
        ("text.positions", f"{read_}.position_embedding.weight"),
    ):
        yield Place(ours, (theirs,))
    yield from both("vision.norm_in", "vision_model.pre_layrnorm")
    yield from both("vision.norm_out", "vision_model.post_layernorm")
    yield from both("text.norm_out", "text_model.final_layer_norm")
    for tower, layers in (("vision", config.vision.layers), ("text", config.text.layers)):
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
    shared = {"hidden_act": config.activation, "projection_dim": config.embedding, "layer_norm_eps": 1e-5}
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
            "intermediate_size": 4 * vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
        },
        "text_config": shared
        | {
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
        },
    }
    return tensors, settings


def _heads(
    tower: str, width: int, told: dict[str, dict[str, Any]], assumptions: Assumptions, assumed: list[str]
) -> int:
    heads = told[tower].get("num_attention_heads")
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


def _activation(told: dict[str, dict[str, Any]], assumptions: Assumptions, assumed: list[str]) -> Activation:
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
