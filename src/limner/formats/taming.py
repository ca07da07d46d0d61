"""VQGAN as taming-transformers saves it, as Flax does, and its lower half alone: min-dalle's detoker.

Lightning's checkpoint of a training: the networks, and beside them a discriminator and a perceptual loss
under `loss.`, which no picture needs. Which of the two quantizers it has, its names say. Flax numbers with an
underscore and keeps kernels height × width × in × out.

DALL-E mini's VQGAN is taming's of 16,384 codes, weight for weight, but the pictures that it was shown lay in
[0, 1]: codes that were made so come back so.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import LARGEST_SIDE, Assumptions, Format, Opened, Part, part
from limner.formats.places import Place, both
from limner.vqgan import Decoder, VqGan, VqGanConfig
from limner.vqgan.model import COLOURS

RESOLUTION = 256
SIGNS = {"encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight", "post_quant_conv.weight"}
NEAREST, GUMBEL = "quantize.embedding.weight", "quantize.embed.weight"
DETOKER = {
    "embedding.weight",
    "decoder.conv_in.weight",
    "post_quant_conv.weight",
    "decoder.up.0.block.0.conv1.weight",
}
LOSS = "loss."
# The last word of a name in Flax → torch's.
FLAX = {"kernel": "weight", "scale": "weight", "embedding": "weight"}

Pixels = Literal["signed", "unit"]


def fits(contents: Contents) -> bool:
    """An encoder, a decoder, a 1×1 convolution beside each, and codes between them."""
    names = _inside(contents).tensors.keys()
    return names >= SIGNS and (NEAREST in names or GUMBEL in names)


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """One part, vqgan. LimnerError for pictures that have no three colours, such as maps of segments."""
    flax = is_flax(contents)
    vqgan = whole(contents, pixels="unit" if flax else "signed")
    pixels = (
        "pixels from 0 to 1, as DALL-E mini shows them to what Flax keeps"
        if flax
        else "pixels from -1 to 1, as in all that taming-transformers published"
    )
    return Opened(
        format="Flax VQGAN" if flax else "taming VQGAN",
        contents=contents,
        parts=(vqgan,),
        assumed=(
            f"pictures of {RESOLUTION} pixels; sides may be any multiple of {vqgan.config.factor}",
            pixels,
        ),
    )


def whole(contents: Contents, *, pixels: Pixels) -> Part:
    """Both halves and the codes. LimnerError for pictures that have no three colours."""
    found = _inside(contents)
    seen = found.shape("encoder.conv_in.weight")[1]
    if seen != COLOURS:
        raise LimnerError(f"{contents.path} sees {seen} channels, and limner's VQGAN pictures of {COLOURS}")
    nearest = NEAREST in found.tensors
    config = _config(
        found,
        codebook=NEAREST if nearest else GUMBEL,
        stem=found.shape("encoder.conv_in.weight")[0],
        choice="nearest" if nearest else "gumbel",
        pixels=pixels,
    )
    loss = [name for name in found.tensors if name.startswith(LOSS)]
    return part("vqgan", VqGan, config, list(places(config)), found.tensors, tried=tried, ignored=loss)


def tried(vqgan: VqGan) -> dict[str, Tensor]:
    """A grey picture, there and back."""
    side = 2 * vqgan.config.factor
    if side > LARGEST_SIDE:
        return {}
    return {"picture": vqgan.reconstruct(torch.zeros(1, COLOURS, side, side))}


def places(config: VqGanConfig) -> Iterator[Place]:
    """Where taming's tensors stand in a `VqGan`."""
    yield from both("encoder.stem", "encoder.conv_in")
    yield from both("encoder.norm", "encoder.norm_out")
    yield from both("encoder.out", "encoder.conv_out")
    yield from both("encoder.to_codes", "quant_conv")
    if config.choice == "gumbel":
        yield from both("encoder.logits", "quantize.proj")
    last = len(config.widths) - 1
    before = config.stem
    for level, width in enumerate(config.widths):
        ours, theirs = f"encoder.down.{level}", f"encoder.down.{level}"
        yield from _level(ours, theirs, (before, width), config.depth, 2**level in config.attention)
        if level < last:
            yield from both(f"{ours}.resample.1", f"{theirs}.downsample.conv")
        before = width
    yield from _middle("encoder.middle", "encoder.mid")
    yield from _painting(config, "decoder.", codebook=NEAREST if config.choice == "nearest" else GUMBEL)


def detoker_fits(contents: Contents) -> bool:
    """The codes and a decoder, and no encoder."""
    names = contents.tensors.keys()
    return names >= DETOKER and not names & SIGNS - DETOKER


def read_detoker(contents: Contents, _assumptions: Assumptions) -> Opened:
    """One part, the half that paints."""
    return Opened(
        format="min-dalle detoker",
        contents=contents,
        parts=(painting(contents),),
        assumed=("pixels from 0 to 1, as DALL-E mini shows them to its VQGAN",),
    )


def painting(contents: Contents) -> Part:
    """The half that paints, as min-dalle keeps it."""
    config = detoker(contents)
    places = list(detoker_places(config))
    return part("detoker", Decoder, config, places, contents.tensors, tried=tried_detoker)


