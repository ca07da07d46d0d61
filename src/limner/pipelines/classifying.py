"""What a picture and a caption are together, by a trained classifier and the CLIP that it stands on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from limner import checkpoint
from limner.clip import Clip, ClipConfig
from limner.clip.classifiers import (
    ClassifierConfig,
    MlpClassifier,
    TokenClassifier,
    Tokens,
    classifier,
    pooled,
    tokens,
)
from limner.clip.model import trimmed
from limner.clip.tower import Features
from limner.errors import LimnerError
from limner.pipelines.devices import device_named
from limner.pipelines.loading import loaded
from limner.pipelines.pictures import seen
from limner.text import ClipTokenizer

AT_ONCE = 64


@dataclass(frozen=True)
class Classifying:
    """A classifier, its CLIP, and the labels in the order of its answers.

    `clip_digest`: which CLIP it stands on.
    """

    clip: Clip
    tokenizer: ClipTokenizer
    network: MlpClassifier | TokenClassifier
    labels: tuple[str, ...]
    clip_digest: str

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "Classifying":
        """From OUT of `limner train classifier`; LimnerError where something of it is missing."""
        for part in ("model", "clip"):
            if not (folder / part / checkpoint.CONFIG).is_file():
                raise LimnerError(f"{folder} holds no {part}: give OUT of `limner train classifier`")
        place = device_named(device)
        clip = loaded(folder / "clip", ClipConfig, Clip, place)
        network = loaded(folder / "model", ClassifierConfig, classifier, place)
        config, _ = checkpoint.load(folder / "model", ClassifierConfig)
        tokenizer = ClipTokenizer(clip.config.text.vocabulary)
        return cls(clip, tokenizer, network, config.labels, checkpoint.digest(folder / "clip"))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.clip.log_scale.device

    @torch.inference_mode()
    def classify(self, images: Sequence[Image.Image], captions: Sequence[str]) -> Float[Tensor, "b n"]:
        """Probabilities of the labels for each picture with its caption, on the CPU.

        Pictures of any size and shape; transparent ones are seen on white. Raises ValueError for none, or
        for another number of captions.
        """
        if not images or len(images) != len(captions):
            raise ValueError(
                f"images, captions: {len(images)} and {len(captions)}; give as many of each, at least one"
            )
        side = self.clip.config.vision.resolution
        found = []
        for start in range(0, len(images), AT_ONCE):
            pictures = seen(images[start : start + AT_ONCE], side)
            ids = self.ids(captions[start : start + AT_ONCE])
            found.append(self.logits(self.looked_at(pictures), self.read(ids), ids).softmax(dim=1))
        return torch.cat(found).float().cpu()

    def ids(self, captions: Sequence[str]) -> Int[Tensor, "b l"]:
        """Captions as token ids, without the padding that all of them have."""
        return trimmed(self.tokenizer(captions, self.clip.config.text.context))

    @torch.inference_mode()
    def looked_at(self, pictures: Float[Tensor, "b 3 h w"]) -> Features:
        """What CLIP makes of pictures in [-1, 1], a few at a time."""
        parts = [self.clip.encode_image(part.to(self.device)) for part in pictures.split(AT_ONCE)]
        return joined(parts)

    @torch.inference_mode()
    def read(self, ids: Int[Tensor, "b l"]) -> Features:
        """What CLIP makes of captions, a few at a time."""
        return joined([self.clip.encode_text(part.to(self.device)) for part in ids.split(AT_ONCE)])

    @torch.inference_mode()
    def logits(self, looked: Features, read: Features, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b n"]:
        """The classifier's answers to what CLIP made of both, on the CPU, a few at a time."""
        if isinstance(self.network, MlpClassifier):
            return self.network(pooled(looked, read)).float().cpu()
        pairs = tokens(looked, read, ids.to(self.device))
        parts = zip(*(rows.split(AT_ONCE) for rows in pairs), strict=True)
        return torch.cat([self.network(Tokens(*part)) for part in parts]).float().cpu()


def joined(parts: Sequence[Features]) -> Features:
    """Features of a few at a time as those of all."""
    return Features(torch.cat([part.pooled for part in parts]), torch.cat([part.tokens for part in parts]))
