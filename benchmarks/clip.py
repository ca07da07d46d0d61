"""How fast are pictures and captions embedded? ViT-B/32 beside open_clip and transformers, random weights.

    python benchmarks/clip.py --repeats 5

Rows a second at batches of 1 and 64, captions of 77 tokens, in float32 and with weights in bfloat16, each the
median of interleaved repeats, as a ratio to the faster of the others in float32, their default. Alone on the
machine. Needs the packages of requirements-parity.txt.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from statistics import median
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from limner.clip import Clip
from limner.clip.model import vit_b_32

BATCHES = (1, 64)
Embed = Callable[[], Tensor]


def open_clip_models() -> ModuleType:
    """open_clip's file of models; torchvision, which it asks for and none of this uses, need not be there."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations is not None
    for end in ("", ".ops", ".ops.misc", ".transforms", ".transforms.functional"):
        sys.modules.setdefault(f"torchvision{end}", MagicMock())
    # A class that it asks whether layers are of; a module's attributes are unknown to mypy.
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = nn.BatchNorm2d  # type: ignore[attr-defined]
    models = ModuleType("open_clip_models")
    models.__path__ = list(package.submodule_search_locations)
    sys.modules["open_clip_models"] = models
    return importlib.import_module("open_clip_models.model")


def theirs() -> dict[str, nn.Module]:
    models = open_clip_models()
    vision = models.CLIPVisionCfg(layers=12, width=768, patch_size=32, image_size=224)
    text = models.CLIPTextCfg(context_length=77, vocab_size=49_408, width=512, heads=8, layers=12)
    return {
        "open_clip": models.CLIP(512, vision, text, quick_gelu=True).eval(),
        "transformers": transformers.CLIPModel(transformers.CLIPConfig(projection_dim=512)).eval(),
    }


def embedders(name: str, model: Any, pictures: Tensor, ids: Tensor) -> dict[str, Embed]:
    """How each library is asked for both."""
    if name == "transformers":
        return {
            "pictures": lambda: model.get_image_features(pixel_values=pictures),
            "captions": lambda: model.get_text_features(input_ids=ids),
        }
    if name == "open_clip":
        return {
            "pictures": lambda: model.encode_image(pictures),
            "captions": lambda: model.encode_text(ids),
        }
    return {
        "pictures": lambda: model.encode_image(pictures).pooled,
        "captions": lambda: model.encode_text(ids).pooled,
    }


def seconds(embed: Embed, calls: int) -> float:
    with torch.inference_mode():
        began = time.perf_counter()
        for _ in range(calls):
            embed()
        return (time.perf_counter() - began) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    models = {"limner": Clip(vit_b_32()).eval(), **theirs()}
    half = Clip(vit_b_32()).eval().bfloat16()
    table = Table(title=f"rows a second, median of {repeats}; {torch.get_num_threads()} threads")
    for column in ("what", "batch", "limner", "open_clip", "transformers", "ratio", "limner bf16", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what in ("pictures", "captions"):
        for batch in BATCHES:
            pictures = torch.randn(batch, 3, 224, 224)
            ids = torch.randint(1, 49_000, (batch, 77))
            ids[:, -1] = 49_407
            asked = [(name, False) for name in models] + [("limner", True)]
            taken: dict[tuple[str, bool], list[float]] = {one: [] for one in asked}
            calls = 1 if batch > 1 else 8
            for number in range(repeats + 1):
                for name, bf16 in asked:
                    model, seen = (half, pictures.bfloat16()) if bf16 else (models[name], pictures)
                    found = seconds(embedders(name, model, seen, ids)[what], calls)
                    if number:  # the first of all warms up
                        taken[name, bf16].append(found)
            rate = {one: batch / median(found) for one, found in taken.items()}
            best = max(rate["open_clip", False], rate["transformers", False])
            fp32 = [f"{rate[name, False]:.1f}" for name in models]
            ours, halved = rate["limner", False], rate["limner", True]
            ratios = f"{ours / best:.2f}×", f"{halved / best:.2f}×"
            table.add_row(what, str(batch), *fp32, ratios[0], f"{halved:.1f}", ratios[1])
    Console().print(table)


if __name__ == "__main__":
    main()
