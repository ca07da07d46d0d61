"""DALLE2-pytorch's decoder: recognised and told of, and not computed here.

Its U-Nets are of another make than limner's (several kernels side by side at the start, attention within
residual blocks, skips that are joined in several ways), with some thirty choices that weights tell in part.
"""

import re

from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened

PREFIX = "model."
UNET = re.compile(r"unets\.(\d+)\.to_time_hiddens\.1\.weight")


def fits(contents: Contents) -> bool:
    """U-Nets that are numbered, one of which makes something of a time."""
    return any(UNET.fullmatch(name) for name in contents.under(PREFIX).tensors)


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """No part; what is known of each U-Net, and why it is of no use here."""
    inside = contents.under(PREFIX)
    told = contents.said.get("config", {})
    told = told.get("decoder", told) if isinstance(told, dict) else {}
    sizes = told.get("image_sizes") or []
    numbers = sorted(int(found[1]) for name in inside.tensors if (found := UNET.fullmatch(name)))
    version = contents.said.get("version")
    return Opened(
        format=f"DALLE2-pytorch decoder{f', version {version}' if version else ''}",
        contents=contents,
        parts=(),
        assumed=(),
        beyond=tuple(_told(inside, number, sizes) for number in numbers),
    )


def _told(contents: Contents, number: int, sizes: list[object]) -> str:
    unet = f"unets.{number}."
    tensors = {name: t for name, t in contents.tensors.items() if name.startswith(unet)}
    seen = [t.shape[1] for name, t in tensors.items() if name.startswith(f"{unet}init_conv.") and t.ndim == 4]
    count = sum(tensor.numel() for tensor in tensors.values())
    known = [
        f"{count:,} numbers",
        f"{contents.shape(f'{unet}to_time_hiddens.1.weight')[1]} channels at first",
        f"{contents.numbered(f'{unet}downs.')} levels",
        *([f"{sizes[number]} pixels wide"] if number < len(sizes) else []),
        *(["told of the caption's tokens"] if f"{unet}text_to_cond.weight" in tensors else []),
        *(["enlarges"] if seen and seen[0] > 3 else []),
    ]
    return f"U-Net {number} ({', '.join(known)}) is of a make that limner does not compute"


FORMAT = Format("DALLE2-pytorch decoder", fits, read)
