"""The networks of GLIDE that lie in a folder: limner's own checkpoints, or the files that were released.

Released networks are opened where they lie (`limner.formats.glide`), or were made folders of limner's own by
`limner convert`; those have no words beside them, for theirs are GPT-2's.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import torch

from limner import checkpoint
from limner.clip import Clip, ClipConfig
from limner.errors import LimnerError
from limner.formats import Opened, Part, network, opened, usable
from limner.glide import Glide, GlideConfig
from limner.pipelines.loading import digest_of, loaded, placed
from limner.text import CLIP_VOCAB_SIZE, GPT2_VOCAB_SIZE, CaptionTokenizer, Gpt2Tokenizer

# What every line that was trained here has.
PARTS = ("base", "upsampler", "clip")
VOCABULARY = "bpe.json"
MENDING = "_inpaint"
# What was released, by the names of its files.
RELEASED = {
    "base": "base.pt",
    "upsampler": "upsample.pt",
    "base_inpaint": "base_inpaint.pt",
    "upsampler_inpaint": "upsample_inpaint.pt",
    "clip": "clip_image_enc.pt and clip_text_enc.pt",
}

Words: TypeAlias = CaptionTokenizer | Gpt2Tokenizer


@dataclass(frozen=True)
class OwnParts:
    """Folders of limner's own format, one for each network, each that reads words with its vocabulary."""

    folder: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What is there, and what has to be."""
        there = [name for name in RELEASED if (self.folder / name).is_dir()]
        return tuple(dict.fromkeys([*there, *(PARTS if self.trained_here else ())]))

    @property
    def trained_here(self) -> bool:
        """Whether the words are limner's own as well."""
        return any((self.folder / name / VOCABULARY).exists() for name in RELEASED)

    def glide(self, name: str, device: torch.device) -> Glide:
        """A base or an upsampler."""
        return loaded(self.folder / name, GlideConfig, Glide, device)

    def clip(self, device: torch.device) -> Clip:
        """The CLIP that guides."""
        return loaded(self.folder / "clip", ClipConfig, Clip, device)

    def words(self, name: str, vocabulary: int) -> Words:
        """The words that the network of this name reads."""
        path = self.folder / name / VOCABULARY
        if vocabulary == GPT2_VOCAB_SIZE and not path.exists():
            return Gpt2Tokenizer()
        return CaptionTokenizer.load(path)

    def digest(self, names: Sequence[str]) -> str:
        """Twelve hexadecimal digits for the weights of these parts and their words together."""
        words = [self.folder / name / VOCABULARY for name in names]
        return digest_of(
            [
                *(checkpoint.digest(self.folder / name) for name in names),
                *(hashlib.sha256(path.read_bytes()).hexdigest() for path in words if path.exists()),
            ]
        )


@dataclass(frozen=True)
class ReleasedParts:
    """Files as OpenAI released them, each mapped until it is asked for."""

    found: Opened

    @property
    def names(self) -> tuple[str, ...]:
        """What is there."""
        return tuple(part.name for part in self.found.parts)

    def glide(self, name: str, device: torch.device) -> Glide:
        """A base or an upsampler."""
        module = network(self._whole(name))
        assert isinstance(module, Glide)
        return placed(module, device)

    def clip(self, device: torch.device) -> Clip:
        """The CLIP that guides; LimnerError for one that reads fewer words than CLIP's own."""
        module = network(self._whole("clip"))
        assert isinstance(module, Clip)
        if (words := module.config.text.vocabulary) < CLIP_VOCAB_SIZE:
            raise LimnerError(
                f"{self.found.contents.path}: its CLIP reads {words} kinds of tokens, and CLIP's own "
                f"vocabulary has {CLIP_VOCAB_SIZE}: its words are another tokenizer's, which is not here"
            )
        return module.to(device)

    def words(self, name: str, vocabulary: int) -> Words:
        """GPT-2's; LimnerError for a network that reads another number of them."""
        if vocabulary != GPT2_VOCAB_SIZE:
            raise LimnerError(
                f"{self.found.contents.path}: the {name} knows {vocabulary} words, and GPT-2's are "
                f"{GPT2_VOCAB_SIZE}: its words are another tokenizer's, which is not here"
            )
        return Gpt2Tokenizer()

    def digest(self, names: Sequence[str]) -> str:
        """Twelve hexadecimal digits for the numbers of these parts, whatever file they are kept in."""
        contents, parts = self.found.contents, {part.name: part for part in self.found.parts}
        states = [parts[name].taken.state for name in names]
        return digest_of([replace(contents, tensors=state, files=()).digest() for state in states])

    def _whole(self, name: str) -> Part:
        """A part, if it came out even. What is wanted besides is so only where it is CLIP's."""
        chosen = tuple(part for part in self.found.parts if part.name == name)
        wanted = self.found.wanted if name == "clip" else ()
        return usable(replace(self.found, parts=chosen, wanted=wanted)).parts[0]


def parts_at(folder: Path) -> OwnParts | ReleasedParts:
    """What of GLIDE lies in a folder. LimnerError where there is none, or too little to paint."""
    if any(checkpoint.is_ours(folder / name) for name in RELEASED):
        parts: OwnParts | ReleasedParts = OwnParts(folder)
    elif not folder.exists():
        raise LimnerError(f"no weights at {folder}: give a folder that holds {', '.join(PARTS)}")
    else:
        found = opened(folder)
        if not any(isinstance(part.config, GlideConfig) for part in found.parts):
            raise LimnerError(
                f"{folder} is {found.format}, and no GLIDE: give a folder with both its networks"
            )
        parts = ReleasedParts(found)
    for name in PARTS[:2]:
        if not {name, name + MENDING} & set(parts.names):
            raise LimnerError(
                f"{folder} holds {', '.join(parts.names)} and no {name}, and GLIDE paints with a base and an "
                f"upsampler: put both there ({RELEASED['base']}, {RELEASED['upsampler']})"
            )
    return parts


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits for the weights of all parts of a line and their words together."""
    return OwnParts(folder).digest(PARTS)
