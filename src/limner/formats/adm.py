"""The U-Net as OpenAI's diffusion code names it: guided-diffusion, GLIDE, and Karlo after them.

Blocks are numbered in one row on the way down and in another on the way up; what stands within one is told by
its place: a residual block first, then attention where there is some, last a block that doubles the size.
Attention keeps queries, keys and values by head, but in ADM's network for 64 pixels.
"""

import math
from collections.abc import Iterator

from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.places import Place, both
from limner.layers.unet import UNetConfig

HEAD_WIDTH = 64


def unet(contents: Contents) -> UNetConfig:
    """A network's sizes by its shapes; heads are `HEAD_WIDTH` wide, for no shape says how many there are.

    So they are in all that were published with text. Raises LimnerError for shapes that are no U-Net's.
    """
    down, up = contents.numbered("input_blocks."), contents.numbered("output_blocks.")
    # The first block of the way up that ends by doubling the size is the last of its level.
    doubling = [
        number for number in range(up) if _inner(contents, f"output_blocks.{number}")[1:].count("residual")
    ]
    depth = doubling[0] if doubling else down - 1
    if up != down:
        raise LimnerError(
            f"{contents.path} has {down} blocks on the way down and {up} on the way up, which make no U-Net"
        )
    out = contents.shape("out.2.weight")[0]
    return _sizes(contents, depth=depth, out_channels=out)


def half(contents: Contents, *, out_channels: int) -> UNetConfig:
    """The sizes of a way down alone, of which the last level has attention. LimnerError where it has none."""
    down, depth = contents.numbered("input_blocks."), 0
    while depth < down and "attention" in _inner(contents, f"input_blocks.{down - 1 - depth}"):
        depth += 1
    return _sizes(contents, depth=depth, out_channels=out_channels)


