"""CLIP as OpenAI saves it, and as open_clip does: the same names, where only settings say the rest.

OpenAI: TorchScript archives or plain state dicts. open_clip: a state dict beside open_clip_config.json, or a
training's checkpoint; its newer models keep the text tower under `text.`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from limner.clip import Clip, ClipConfig, ResNetConfig, TextConfig, VisionConfig
from limner.clip.tower import PIXEL_MEAN, PIXEL_STD
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
SETTINGS = "open_clip_config.json"
# Settings of either tower that are done here: with any value (None), for shapes say it or a place below reads
# it, or with these alone.
PLAIN: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "vision_cfg": {
        **dict.fromkeys(("image_size", "layers", "width", "patch_size", "head_width", "patch_dropout")),
        "mlp_ratio": None,
        "pool_type": ("tok",),
        "ls_init_value": (None,),
        "attentional_pool": (False,),
        "no_ln_pre": (False,),
        "final_ln_after_pool": (False,),
        "output_tokens": (False,),
        "pos_embed_type": ("learnable",),
    },
    "text_cfg": {
        **dict.fromkeys(("context_length", "vocab_size", "width", "heads", "layers")),
        "mlp_ratio": (4, 4.0),
        "pool_type": ("argmax",),
        "ls_init_value": (None,),
        "no_causal_mask": (False,),
        "embed_cls": (False,),
        "pad_id": (0,),
        "output_tokens": (False,),
        "proj_bias": (False,),
    },
}


def fits(contents: Contents) -> bool:
    """A picture tower and a text tower by their names, ViT or ResNet."""
    names = _flat(contents).tensors
    return {"visual.conv1.weight", "token_embedding.weight", "text_projection", "logit_scale"} <= names.keys()


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part, clip. LimnerError for what limner's towers do not do."""
    flat = _flat(contents)
    told = flat.told(SETTINGS, "model_cfg")
    _checked(flat)
    assumed: list[str] = []
    activation = _activation(flat, told, assumptions, assumed)
    residual = "visual.attnpool.positional_embedding" in flat.tensors
    vision = _residual(flat) if residual else _vision(flat, assumptions, assumed)
    text = _text(flat, assumed)
    config = ClipConfig(
        vision=vision, text=text, embedding=flat.shape("text_projection")[1], activation=activation
    )
    ignored = (*SIZES, *MASKS)
    clip = part("clip", Clip, config, list(places(config)), flat.tensors, tried=tried, ignored=ignored)
    name = "open_clip" if told else "OpenAI CLIP"
    return Opened(format=name, contents=contents, parts=(clip,), assumed=tuple(assumed))


def tried(clip: Clip) -> dict[str, Tensor]:
    """The embeddings of a grey picture and of an empty caption."""
    side = clip.config.vision.resolution
    return {
        "picture": clip.encode_image(torch.zeros(1, 3, side, side)).pooled,
        "caption": clip.encode_text(nothing(clip.config.text)).pooled,
    }


def nothing(text: TextConfig) -> Tensor:
    """The ids of a caption without a word: start and end."""
    return torch.tensor([[text.vocabulary - 2, text.vocabulary - 1]])


