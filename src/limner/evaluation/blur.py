"""How much of a distance is of fine detail? The same measure as both real and painted grow blurred.

Ramesh et al. 2021, section 3.1 and figure 4: what DALL-E 1 gets wrong are details that its dVAE leaves out,
so with both sides blurred by a Gaussian it overtakes painters that get them right. There pictures have 256
pixels a side, so a radius here is of a picture of 256 pixels, and smaller for a smaller one.
"""

from collections.abc import Iterable, Iterator

from PIL import Image, ImageFilter

OF = 256


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """The picture under a Gaussian, whose deviation is `radius` pixels where it has 256 a side; on white.

    Pillow's Gaussian is three box blurs, as good as one to within what eyes and eight bits can tell.
    """
    if radius < 0:
        raise ValueError(f"radius is {radius}: give a number from 0")
    if image.mode != "RGB":
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    own = radius * image.width / OF
    return image.filter(ImageFilter.GaussianBlur(own)) if own else image


def all_blurred(images: Iterable[Image.Image], radius: float) -> Iterator[Image.Image]:
    """The same of pictures as they come."""
    return (blurred(image, radius) for image in images)