def detoker(contents: Contents) -> VqGanConfig:
    """The sizes of DALL-E mini's VQGAN by those of the half that paints."""
    first = contents.shape("decoder.up.0.block.0.conv1.weight")[0]
    return _config(contents, codebook="embedding.weight", stem=first, choice="nearest", pixels="unit")


def detoker_places(config: VqGanConfig) -> Iterator[Place]:
    """Where min-dalle's tensors stand in a `Decoder`."""
    yield from _painting(config, "", codebook="embedding.weight")


def tried_detoker(decoder: Decoder) -> dict[str, Tensor]:
    """A picture of four times the first code."""
    if 2 * decoder.config.factor > LARGEST_SIDE:
        return {}
    return {"grid of codes": decoder.decode(torch.zeros(1, 2, 2, dtype=torch.int64))}


def is_flax(contents: Contents) -> bool:
    """Whether kernels are kept as Flax keeps them."""
    return "encoder.conv_in.kernel" in contents.tensors


def _inside(contents: Contents) -> Contents:
    """By taming's names, whoever keeps it."""
    if is_flax(contents):
        tensors = {_plain(name): _upright(name, tensor) for name, tensor in contents.tensors.items()}
        return replace(contents, tensors=tensors)
    return contents.under("state_dict.", "model.")


def _plain(name: str) -> str:
    """Flax's name of a tensor as taming's; the blocks of the middle have an underscore there as well."""
    inside, _, end = name.rpartition(".")
    inside = re.sub(r"\.(down|up)_(\d+)", r".\1.\2", inside)
    inside = re.sub(r"(\.(?:down|up)\.\d+)\.(block|attn)_(\d+)", r"\1.\2.\3", inside)
    return f"{inside}.{FLAX.get(end, end)}"


def _upright(name: str, tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1) if name.endswith(".kernel") and tensor.ndim == 4 else tensor


def _config(
    contents: Contents,
    *,
    codebook: str,
    stem: int,
    choice: Literal["nearest", "gumbel"],
    pixels: Pixels,
) -> VqGanConfig:
    """Sizes by the shapes of the decoder, which both have."""
    levels = range(contents.numbered("decoder.up."))
    return VqGanConfig(
        resolution=RESOLUTION,
        stem=stem,
        widths=tuple(contents.shape(f"decoder.up.{level}.block.0.conv1.weight")[0] for level in levels),
        depth=contents.numbered("decoder.up.0.block.") - 1,
        attention=tuple(
            2**level for level in levels if f"decoder.up.{level}.attn.0.norm.weight" in contents.tensors
        ),
        latent=contents.shape("decoder.conv_in.weight")[1],
        codes=contents.shape(codebook)[0],
        width=contents.shape(codebook)[1],
        choice=choice,
        pixels=pixels,
    )


def _painting(config: VqGanConfig, ours: str, *, codebook: str) -> Iterator[Place]:
    """From the codes on. Levels are numbered from the finest, and ours in the order they are passed."""
    yield Place(f"{ours}codebook.codes", (codebook,))
    yield from both(f"{ours}from_codes", "post_quant_conv")
    yield from both(f"{ours}stem", "decoder.conv_in")
    yield from both(f"{ours}norm", "decoder.norm_out")
    yield from both(f"{ours}out", "decoder.conv_out")
    yield from _middle(f"{ours}middle", "decoder.mid")
    before = config.widths[-1]
    for number, level in enumerate(reversed(range(len(config.widths)))):
        mine, theirs, width = f"{ours}up.{number}", f"decoder.up.{level}", config.widths[level]
        yield from _level(mine, theirs, (before, width), config.depth + 1, 2**level in config.attention)
        if level:
            yield from both(f"{mine}.resample.1", f"{theirs}.upsample.conv")
        before = width


def _level(ours: str, theirs: str, widths: tuple[int, int], depth: int, attends: bool) -> Iterator[Place]:
    for number in range(depth):
        yield from _residual(f"{ours}.blocks.{number}", f"{theirs}.block.{number}")
        if number == 0 and widths[0] != widths[1]:
            yield from both(f"{ours}.blocks.0.skip", f"{theirs}.block.0.nin_shortcut")
        if attends:
            yield from _attention(f"{ours}.attentions.{number}", f"{theirs}.attn.{number}")


def _middle(ours: str, theirs: str) -> Iterator[Place]:
    yield from _residual(f"{ours}.0", f"{theirs}.block_1")
    yield from _attention(f"{ours}.1", f"{theirs}.attn_1")
    yield from _residual(f"{ours}.2", f"{theirs}.block_2")


def _residual(ours: str, theirs: str) -> Iterator[Place]:
    for mine, yours in (
        ("norm_in", "norm1"),
        ("conv_in", "conv1"),
        ("norm_out", "norm2"),
        ("conv_out", "conv2"),
    ):
        yield from both(f"{ours}.{mine}", f"{theirs}.{yours}")


def _attention(ours: str, theirs: str) -> Iterator[Place]:
    yield from both(f"{ours}.norm", f"{theirs}.norm")
    yield from both(f"{ours}.qkv", *(f"{theirs}.{one}" for one in "qkv"))
    yield from both(f"{ours}.out", f"{theirs}.proj_out")


FORMAT = Format("taming VQGAN", fits, read)
DETOKER_FORMAT = Format("min-dalle detoker", detoker_fits, read_detoker)
