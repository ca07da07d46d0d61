"""GLIDE as it was released: `base.pt`, `upsample.pt`, and both again with what they need to mend."""

from collections.abc import Iterator

import torch
from torch import Tensor

from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats import adm
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, part
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
# Pixels a side of what it is tried with, which all that were published can halve.
TRIED = 64


def fits(contents: Contents) -> bool:
    """A U-Net with a text transformer whose padding is learned."""
    return contents.tensors.keys() >= SIGNS


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """One part, base or upsampler. LimnerError for another number of input channels than GLIDE's four."""
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
    name = "upsampler" if upsampler else "base"
    network = part(name, Glide, config, list(places(config)), contents.tensors, tried=tried)
    assumed = (
        f"{config.resolution} pixels, a {schedule} schedule of 1000 steps, noise predicted, as released",
        f"heads of {adm.HEAD_WIDTH} numbers, as released",
    )
    title = f"GLIDE {name}{', inpainting' if inpaint else ''}"
    return Opened(format=title, contents=contents, parts=(network,), assumed=assumed)


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
