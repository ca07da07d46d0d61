"""OpenAI's dVAE: `encoder.pkl` and `decoder.pkl` in one folder, each a network that was pickled whole.

Which of them is which their shapes say: an encoder's first convolution sees three colours.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from limner.dvae import DVae, DVaeConfig
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, part
from limner.formats.places import Place

GROUPS, BLOCKS, CONVOLUTIONS, POOLINGS = 4, 2, 4, 3
RESOLUTION = 256
SIGNS = {"blocks.input.w", "blocks.output.conv.w", "blocks.group_4.block_2.res_path.conv_4.w"}


def fits(contents: Contents) -> bool:
    """Four groups of bottlenecks between two convolutions, whose weights are called w and b."""
    return any(set(one.tensors) >= SIGNS for one in contents.each())


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """One part, dvae; of a lone half, the other half is missing."""
    tensors: dict[str, Tensor] = {}
    for one in contents.each():
        if set(one.tensors) >= SIGNS:
            half = "encoder" if one.shape("blocks.input.w")[1] == 3 else "decoder"
            if f"{half}:blocks.input.w" in tensors:
                raise LimnerError(f"{contents.path} holds two {half}s: give a folder with one of each")
            tensors |= {f"{half}:{name}": tensor for name, tensor in one.tensors.items()}
    config = config_of(tensors)
    dvae = part("dvae", DVae, config, list(places(config)), tensors, tried=tried)
    assumed = (
        f"pictures of {RESOLUTION} pixels, as it was trained; sides may be any multiple of {config.factor}",
        f"residual branches that count 1/{round(1 / config.gain)}, as released",
    )
    return Opened(format="OpenAI dVAE", contents=contents, parts=(dvae,), assumed=assumed)


def tried(dvae: DVae) -> dict[str, Tensor]:
    """A grey picture, there and back."""
    side = 8 * dvae.config.factor
    return {"picture": dvae.reconstruct(torch.zeros(1, 3, side, side))}


def places(config: DVaeConfig) -> Iterator[Place]:
    """Where their tensors stand in a `DVae`."""
    for half, first in (("encoder", "stem"), ("decoder", "codebook")):
        yield from _layer(f"{half}.{first}", f"{half}:blocks.input")
        yield from _layer(f"{half}.out", f"{half}:blocks.output.conv")
        widths = config.widths if half == "encoder" else tuple(reversed(config.widths))
        before = config.widths[0] if half == "encoder" else config.codebook
        for group, width in enumerate(widths):
            for block in range(config.blocks):
                ours = f"{half}.groups.{group}.{block}"
                theirs = f"{half}:blocks.group_{group + 1}.block_{block + 1}"
                if block == 0 and before != width:
                    yield from _layer(f"{ours}.skip", f"{theirs}.id_path")
                for number in range(CONVOLUTIONS):
                    yield from _layer(f"{ours}.convs.{number}", f"{theirs}.res_path.conv_{number + 1}")
            before = width


def _layer(ours: str, theirs: str) -> Iterator[Place]:
    yield Place(f"{ours}.weight", (f"{theirs}.w",))
    yield Place(f"{ours}.bias", (f"{theirs}.b",))


def config_of(tensors: dict[str, Tensor]) -> DVaeConfig:
    """Sizes by shapes; what a missing half would say is taken from the other."""
    half = "encoder" if "encoder:blocks.input.w" in tensors else "decoder"
    widths = [
        _wide(tensors, f"{half}:blocks.group_{n}.block_2.res_path.conv_4.w") for n in range(1, GROUPS + 1)
    ]
    encoder, decoder = tensors.get("encoder:blocks.input.w"), tensors.get("decoder:blocks.input.w")
    words = tensors["encoder:blocks.output.conv.w"].shape[0] if encoder is not None else None
    return DVaeConfig(
        resolution=RESOLUTION,
        vocabulary=words or _wide(tensors, "decoder:blocks.input.w", 1),
        codebook=128 if decoder is None else int(decoder.shape[0]),
        widths=tuple(widths if half == "encoder" else reversed(widths)),
        blocks=BLOCKS,
        poolings=POOLINGS,
        stem=7 if encoder is None else int(encoder.shape[-1]),
        gain=1 / (GROUPS * BLOCKS) ** 2,
        patch=1,
    )


def _wide(tensors: dict[str, Tensor], name: str, dimension: int = 0) -> int:
    if name not in tensors or tensors[name].ndim != 4:
        raise LimnerError(
            f"it lacks the convolution '{name.partition(':')[2]}', by which its sizes are known"
        )
    return int(tensors[name].shape[dimension])


FORMAT = Format("OpenAI dVAE", fits, read)
