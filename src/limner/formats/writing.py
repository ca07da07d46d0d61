"""limner's own checkpoints in other people's formats, so that others can open ours."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limner import checkpoint
from limner.clip import ClipConfig, TextWithProjectionConfig
from limner.dalle2.decoder import DecoderConfig
from limner.dalle2.prior_diffusion import PriorConfig
from limner.dalle2.upsampler import UpsamplerConfig
from limner.errors import LimnerError
from limner.formats import diffusers_writing, huggingface_clip
from limner.formats.format import Opened
from limner.formats.opening import appearing, usable
from limner.text import ClipTokenizer

# What an unCLIP is made of, and the folder of each that limner keeps.
UNCLIP = {
    "text_encoder": TextWithProjectionConfig,
    "clip": ClipConfig,
    "prior": PriorConfig,
    "decoder": DecoderConfig,
    "upsampler": UpsamplerConfig,
}
# As diffusers calls files of weights, and transformers.
WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS = "model.safetensors"


def to_huggingface(source: Path | Opened, out: Path) -> Path:
    """A CLIP as Hugging Face's `CLIPModel` reads it, model.safetensors and config.json, in the folder `out`.

    `source`: limner's own checkpoint folder, or what was opened of somebody else's. Raises LimnerError for a
    checkpoint that is no CLIP, or has what theirs does not, and for an `out` that is there already.
    """
    if isinstance(source, Opened):
        clips = [part for part in usable(source).parts if isinstance(part.config, ClipConfig)]
        if not clips:
            raise LimnerError(f"{source.contents.path} is {source.format}, and CLIPModel is a CLIP's alone")
        config, state = clips[0].config, clips[0].taken.state
    else:
        config, state = checkpoint.load(source, ClipConfig)
    tensors, settings = huggingface_clip.written(config, state)
    with appearing(out) as waiting:
        checkpoint.write(waiting / TRANSFORMERS, tensors, metadata={"format": "pt"})
        _json(waiting / "config.json", settings)
    return out


def to_diffusers(source: Path | Opened, out: Path) -> Path:
    """An unCLIP as diffusers' `UnCLIPPipeline` reads it, a folder for each part, in the folder `out`.

    `source`: a folder of limner's own parts (text_encoder or clip, prior, decoder, upsampler), or what was
    opened of somebody else's. Raises LimnerError for one that lacks a part, or has what theirs does not.
    """
    parts = _unclip(source)
    where = source.contents.path if isinstance(source, Opened) else source
    lacks = [name for name in ("prior", "decoder", "upsampler") if name not in parts]
    if lacks or not parts.keys() & {"text_encoder", "clip"}:
        missing = " and ".join(lacks) or "tower that reads words"
        raise LimnerError(f"{where} has no {missing}: diffusers' UnCLIPPipeline is a whole unCLIP's")
    folders = diffusers_writing.written(parts)
    index: dict[str, Any] = {"_class_name": "UnCLIPPipeline", "tokenizer": ["transformers", "CLIPTokenizer"]}
    with appearing(out) as waiting:
        for name, folder in folders.items():
            index[name] = [folder.library, folder.kind]
            (waiting / name).mkdir()
            _json(waiting / name / folder.file, folder.settings)
            if folder.tensors:
                file = TRANSFORMERS if folder.library == "transformers" else WEIGHTS
                checkpoint.write(waiting / name / file, folder.tensors, metadata={"format": "pt"})
        reader = parts["text_encoder" if "text_encoder" in parts else "clip"][0]
        _tokenizer(waiting / "tokenizer", reader.text.vocabulary, reader.text.context)
        _json(waiting / "model_index.json", index)
    return out


def _unclip(source: Path | Opened) -> dict[str, tuple[Any, Mapping[str, Tensor]]]:
    """Config and state of each part that is there."""
    if isinstance(source, Opened):
        return {
            part.name: (part.config, part.taken.state)
            for part in usable(source).parts
            if isinstance(part.config, tuple(UNCLIP.values()))
        }
    return {
        name: checkpoint.load(source / name, kind)
        for name, kind in UNCLIP.items()
        if (source / name).is_dir()
    }


def _tokenizer(folder: Path, vocabulary: int, context: int) -> None:
    """CLIP's words as its tokenizer there keeps them."""
    words, merges = ClipTokenizer(vocabulary).tables()
    start, end = "<|startoftext|>", "<|endoftext|>"
    folder.mkdir()
    _json(folder / "vocab.json", words | {start: vocabulary - 2, end: vocabulary - 1})
    lines = ["#version: 0.2", *(f"{one} {other}" for one, other in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": context,
            "bos_token": start,
            "eos_token": end,
            "unk_token": end,
            "pad_token": end,
        },
    )


def _json(path: Path, settings: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
