"""Colours with names: what a drawing is mostly made of, and the grounds it can be laid on.

A pixel takes the name of the nearest of a few dozen landmark colours in OKLab, where distances agree with
the eye (Ottosson 2020, "A perceptual color space for image processing").
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

GROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (16, 16, 18),
    "grey": (150, 154, 160),
    "light grey": (222, 225, 229),
    "pale blue": (198, 224, 245),
    "blue": (58, 110, 190),
    "pink": (248, 200, 216),
    "yellow": (252, 224, 110),
    "pale green": (204, 232, 200),
    "green": (70, 140, 82),
    "beige": (238, 224, 200),
    "lavender": (216, 206, 240),
    "orange": (244, 160, 82),
    "dark blue": (28, 40, 84),
}
"""Ground colours (sRGB, 0 to 255) by the name that captions use."""

LANDMARKS: dict[str, str] = {
    "red": "e53935 c62828 f44336 ff0000 dd2e44 be1931 a0041e b71c1c f8312f ca0b4a 8b0000 f85c50 e05a50",
    "orange": "ff9800 f4900c f57c00 ff6d00 ff822d ffa726 ff7f00 e65100 f09022 f8a868 e8a45e f4946c",
    "yellow": "ffac33 ffb02e ffb636 ffcc4d ffeb3b fdd835 fcc21b fbc02d ffd93b fcd53f fff176 ffff00 "
    "fff9c4 f9c23c e0c020 f8d98a",
    "green": "4caf50 77b255 3e721d 00a000 5c913b 2e7d32 8bc34a 00d26a a6d388 c5e1a5 1b5e20 44911b "
    "86d72f 689f38 109868 48a878 98d8b8 58b888 386848 5a8668 067a56 68c898",
    "teal": "009688 26a69a 00897b 4db6ac 80cbc4 00796b 008080 0097a7 40d8d8 c8f4ea 18b8a8",
    "blue": "2196f3 1565c0 0d47a1 55acee 3b88c3 226699 bbdefb 0074ba 26c9fc 81d4fa 4fc3f7 bdddf4 "
    "0000ff 3f51b5 1a237e 5c6bc0 00a6ed 8fcaf9 0fc8e8 4cc8ea 58b8d8 8ac6da 70b4c8 4a8698 "
    "98c8d8 c0f4f8 d6e6f8 206080 28e8f8 58e8f8",
    "purple": "9c27b0 673ab7 aa8ed6 744eaa 7b1fa2 b39ddb 9266cc 8d65c5 4a148c ce93d8 800080 d1c4e9 "
    "e6dcf8 5a3a6a 483468 482858 6a5898 7a6098",
    "pink": "f48fb1 ff80ab e91e63 ea596e f4abba ff8ba7 ffa7c0 f8bbd0 ff6dc6 f70a8d fcc8dc ec407a "
    "e6b0c8 fbe0f4 e89888 d88890 d89898",
    "brown": "795548 6d4c41 4e342e 8d6e63 a0522d 915a3c 662113 c1694f a56953 6d4534 b55e19 8c5a2b "
    "3e2723 bf6952 a8862a c88464",
    "beige": "f5deb3 ffe0b2 ffdcb4 f7dece e0c9a6 d2b48c ffcaa8 efe6d4 e2c6a7 d5ab88 fadcbc d89a7c d0a088",
    "black": "000000 212121 292f33 31373d 1c1c1c 0a0a14 201430",
    "grey": "9e9e9e 757575 616161 bdbdbd 546e7a 66757f 99aab5 ccd6dd b0bec5 d3d3d3 455a64 cfd8dc "
    "90a4ae 4a4a4a 78909c c8c8d4 d6ccd8 9a98a8 5a5868",
    "white": "ffffff f5f5f5 eef2f5 f5f8fa eceff1 fafafa e8e8e8 e4e9ee f4f4e8",
}
"""Landmark colours (sRGB, hexadecimal) of each basic name; many are the sets' own paints."""

NAMES: tuple[str, ...] = tuple(LANDMARKS)


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB in [0, 1], shape (..., 3), to OKLab of the same shape."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _RGB_TO_LMS.T)
    lab: NDArray[np.float64] = cones @ _LMS_TO_LAB.T
    return lab


_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKLab of shape (..., 3) back to sRGB, clipped to [0, 1]; the inverse of `oklab`."""
    cones = (lab @ np.linalg.inv(_LMS_TO_LAB).T) ** 3
    linear = (cones @ np.linalg.inv(_RGB_TO_LMS).T).clip(0, 1)
    rgb: NDArray[np.float64] = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return rgb


@cache
def _landmarks() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Landmarks in OKLab, (L, 3), and the index into NAMES that each belongs to, (L,)."""
    paints = [(index, paint) for index, name in enumerate(NAMES) for paint in LANDMARKS[name].split()]
    rgb = np.array([[int(paint[i : i + 2], 16) for i in (0, 2, 4)] for _, paint in paints]) / 255
    return oklab(rgb), np.array([index for index, _ in paints])


def shares(rgba: NDArray[np.uint8]) -> dict[str, float]:
    """The share of the drawn area, by opacity, that each basic colour takes; empty for an empty picture.

    `rgba`: (height, width, 4), 0 to 255, alpha not premultiplied.
    """
    if rgba.ndim != 3 or rgba.shape[-1] != 4:
        raise ValueError(f"rgba must have shape (height, width, 4), got {rgba.shape}")
    pixels = rgba.reshape(-1, 4)
    pixels = pixels[pixels[:, 3] > 32]
    if len(pixels) == 0:
        return {}
    # Few paints, many pixels: name each of the paints, on a 5-bit grid, once.
    grid = pixels[:, :3].astype(np.int64) >> 3
    _, inverse = np.unique(grid @ np.array([1024, 32, 1]), return_inverse=True)
    weight = np.bincount(inverse, weights=pixels[:, 3].astype(np.float64))
    paint = np.stack(
        [np.bincount(inverse, weights=pixels[:, c] * (pixels[:, 3] / weight[inverse])) for c in range(3)], -1
    )
    marks, owner = _landmarks()
    distance = np.square(oklab(paint / 255)[:, None] - marks[None]).sum(-1)
    named = np.bincount(owner[distance.argmin(-1)], weights=weight, minlength=len(NAMES)) / weight.sum()
    return {name: float(share) for name, share in zip(NAMES, named, strict=True)}


def dominant_colours(rgba: NDArray[np.uint8], *, least: float = 0.08, most: int = 3) -> list[str]:
    """The names of the colours that fill a drawing, largest area first.

    A colour is named when it covers the share `least` or more; at most `most` are named, and the largest
    always is. Shapes and errors as in `shares`.
    """
    ranked = sorted(shares(rgba).items(), key=lambda item: -item[1])
    return [
        name
        for rank, (name, share) in enumerate(ranked[:most])
        if share >= least or (rank == 0 and share > 0)
    ]
