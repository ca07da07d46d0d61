"""CLIP as OpenAI saves it, and as open_clip does: the same names, where only settings say the rest.

OpenAI: TorchScript archives or plain state dicts. open_clip: a state dict beside open_clip_config.json, or a
training's checkpoint; its newer models keep the text tower under `text.`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.clip.model import PIXEL_MEAN, PIXEL_STD
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, part
from limner.formats.places import Place, both
from limner.layers.transformer import Activation

# In OpenAI's archives beside the weights; shapes say the same.
SIZES = ("input_resolution", "context_length", "vocab_size")
# The causal mask, where a traced network has kept it.
MASKS = ("attn_mask", "text.attn_mask")
TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
HEAD_WIDTH = 64


def fits(contents: Contents) -> bool:
    """A picture tower and a text tower by their names, ViT or ResNet."""
    names = _flat(contents).tensors
    return {"visual.conv1.weight", "token_embedding.weight", "text_projection", "logit_scale"} <= names.keys()


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part, clip. LimnerError for what limner's towers do not do."""
    flat = _flat(contents)
    described = flat.settings.get("model_cfg")
    told: Mapping[str, Any] = described if isinstance(described, dict) else {}
    if "visual.class_embedding" not in flat.tensors:
        raise LimnerError(
            f"{contents.path} holds a CLIP whose picture tower is no ViT: limner has none such yet"
        )
    assumed: list[str] = []
    activation = _activation(flat, told, assumptions, assumed)
    vision, text = _vision(flat, told, assumptions, assumed), _text(flat, told, assumptions, assumed)
    config = ClipConfig(
        vision=vision, text=text, embedding=flat.shape("text_projection")[1], activation=activation
    )
    _checked_pixels(flat)
    clip = part("clip", Clip, config, list(places(config)), flat.tensors, ignored=(*SIZES, *MASKS))
    name = "open_clip" if told else "OpenAI CLIP"
    return Opened(format=name, contents=contents, parts=(clip,), assumed=tuple(assumed))


