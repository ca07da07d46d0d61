"""limner's own checkpoints in other people's formats, so that others can open ours."""

import json
from pathlib import Path

from safetensors.torch import save_file

from limner import checkpoint
from limner.clip import ClipConfig
from limner.errors import LimnerError
from limner.formats import huggingface_clip
from limner.formats.format import Opened
from limner.formats.opening import appearing, usable


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
        save_file(tensors, waiting / "model.safetensors", metadata={"format": "pt"})
        (waiting / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return out
