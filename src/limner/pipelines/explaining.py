"""Why CLIP says that a picture goes with words: what each of its patches adds to the score."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limner.clip import integrated_gradients
from limner.pipelines.embedding import Reader, reader, worded
from limner.pipelines.pictures import WHITE, seen
from limner.pipelines.settings import checked_prompt
from limner.pipelines.stages import to_images
from limner.pipelines.words import checked_words, told_of_unknown

# What speaks for the words and what against them; these two stay apart for colour-blind eyes too.
FOR, AGAINST = (202, 0, 32), (5, 113, 176)
# How much of the colour is laid over the patch that counts most.
LAID = 0.8


@dataclass(frozen=True)
class Explanation:
    """What every patch adds to the score: `patches` (rows, columns) sum to `score` − `blank`.

    `score` is the cosine of picture and words, `blank` that of a white picture with them. `seen`: the picture
    as CLIP saw it. `weights`: the short name of the CLIP.
    """

    patches: NDArray[np.float32]
    score: float
    blank: float
    seen: Image.Image
    weights: str

    def heat(self, side: int) -> Image.Image:
        """The picture in grey, in red what speaks for the words, in blue what speaks against them."""
        most = float(np.abs(self.patches).max()) or 1.0
        smooth = Image.fromarray(self.patches / most).resize((side, side), Image.Resampling.BICUBIC)
        counts = np.clip(np.asarray(smooth), -1, 1)[..., None]
        grey = ImageOps.grayscale(self.seen.resize((side, side), Image.Resampling.LANCZOS))
        # Half-way to white, or black pictures would swallow both colours.
        pale = (np.asarray(grey)[..., None] + 255.0) / 2
        laid = LAID * np.abs(counts)
        mixed = (1 - laid) * pale + laid * np.where(counts > 0, FOR, AGAINST)
        return Image.fromarray(mixed.round().astype(np.uint8))


def explain(
    text: str, image: Image.Image, *, weights: Path | None = None, device: str = "cpu"
) -> Explanation:
    """Share the score that `rank` gives a picture out among the patches that CLIP reads it in.

    By integrated gradients from a white picture (Sundararajan et al. 2017), so the shares of all patches add
    up to what the picture has over white, and white patches have none. `weights`: a CLIP's folder, or a
    line's that holds one; the CLIP that ships without. Raises ValueError for words that are missing.
    """
    checked_prompt(text, "text")
    checked_words(text, "text")
    return explained(reader(weights, device), text, image)


def explained(read: Reader, text: str, image: Image.Image) -> Explanation:
    """The same by a CLIP that is loaded already, of words that were looked at."""
    told_of_unknown(read.tokenizer, [text])
    side = read.clip.config.vision.resolution
    white = Image.new("RGB", (side, side), WHITE)
    picture, blank = seen([image, white], side)
    place = read.clip.log_scale.device
    words = worded(read.clip, read.tokenizer, text).clone()
    found = integrated_gradients(read.clip, picture.to(place), words, blank=blank.to(place))
    return Explanation(
        patches=found.patches.float().cpu().numpy(),
        score=found.score,
        blank=found.blank,
        seen=to_images(picture[None])[0],
        weights=read.digest,
    )
