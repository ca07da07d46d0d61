"""GLIDE as it was released: `base.pt`, `upsample.pt`, and both again with what they need to mend.

One file is one network; a folder may hold all that paint together, and the noised CLIP that guides.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats import adm, glide_clip
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, Part, part
from limner.formats.places import Place, both
from limner.glide import Glide, GlideConfig
from limner.glide.model import COLOURS, KNOWN
from limner.glide.text import TextEncoderConfig
from limner.layers.unet import UNetConfig

SIGNS = {"padding_embedding", "transformer_proj.weight", "token_embedding.weight", "input_blocks.0.0.weight"}
# By the channels that the first convolution sees: an upsampler, and whether it mends.
KINDS = {
    COLOURS: (False, False),
    COLOURS + KNOWN: (False, True),
    2 * COLOURS: (True, False),
    2 * COLOURS + KNOWN: (True, True),
}
BASE, LARGE = 64, 256
NAMES = ("base", "upsampler", "base_inpaint", "upsampler_inpaint", "clip")
# Pixels a side of what it is tried with, which all that were published can halve.
TRIED = 64


def fits(contents: Contents) -> bool:
    """A U-Net with a text transformer whose padding is learned; in a folder, beside no other than its kin."""
    kin = [paints(one) for one in contents.each()]
    return any(kin) and all(
        found or glide_clip.half(one) for found, one in zip(kin, contents.each(), strict=True)
    )


def paints(contents: Contents) -> bool:
    """Whether a file holds a base or an upsampler."""
    return contents.tensors.keys() >= SIGNS


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """Parts base, upsampler, base_inpaint, upsampler_inpaint, clip, as far as they are there.

    LimnerError for two of a kind, and for another number of input channels than GLIDE's four.
    """
    parts: dict[str, Part] = {}
    assumed: dict[str, None] = {}
    wanted: tuple[str, ...] = ()
    for one in contents.each():
        if paints(one):
            found, said = network(one)
            if found.name in parts:
                raise LimnerError(f"{contents.path} holds two of {found.name}: leave one of them there")
            parts[found.name] = found
            assumed |= dict.fromkeys(said)
    halves = tuple(one for one in contents.each() if glide_clip.half(one))
    if halves:
        parts["clip"], wanted, said = glide_clip.clip(contents, halves)
        assumed |= dict.fromkeys(said)
    names = [name for name in NAMES if name in parts]
    return Opened(
        format=f"GLIDE {', '.join(names)}",
        contents=contents,
        parts=tuple(parts[name] for name in names),
        assumed=tuple(assumed),
        wanted=wanted,
    )


def network(contents: Contents) -> tuple[Part, tuple[str, ...]]:
    """The one network of a file, and what was assumed of it."""
    unet = adm.unet(contents)
    if unet.in_channels not in KINDS:
        raise LimnerError(
            f"{contents.path} sees {unet.in_channels} channels, and GLIDE's networks 3, 6, 7 or 10"
        )
    upsampler, inpaint = KINDS[unet.in_channels]
    context, width = contents.shape("padding_embedding")
    text = TextEncoderConfig(
        context=context,
        vocabulary=contents.shape("token_embedding.weight")[0],
        width=width,
        layers=contents.numbered("transformer.resblocks."),
        heads=width // adm.HEAD_WIDTH,
        condition_width=contents.shape("transformer_proj.weight")[0],
    )
    schedule = "linear" if upsampler else "cosine"
    config = GlideConfig(
        resolution=LARGE if upsampler else BASE,
        low=BASE if upsampler else None,
        inpaint=inpaint,
        text=text,
        backbone=unet,
        diffusion=DiffusionSpec(
            schedule="linear" if upsampler else "cosine",
            steps=1000,
            prediction="eps",
            learned_variance=unet.out_channels == 2 * COLOURS,
        ),
    )
    name = f"{'upsampler' if upsampler else 'base'}{'_inpaint' if inpaint else ''}"
    assumed = (
        f"{config.resolution} pixels, a {schedule} schedule of 1000 steps, noise predicted, as released",
        f"heads of {adm.HEAD_WIDTH} numbers, as released",
    )
    return part(name, Glide, config, list(places(config)), contents.tensors, tried=tried), assumed


def tried(glide: Glide) -> dict[str, Tensor]:
    """The noise that it sees in a grey picture, without a caption."""
    text, low = glide.config.text, glide.config.low
    noise = glide(
        torch.zeros(1, COLOURS, TRIED, TRIED),
        torch.tensor([500.0]),
        ids=torch.zeros(1, text.context, dtype=torch.int64),
        mask=torch.zeros(1, text.context, dtype=torch.bool),
        low=None if low is None else torch.zeros(1, COLOURS, TRIED // 4, TRIED // 4),
    )
    return {"noise": noise}


def places(config: GlideConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Glide` with a U-Net."""
    assert isinstance(config.backbone, UNetConfig)
    yield from adm.places(config.backbone, "backbone.")
    yield Place("text.embed.weight", ("token_embedding.weight",))
    yield Place("text.positions", ("positional_embedding",))
    yield Place("text.padding", ("padding_embedding",))
    yield from both("text.norm", "final_ln")
    yield from both("text.pool", "transformer_proj")
    yield from adm.transformer_places(
        config.text.layers, config.text.heads, "text.transformer", "transformer"
    )


FORMAT = Format("GLIDE", fits, read)
