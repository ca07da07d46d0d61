"""limner's own checkpoints in other people's formats, so that others can open ours."""

import json
from pathlib import Path

from safetensors.torch import save_file

from limner import checkpoint
from limner.clip import ClipConfig
from limner.formats import huggingface_clip
from limner.formats.opening import appearing


def to_huggingface(folder: Path, out: Path) -> Path:
    """A CLIP's checkpoint folder as Hugging Face's `CLIPModel` reads it: model.safetensors and config.json.

    Raises LimnerError for a checkpoint that is no CLIP, or has what theirs does not, and for an `out` that is
    there already.
    """
    config, state = checkpoint.load(folder, ClipConfig)
    tensors, settings = huggingface_clip.written(config, state)
    with appearing(out) as waiting:
        save_file(tensors, waiting / "model.safetensors", metadata={"format": "pt"})
        (waiting / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return out
