"""What is loaded when somebody first looks, and then kept: autoencoders, and the sample as CLIP sees it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.pipelines.autoencoders import Autoencoder, load_autoencoders
from limner.pipelines.embedding import Reader, pictured
from limner.pipelines.pictures import open_picture

# One caption a drawing is enough to say what it shows, and the first is the plainest.
STYLE = "noto"


@dataclass(frozen=True)
class Neighbour:
    """A drawing of the sample, what it shows, and its cosine with what was looked for."""

    name: str
    image: Image.Image
    cosine: float


class Known:
    """Kept by the page; used by the one thread that paints, so that nothing is loaded twice."""

    def __init__(self) -> None:
        self._embedded: dict[str, Float[Tensor, "n d"]] = {}

    @cached_property
    def autoencoders(self) -> list[Autoencoder]:
        """Those that ship."""
        return load_autoencoders()[0]

    def autoencoder(self, name: str) -> Autoencoder | None:
        """One of them by its name."""
        return next((one for one in self.autoencoders if one.name == name), None)

    @cached_property
    def sample(self) -> list[tuple[str, Path]]:
        """Drawings of the shipped sample in one style: what each shows, and its file."""
        records = read(sample_dir()).records
        return [(str(one.facts["name"]), one.file) for one in records if one.facts.get("style") == STYLE]

    def nearest(self, reader: Reader, z: Float[Tensor, "d"], count: int) -> tuple[Neighbour, ...]:
        """The drawings whose embeddings by this CLIP are nearest to a unit vector `z`, nearest first."""
        if reader.digest not in self._embedded:
            images = [open_picture(file) for _, file in self.sample]
            self._embedded[reader.digest] = pictured(reader.clip, images).float()
        cosines = self._embedded[reader.digest] @ z.to(self._embedded[reader.digest])
        best = torch.topk(cosines, min(count, len(cosines)))
        return tuple(
            Neighbour(self.sample[row][0], open_picture(self.sample[row][1]), cosine)
            for row, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
