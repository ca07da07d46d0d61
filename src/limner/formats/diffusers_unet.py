"""The U-Net as diffusers names it, where its blocks are those of OpenAI's: residual ones that also resample.

`UNet2DConditionModel` of `SimpleCrossAttn…` and `Resnet…Block2D`, and `UNet2DModel` of the latter alone.
Blocks are numbered by level and within it; queries, keys and values lie apart.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from limner.errors import LimnerError
from limner.formats.contents import Contents, agree, whole
from limner.formats.places import Place, both
from limner.layers.unet import UNetConfig

HEAD_WIDTH = 64
# What every such network has.
PLAIN: dict[str, Any] = {
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "act_fn": "silu",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "center_input_sample": False,
}


def unet(contents: Contents, told: Mapping[str, Any]) -> UNetConfig:
    """A network's sizes by its shapes, and by `told`, its settings, the width of a head.

    Raises LimnerError for shapes that are no U-Net's, and for settings that limner's does not have.
    """
    channels = contents.shape("conv_in.weight")[0]
    levels = contents.numbered("down_blocks.")
    widths = [contents.shape(f"down_blocks.{level}.resnets.0.conv2.weight")[0] for level in range(levels)]
    if any(width % channels for width in widths):
        raise LimnerError(f"{contents.path} has levels {widths} wide, which are no multiples of {channels}")
    attention = tuple(
        2**level for level in range(levels) if contents.numbered(f"down_blocks.{level}.attentions.")
    )
    reads = [name for name in contents.tensors if name.endswith(".add_k_proj.weight")]
    each = HEAD_WIDTH
    if attention:  # Settings say a width even where there is none.
        each = whole(told, "attention_head_dim", usual=HEAD_WIDTH, most=widths[-1], where=str(contents.path))
    config = UNetConfig(
        in_channels=contents.shape("conv_in.weight")[1],
        out_channels=contents.shape("conv_out.weight")[0],
        channels=channels,
        depth=contents.numbered("down_blocks.0.resnets."),
        multipliers=tuple(width // channels for width in widths),
        attention=attention,
        head_width=each,
        context_width=contents.shape(reads[0])[1] if reads else None,
        scale_shift=contents.shape("down_blocks.0.resnets.0.time_emb_proj.weight")[0] == 2 * channels,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    agree(told, PLAIN | _sizes(config) | (_conditional(config) if attention else {}), str(contents.path))
    return config


def places(config: UNetConfig, ours: str, theirs: str) -> Iterator[Place]:
    """Where their tensors, whose names begin with `theirs`, stand in a `UNet` under the prefix `ours`."""
    for mine, yours in (
        ("time.net.0", "time_embedding.linear_1"),
        ("time.net.2", "time_embedding.linear_2"),
        ("stem", "conv_in"),
        ("norm", "conv_norm_out"),
        ("head", "conv_out"),
    ):
        yield from both(f"{ours}{mine}", f"{theirs}{yours}")
    last = len(config.multipliers) - 1
    channels, number = config.channels, 0
    for level, multiplier in enumerate(config.multipliers):
        width, block = config.channels * multiplier, f"{theirs}down_blocks.{level}"
        for step in range(config.depth):
            yield from _residual(f"{ours}down.{number}.block", f"{block}.resnets.{step}", channels != width)
            if 2**level in config.attention:
                yield from _attention(f"{ours}down.{number}.attention", f"{block}.attentions.{step}", config)
            channels, number = width, number + 1
        if level < last:
            yield from _residual(f"{ours}down.{number}", f"{block}.downsamplers.0", False)
            number += 1
    yield from _residual(f"{ours}middle_in", f"{theirs}mid_block.resnets.0", False)
    if config.attention:
        yield from _attention(f"{ours}middle_attention", f"{theirs}mid_block.attentions.0", config)
    yield from _residual(f"{ours}middle_out", f"{theirs}mid_block.resnets.1", False)
    number = 0
    for level in reversed(range(last + 1)):
        block = f"{theirs}up_blocks.{last - level}"
        for step in range(config.depth + 1):
            # What comes from the way down is laid beside, so every block here changes its channels.
            yield from _residual(f"{ours}up.{number}.block", f"{block}.resnets.{step}", True)
            if 2**level in config.attention:
                yield from _attention(f"{ours}up.{number}.attention", f"{block}.attentions.{step}", config)
            if level > 0 and step == config.depth:
                yield from _residual(f"{ours}up.{number}.resample", f"{block}.upsamplers.0", False)
            number += 1


def _residual(ours: str, theirs: str, widens: bool) -> Iterator[Place]:
    for mine, yours in (
        ("norm_in", "norm1"),
        ("conv_in", "conv1"),
        ("embed", "time_emb_proj"),
        ("norm_out", "norm2"),
        ("conv_out", "conv2"),
    ):
        yield from both(f"{ours}.{mine}", f"{theirs}.{yours}")
    if widens:
        yield from both(f"{ours}.skip", f"{theirs}.conv_shortcut")


def _attention(ours: str, theirs: str, config: UNetConfig) -> Iterator[Place]:
    yield from both(f"{ours}.norm", f"{theirs}.group_norm")
    yield from both(f"{ours}.qkv", *[f"{theirs}.to_{one}" for one in "qkv"])
    if config.context_width is not None:
        yield from both(f"{ours}.context_kv", *[f"{theirs}.add_{one}_proj" for one in "kv"])
    yield from both(f"{ours}.out", f"{theirs}.to_out.0")


def settings(config: UNetConfig, *, pixels: int, conditional: bool) -> dict[str, Any]:
    """The config.json of such a network, `conditional` on text and on what is added to its time embedding.

    Raises LimnerError for a network that theirs cannot be.
    """
    own = {"patch": config.patch != 1, "canvas": config.canvas != 0, "norm": config.norm != "group"}
    if any(own.values()):
        odd = " and ".join(f"{name} {getattr(config, name)}" for name, differs in own.items() if differs)
        raise LimnerError(
            f"this U-Net has parts of limner's own ({odd}), and diffusers' have none: it cannot be written so"
        )
    shared = {"sample_size": pixels} | PLAIN | _sizes(config)
    if not conditional:
        return shared | {"_class_name": "UNet2DModel", "attention_head_dim": None, "add_attention": False}
    return shared | _conditional(config) | {"_class_name": "UNet2DConditionModel"}


def _sizes(config: UNetConfig) -> dict[str, Any]:
    crossed = [2**level in config.attention for level in range(len(config.multipliers))]
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": [config.channels * multiplier for multiplier in config.multipliers],
        "layers_per_block": config.depth,
        "down_block_types": [
            "SimpleCrossAttnDownBlock2D" if one else "ResnetDownsampleBlock2D" for one in crossed
        ],
        "up_block_types": [
            "SimpleCrossAttnUpBlock2D" if one else "ResnetUpsampleBlock2D" for one in reversed(crossed)
        ],
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
    }


def _conditional(config: UNetConfig) -> dict[str, Any]:
    return {
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "attention_head_dim": config.head_width,
        "cross_attention_dim": config.context_width,
        "class_embed_type": "identity",
        "only_cross_attention": False,
    }
