"""guided-diffusion: ADM's U-Nets and classifiers, each a plain state dict.

Shapes say almost everything: sizes, classes, whether the variance is learned. How many heads there are, in
what order they are kept and what noise was trained on is known by which of the published networks it is;
sizes that none of them has are assumed to be as most are.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from limner.adm import Adm, AdmConfig, ClassifierConfig, NoisedClassifier
from limner.adm.model import COLOURS, enlarging, imagenet, spec, unconditional
from limner.errors import LimnerError
from limner.formats import adm
from limner.formats.contents import Contents
from limner.formats.format import LARGEST_SIDE, Assumptions, Format, Opened, part
from limner.formats.places import Place, both
from limner.layers.unet import UNetConfig

ROOTS = {"time_embed", "input_blocks", "middle_block", "output_blocks", "out", "label_emb"}
SIGNS = {
    "time_embed.0.weight",
    "input_blocks.0.0.weight",
    "middle_block.0.in_layers.0.weight",
    "out.0.weight",
}
POOL = "out.2.positional_embedding"
# The networks that were published, and which of them keeps queries, keys and values by kind and not by head.
PUBLISHED = (*map(imagenet, (64, 128, 256, 512)), unconditional(256), enlarging(256), enlarging(512))
BY_KIND = imagenet(64)
# Places a side where attention begins, in all of them.
WIDEST = 32


def fits(contents: Contents) -> bool:
    """A U-Net, or the half of one, and nothing beside it that reads words."""
    names = contents.tensors.keys()
    return names >= SIGNS and {name.partition(".")[0] for name in names} <= ROOTS


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part: painter, upsampler or classifier. LimnerError for a U-Net that is put together otherwise."""
    if any(name.endswith((".op.weight", ".op.bias")) for name in contents.tensors):
        raise LimnerError(
            f"{contents.path} halves its maps by convolutions, as improved-diffusion does; limner's U-Net "
            "has residual blocks for that (resblock_updown)"
        )
    return _classifier(contents) if POOL in contents.tensors else _painter(contents, assumptions)


def _painter(contents: Contents, told: Assumptions) -> Opened:
    seen = adm.unet(contents)
    if seen.in_channels not in (COLOURS, 2 * COLOURS) or seen.out_channels not in (COLOURS, 2 * COLOURS):
        raise LimnerError(
            f"{contents.path} sees {seen.in_channels} channels and paints {seen.out_channels}; ADM's "
            "networks see 3 or 6, and paint 3 or 6"
        )
    classes = contents.shape("label_emb.weight")[0] if "label_emb.weight" in contents.tensors else None
    known = next((one for one in PUBLISHED if _visible(one.unet) == seen), None)
    heads, width = (None, adm.HEAD_WIDTH) if known is None else (known.unet.heads, known.unet.head_width)
    if told.heads is not None or told.head_width is not None:
        heads, width = told.heads, told.head_width or adm.HEAD_WIDTH
    by_head = known != BY_KIND if told.by_head is None else told.by_head
    noise = told.schedule or ("linear" if known is None else known.diffusion.schedule)
    side = WIDEST * min(seen.attention, default=1) if known is None else known.resolution
    config = AdmConfig(
        resolution=side,
        low=side // 4 if seen.in_channels == 2 * COLOURS else None,
        classes=classes,
        unet=replace(seen, heads=heads, head_width=width),
        diffusion=replace(spec(noise), learned_variance=seen.out_channels == 2 * COLOURS),
    )
    name = "adm" if config.low is None else "upsampler"
    if (told.heads, told.head_width, told.by_head) != (None, None, None):
        whose = "as told"
    elif known is not None:
        whose = "as the published network of its sizes"
    else:
        whose = "no published network has these sizes"
    try:
        standing = list(places(config, by_head=by_head))
    except ValueError as error:
        raise LimnerError(f"{contents.path} cannot be so: {error}") from error
    network = part(name, Adm, config, standing, contents.tensors, tried=tried)
    return Opened(
        format=f"guided-diffusion {name}",
        contents=contents,
        parts=(network,),
        assumed=(
            f"{f'{heads} heads' if heads else f'heads of {width} numbers'} in every block, kept by "
            f"{'head' if by_head else 'kind'}: {whose}",
            f"{side} pixels, a {noise} schedule of 1000 steps, noise predicted",
        ),
    )


def _classifier(contents: Contents) -> Opened:
    length = contents.shape(POOL)[-1]
    backbone = adm.half(contents, out_channels=contents.shape("out.2.c_proj.weight")[0])
    side = math.isqrt(length - 1) * 2 ** (len(backbone.multipliers) - 1)
    config = ClassifierConfig(resolution=side, unet=backbone)
    places = list(classifier_places(config))
    network = part("classifier", NoisedClassifier, config, places, contents.tensors, tried=tried_classifier)
    return Opened(
        format="guided-diffusion classifier",
        contents=contents,
        parts=(network,),
        assumed=(
            f"heads of {adm.HEAD_WIDTH} numbers, kept by head below and by kind in the pool, as released",
        ),
    )


def _visible(config: UNetConfig) -> UNetConfig:
    """What shapes say of it."""
    return replace(config, heads=None, head_width=adm.HEAD_WIDTH, dropout=0.0)


def tried(network: Adm) -> dict[str, Tensor]:
    """The noise that it sees in a grey picture of the first class."""
    config = network.config
    side = 2 * network.unet.multiple
    if side > LARGEST_SIDE:
        return {}
    noise = network(
        torch.zeros(1, COLOURS, side, side),
        torch.tensor([500.0]),
        label=None if config.classes is None else torch.zeros(1, dtype=torch.int64),
        low=None if config.low is None else torch.zeros(1, COLOURS, side // 4, side // 4),
    )
    return {"noise": noise}


def tried_classifier(network: NoisedClassifier) -> dict[str, Tensor]:
    """What it says of a grey picture."""
    side = network.config.resolution
    if side > LARGEST_SIDE:
        return {}
    return {"picture": network(torch.zeros(1, COLOURS, side, side), torch.tensor([500.0]))}


def places(config: AdmConfig, *, by_head: bool) -> Iterator[Place]:
    """Where their tensors stand in an `Adm`."""
    if config.classes is not None:
        yield Place("labels.weight", ("label_emb.weight",))
    yield from adm.places(config.unet, "unet.", by_head=by_head)


def classifier_places(config: ClassifierConfig) -> Iterator[Place]:
    """Where their tensors stand in a `NoisedClassifier`."""
    yield from adm.half_places(config.unet, "")
    yield from both("norm", "out.0")
    yield Place("pool.positions", (POOL,), turned=True)
    yield from both("pool.qkv", "out.2.qkv_proj")
    yield from both("pool.out", "out.2.c_proj")


FORMAT = Format("guided-diffusion", fits, read)