def places(config: ClipConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Clip`."""
    if isinstance(config.vision, ResNetConfig):
        yield from _residual_places(config.vision)
    else:
        yield from _vision_places(config.vision)
    yield Place("log_scale", ("logit_scale",))
    for ours, theirs in (
        ("text.embed.weight", "token_embedding.weight"),
        ("text.positions", "positional_embedding"),
        ("text.projection", "text_projection"),
    ):
        yield Place(ours, (theirs,))
    yield from both("text.norm_out", "ln_final")
    for number in range(config.text.layers):
        yield from _block(f"text.transformer.blocks.{number}", f"transformer.resblocks.{number}")


def _vision_places(config: VisionConfig) -> Iterator[Place]:
    for ours, theirs in (
        ("vision.patches.weight", "visual.conv1.weight"),
        ("vision.class_token", "visual.class_embedding"),
        ("vision.positions", "visual.positional_embedding"),
        ("vision.projection", "visual.proj"),
    ):
        yield Place(ours, (theirs,))
    yield from both("vision.norm_in", "visual.ln_pre")
    yield from both("vision.norm_out", "visual.ln_post")
    for number in range(config.layers):
        yield from _block(f"vision.transformer.blocks.{number}", f"visual.transformer.resblocks.{number}")


def _residual_places(config: ResNetConfig) -> Iterator[Place]:
    for number in range(3):
        yield from _convolution(f"vision.stem.{number}", f"visual.conv{number + 1}", f"visual.bn{number + 1}")
    for stage, depth in enumerate(config.blocks):
        for number in range(depth):
            ours, theirs = f"vision.stages.{stage}.{number}", f"visual.layer{stage + 1}.{number}"
            for count, mine in enumerate(("narrow", "mix", "widen"), start=1):
                yield from _convolution(f"{ours}.{mine}", f"{theirs}.conv{count}", f"{theirs}.bn{count}")
            # The first block of a stage changes the channels, and takes its input along.
            if number == 0:
                yield from _convolution(f"{ours}.skip", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    yield Place("vision.pool.positions", ("visual.attnpool.positional_embedding",))
    for mine, yours in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "c")):
        yield from both(f"vision.pool.{mine}", f"visual.attnpool.{yours}_proj")


def _convolution(ours: str, conv: str, norm: str) -> Iterator[Place]:
    yield Place(f"{ours}.conv.weight", (f"{conv}.weight",))
    for end in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield Place(f"{ours}.norm.{end}", (f"{norm}.{end}",))


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


def _residual(contents: Contents) -> ResNetConfig:
    """Sizes by shapes, all of them: heads have 64 channels in every tower that was published."""
    places, features = _of(contents.shape("visual.attnpool.positional_embedding"), 2)
    side, width = round((places - 1) ** 0.5), contents.shape("visual.layer1.0.conv1.weight")[0]
    if side**2 != places - 1 or features % HEAD_WIDTH:
        raise LimnerError(
            f"{contents.path} pools {places} places of {features} channels: no square map, or no whole heads"
        )
    blocks: list[int] = []
    while depth := contents.numbered(f"visual.layer{len(blocks) + 1}."):
        blocks.append(depth)
    return ResNetConfig(
        resolution=side * 2 ** (len(blocks) + 1),
        width=width,
        blocks=tuple(blocks),
        heads=features // HEAD_WIDTH,
    )


def _vision(contents: Contents, assumptions: Assumptions, assumed: list[str]) -> VisionConfig:
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
        layers=contents.numbered("visual.transformer.resblocks."),
        heads=_heads(
            "picture", width, assumptions.head_width or _whole(contents, "vision_cfg", "head_width"), assumed
        ),
        hidden=hidden(contents, "visual.transformer.resblocks.0.mlp.c_fc.weight", width),
    )


def hidden(contents: Contents, widening: str, width: int) -> int | None:
    """The width of MLPs, where it is not the usual four times the tower's, and the bias has it too."""
    found = contents.shape(widening)[:1]
    bias = contents.shape(widening.replace(".weight", ".bias"))
    return None if found in ((4 * width,), ()) or found != bias else found[0]


def _text(contents: Contents, assumed: list[str]) -> TextConfig:
    vocabulary, width = _of(contents.shape("token_embedding.weight"), 2)
    context, _ = _of(contents.shape("positional_embedding"), 2)
    heads = _whole(contents, "text_cfg", "heads")
    if heads is not None and width % heads:
        raise LimnerError(f"the text tower is {width} wide, and {SETTINGS} gives it {heads} heads")
    return TextConfig(
        context=context,
        vocabulary=vocabulary,
        width=width,
        layers=contents.numbered("transformer.resblocks."),
        heads=_heads("text", width, width // heads if heads else None, assumed),
    )


def _heads(tower: str, width: int, told: int | None, assumed: list[str]) -> int:
    each = told or HEAD_WIDTH
    if told is None:
        assumed.append(f"heads of {HEAD_WIDTH} numbers in the {tower} tower, as in all that OpenAI published")
    if width % each:
        raise LimnerError(f"the {tower} tower is {width} wide, of which heads of {each} are no part")
    return width // each


def _whole(contents: Contents, tower: str, name: str) -> int | None:
    """A whole number of a tower's settings; LimnerError for what is none."""
    value = contents.told(SETTINGS, "model_cfg", tower).get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise LimnerError(f"{SETTINGS} has {value!r} for {tower}.{name}, where a whole number is wanted")
    return value


def _of(shape: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    if len(shape) != dimensions:
        raise LimnerError(f"a tensor of shape {shape} stands where one of {dimensions} dimensions is needed")
    return shape


def _checked(contents: Contents) -> None:
    """LimnerError for settings that limner's towers do not have, and for pictures normalised otherwise."""
    for tower, plain in PLAIN.items():
        for name, value in contents.told(SETTINGS, "model_cfg", tower).items():
            allowed = plain.get(name, ())
            if allowed is not None and value not in allowed:
                raise LimnerError(
                    f"{contents.path} has {tower}.{name} {str(value)[:40]!r}, which limner's towers do not do"
                )
    checked_pixels(contents.told(SETTINGS, "preprocess_cfg"), "mean", "std")


def checked_pixels(told: Mapping[str, Any], mean: str, std: str) -> None:
    """LimnerError for settings by which pictures are normalised otherwise than CLIP's are."""
    for name, ours in ((mean, PIXEL_MEAN), (std, PIXEL_STD)):
        theirs = told.get(name, list(ours))
        numbers = isinstance(theirs, list) and all(isinstance(one, int | float) for one in theirs)
        if not numbers or [round(one, 6) for one in theirs] != [round(one, 6) for one in ours]:
            raise LimnerError(
                f"its pictures have the {name} {str(theirs)[:60]}, and limner's CLIP reads them with "
                f"{list(ours)}: it would see other pictures"
            )


FORMAT = Format("CLIP, by OpenAI or open_clip", fits, read)