def places(config: ClipConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Clip` with a ViT."""
    yield Place("log_scale", ("logit_scale",))
    for ours, theirs in (
        ("vision.patches.weight", "visual.conv1.weight"),
        ("vision.class_token", "visual.class_embedding"),
        ("vision.positions", "visual.positional_embedding"),
        ("vision.projection", "visual.proj"),
        ("text.embed.weight", "token_embedding.weight"),
        ("text.positions", "positional_embedding"),
        ("text.projection", "text_projection"),
    ):
        yield Place(ours, (theirs,))
    for ours, theirs in (("norm_in", "ln_pre"), ("norm_out", "ln_post")):
        yield from both(f"vision.{ours}", f"visual.{theirs}")
    yield from both("text.norm_out", "ln_final")
    for ours, theirs, layers in (
        ("vision.transformer.blocks", "visual.transformer.resblocks", config.vision.layers),
        ("text.transformer.blocks", "transformer.resblocks", config.text.layers),
    ):
        for number in range(layers):
            yield from _block(f"{ours}.{number}", f"{theirs}.{number}")


def _block(ours: str, theirs: str) -> Iterator[Place]:
    for end in ("weight", "bias"):
        yield Place(f"{ours}.attention.qkv.{end}", (f"{theirs}.attn.in_proj_{end}",))
    for mine, yours in (
        ("norm_attention", "ln_1"),
        ("attention.out", "attn.out_proj"),
        ("norm_mlp", "ln_2"),
        ("widen", "mlp.c_fc"),
        ("narrow", "mlp.c_proj"),
    ):
        yield from both(f"{ours}.{mine}", f"{theirs}.{yours}")


def _flat(contents: Contents) -> Contents:
    """The names as OpenAI has them, whatever a training or a newer open_clip put before them."""
    inside = contents.under("state_dict.module.", "state_dict.", "module.")
    if "text.token_embedding.weight" not in inside.tensors:
        return inside
    renamed = {
        name.removeprefix("text.") if name.removeprefix("text.").startswith(TEXT) else name: tensor
        for name, tensor in inside.tensors.items()
    }
    return replace(inside, tensors=renamed)


def _activation(
    contents: Contents, told: Mapping[str, Any], assumptions: Assumptions, assumed: list[str]
) -> Activation:
    if assumptions.activation is not None:
        return _known(assumptions.activation)
    if told:
        return "quick_gelu" if told.get("quick_gelu") else "gelu"
    if set(SIZES) <= contents.tensors.keys() or contents.kind == "TorchScript archive":
        assumed.append("activation quick_gelu, as in all of OpenAI's archives")
    else:
        assumed.append(
            "activation quick_gelu, as OpenAI's; what open_clip trained itself mostly has gelu, as its "
            "settings say: put them beside it, or say --activation gelu"
        )
    return "quick_gelu"


def _known(activation: str) -> Literal["gelu", "quick_gelu"]:
    if activation == "gelu":
        return "gelu"
    if activation == "quick_gelu":
        return "quick_gelu"
    raise ValueError(f"activation is {activation!r}: choose gelu or quick_gelu")


def _vision(
    contents: Contents, told: Mapping[str, Any], assumptions: Assumptions, assumed: list[str]
) -> VisionConfig:
    width, _, patch, _ = _of(contents.shape("visual.conv1.weight"), 4)
    tokens, _ = _of(contents.shape("visual.positional_embedding"), 2)
    side = round((tokens - 1) ** 0.5)
    if side**2 != tokens - 1:
        raise LimnerError(
            f"{contents.path} has {tokens} positions of pictures, which with the class token are no square"
        )
    return VisionConfig(
        resolution=side * patch,
        patch=patch,
        width=width,
        layers=_layers(contents, "visual.transformer.resblocks."),
        heads=_heads("picture", width, _inside(told, "vision_cfg", "head_width"), assumptions, assumed),
    )


def _text(
    contents: Contents, told: Mapping[str, Any], assumptions: Assumptions, assumed: list[str]
) -> TextConfig:
    vocabulary, width = _of(contents.shape("token_embedding.weight"), 2)
    context, _ = _of(contents.shape("positional_embedding"), 2)
    heads = _inside(told, "text_cfg", "heads")
    return TextConfig(
        context=context,
        vocabulary=vocabulary,
        width=width,
        layers=_layers(contents, "transformer.resblocks."),
        heads=_heads("text", width, width // heads if heads else None, assumptions, assumed),
    )


def _heads(tower: str, width: int, told: int | None, assumptions: Assumptions, assumed: list[str]) -> int:
    each = assumptions.head_width or told or HEAD_WIDTH
    if assumptions.head_width is None and told is None:
        assumed.append(f"heads of {HEAD_WIDTH} numbers in the {tower} tower, as in all that OpenAI published")
    if width % each:
        raise LimnerError(
            f"the {tower} tower is {width} wide, of which heads of {each} are no part: say --head-width"
        )
    return width // each


def _inside(told: Mapping[str, Any], part: str, name: str) -> int | None:
    found = told.get(part)
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def _layers(contents: Contents, prefix: str) -> int:
    """How many blocks are numbered under a prefix."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({found[1] for name in contents.tensors if (found := pattern.match(name))})


def _of(shape: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    if len(shape) != dimensions:
        raise LimnerError(f"a tensor of shape {shape} stands where one of {dimensions} dimensions is needed")
    return shape


def _checked_pixels(contents: Contents) -> None:
    """LimnerError for pictures that are to be normalised otherwise than CLIP's are."""
    told = contents.settings.get("preprocess_cfg")
    if not isinstance(told, dict):
        return
    for name, ours in (("mean", PIXEL_MEAN), ("std", PIXEL_STD)):
        theirs = told.get(name)
        if theirs is not None and [round(float(one), 6) for one in theirs] != [round(one, 6) for one in ours]:
            raise LimnerError(
                f"{contents.path} takes pictures with a {name} of {theirs}, and limner's CLIP with "
                f"{list(ours)}: it would see other pictures"
            )


FORMAT = Format("CLIP, by OpenAI or open_clip", fits, read)