def _sizes(contents: Contents, *, depth: int, out_channels: int) -> UNetConfig:
    embedding, sinusoids = _two(contents, "time_embed.0.weight")
    down = contents.numbered("input_blocks.")
    levels, left = divmod(down, depth + 1)
    if embedding != 4 * sinusoids or left or depth < 1:
        raise LimnerError(f"{contents.path} has {down} blocks on the way down, which make no U-Net")
    first = [1 + level * (depth + 1) for level in range(levels)]
    widths = [contents.shape(f"input_blocks.{number}.0.out_layers.3.weight")[0] for number in first]
    attention = tuple(
        2**level
        for level, number in enumerate(first)
        if "attention" in _inner(contents, f"input_blocks.{number}")
    )
    reads = [name for name in contents.tensors if name.endswith(".encoder_kv.weight")]
    # A first level that is narrower than the time's sinusoids: ADM's for 512 pixels.
    channels = math.gcd(sinusoids, *widths)
    return UNetConfig(
        in_channels=contents.shape("input_blocks.0.0.weight")[1],
        out_channels=out_channels,
        channels=channels,
        time_width=None if channels == sinusoids else sinusoids,
        depth=depth,
        multipliers=tuple(width // channels for width in widths),
        attention=attention,
        head_width=HEAD_WIDTH,
        heads=None,
        context_width=contents.shape(reads[0])[1] if reads else None,
        scale_shift=contents.shape("input_blocks.1.0.emb_layers.1.weight")[0] == 2 * widths[0],
        dropout=0.0,
        patch=1,
        canvas=0,
    )


def places(config: UNetConfig, ours: str, theirs: str = "", *, by_head: bool = True) -> Iterator[Place]:
    """Where their tensors, whose names begin with `theirs`, stand in a `UNet` under the prefix `ours`.

    `by_head`: whether queries, keys and values lie by head, as in all networks but one.
    """
    yield from half_places(config, ours, theirs, by_head=by_head)
    yield from both(f"{ours}norm", f"{theirs}out.0")
    yield from both(f"{ours}head", f"{theirs}out.2")
    number = 0
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        width = config.channels * multiplier
        attends = 2**level in config.attention
        for step in range(config.depth + 1):
            # What comes from the way down is laid beside, so every block here changes its channels.
            block = f"{theirs}output_blocks.{number}"
            yield from _residual(f"{ours}up.{number}.block", f"{block}.0", True)
            if attends:
                attention = f"{ours}up.{number}.attention"
                yield from _attention(attention, f"{block}.1", width, config, by_head=by_head)
            if level > 0 and step == config.depth:
                doubling = f"{block}.{2 if attends else 1}"
                yield from _residual(f"{ours}up.{number}.resample", doubling, False)
            number += 1


def half_places(config: UNetConfig, ours: str, theirs: str = "", *, by_head: bool = True) -> Iterator[Place]:
    """The same for the time, the way down and the middle."""
    yield from both(f"{ours}time.net.0", f"{theirs}time_embed.0")
    yield from both(f"{ours}time.net.2", f"{theirs}time_embed.2")
    yield from both(f"{ours}stem", f"{theirs}input_blocks.0.0")
    last = len(config.multipliers) - 1
    channels, number = config.channels * config.multipliers[0], 0
    for level, multiplier in enumerate(config.multipliers):
        width = config.channels * multiplier
        for _ in range(config.depth):
            block = f"{theirs}input_blocks.{number + 1}"
            yield from _residual(f"{ours}down.{number}.block", f"{block}.0", channels != width)
            if 2**level in config.attention:
                mine = f"{ours}down.{number}.attention"
                yield from _attention(mine, f"{block}.1", width, config, by_head=by_head)
            channels, number = width, number + 1
        if level < last:
            yield from _residual(f"{ours}down.{number}", f"{theirs}input_blocks.{number + 1}.0", False)
            number += 1
    yield from _residual(f"{ours}middle_in", f"{theirs}middle_block.0", False)
    if config.attention:
        mine = f"{ours}middle_attention"
        yield from _attention(mine, f"{theirs}middle_block.1", channels, config, by_head=by_head)
    yield from _residual(f"{ours}middle_out", f"{theirs}middle_block.{2 if config.attention else 1}", False)


def _residual(ours: str, theirs: str, widens: bool) -> Iterator[Place]:
    for mine, yours in (
        ("norm_in", "in_layers.0"),
        ("conv_in", "in_layers.2"),
        ("embed", "emb_layers.1"),
        ("norm_out", "out_layers.0"),
        ("conv_out", "out_layers.3"),
    ):
        yield from both(f"{ours}.{mine}", f"{theirs}.{yours}")
    if widens:
        yield from both(f"{ours}.skip", f"{theirs}.skip_connection")


def _attention(
    ours: str, theirs: str, width: int, config: UNetConfig, *, by_head: bool = True
) -> Iterator[Place]:
    heads = config.heads_of(width)
    yield from both(f"{ours}.norm", f"{theirs}.norm")
    if by_head:
        yield from packed(f"{ours}.qkv", f"{theirs}.qkv", heads, 3)
    else:
        yield from both(f"{ours}.qkv", f"{theirs}.qkv")
    if config.context_width is not None:
        yield from packed(f"{ours}.context_kv", f"{theirs}.encoder_kv", heads, 2)
    yield from both(f"{ours}.out", f"{theirs}.proj_out")


def transformer_places(layers: int, heads: int, ours: str, theirs: str) -> Iterator[Place]:
    """Where the blocks of their transformers stand: GLIDE's of text, Karlo's prior."""
    for number in range(layers):
        mine, yours = f"{ours}.blocks.{number}", f"{theirs}.resblocks.{number}"
        yield from packed(f"{mine}.attention.qkv", f"{yours}.attn.c_qkv", heads, 3)
        for one, other in (
            ("norm_attention", "ln_1"),
            ("attention.out", "attn.c_proj"),
            ("norm_mlp", "ln_2"),
            ("widen", "mlp.c_fc"),
            ("narrow", "mlp.c_proj"),
        ):
            yield from both(f"{mine}.{one}", f"{yours}.{other}")


def packed(ours: str, theirs: str, heads: int, parts: int) -> Iterator[Place]:
    """Weight and bias of projections that they keep by head."""
    for end in ("weight", "bias"):
        yield Place(f"{ours}.{end}", (f"{theirs}.{end}",), packed=(heads, parts))


def _inner(contents: Contents, block: str) -> list[str]:
    """What a numbered block is made of, in order."""
    kinds = {"in_layers.0.weight": "residual", "qkv.weight": "attention", "weight": "convolution"}
    found = []
    for place in range(3):
        found += [kind for end, kind in kinds.items() if f"{block}.{place}.{end}" in contents.tensors]
    return found


def _two(contents: Contents, name: str) -> tuple[int, int]:
    shape = contents.shape(name)
    if len(shape) != 2:
        raise LimnerError(f"{contents.path}: '{name}' has the shape {shape}, and should have two dimensions")
    return shape[0], shape[1]
