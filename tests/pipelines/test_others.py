"""What CLIP is asked for, asked of somebody else's: a file in another format does as well as our folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from limner.cli import main
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.errors import LimnerError
from limner.formats import convert, opened
from limner.formats.openai_clip import places
from limner.formats.places import give
from limner.pipelines import classify, rank
from limner.pipelines.embedding import reader

CONFIG = ClipConfig(
    vision=VisionConfig(resolution=16, patch=8, width=64, layers=1, heads=1),
    text=TextConfig(context=32, vocabulary=49_408, width=64, layers=1, heads=1),
    embedding=16,
    activation="quick_gelu",
)
PICTURES = [Image.new("RGB", (20, 30), colour) for colour in ("red", "blue", "white")]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("theirs") / "clip.pt"
    torch.save(give(places(CONFIG), Clip(CONFIG).state_dict()), path)
    return path


def test_scores_and_classes_are_those_of_the_converted_folder(file: Path, tmp_path: Path) -> None:
    (folder,) = convert(opened(file), tmp_path / "ours")
    scores = rank("a red thing", PICTURES, weights=file)
    assert scores == pytest.approx(rank("a red thing", PICTURES, weights=folder), abs=1e-6)
    assert len(set(scores)) == 3
    (one, *_), (other, *_) = (classify(PICTURES, ["red", "blue"], weights=path) for path in (file, folder))
    assert one == pytest.approx(other, abs=1e-5)


def test_the_short_name_is_of_the_numbers(file: Path, tmp_path: Path) -> None:
    """The same weights in another kind of file are the same weights."""
    save_file(dict(opened(file).contents.tensors), tmp_path / "x")
    name = reader(file, "cpu").digest
    assert len(name) == 12
    assert reader(tmp_path / "x", "cpu").digest == name
    changed = {key: tensor.clone() for key, tensor in opened(file).contents.tensors.items()}
    changed["ln_final.bias"][3] += 1
    save_file(changed, tmp_path / "y")
    assert reader(tmp_path / "y", "cpu").digest != name


def test_the_command_takes_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PICTURES[0].save(tmp_path / "a.png")
    assert main(["rank", "red", str(tmp_path / "a.png"), "--weights", str(file)]) == 0
    assert capsys.readouterr().out.endswith("a.png\n")
    save_file({"x": torch.zeros(1)}, tmp_path / "none")
    assert main(["rank", "red", str(tmp_path / "a.png"), "--weights", str(tmp_path / "none")]) == 2
    assert "is no format that limner knows" in capsys.readouterr().err


def test_words_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    config = replace(CONFIG, text=replace(CONFIG.text, vocabulary=32_000))
    save_file(give(places(config), Clip(config).state_dict()), tmp_path / "x")
    with pytest.raises(LimnerError, match="reads 32000 kinds of tokens, and CLIP's own vocabulary has 49408"):
        reader(tmp_path / "x", "cpu")


def test_what_holds_no_clip_is_refused(tmp_path: Path) -> None:
    widths = (8, 16, 32, 64)
    state: dict[str, torch.Tensor] = {}
    for half, first, colours in (("encoder", 3, 7), ("decoder", 20, 1)):
        layers = {"blocks.input": (8 if half == "encoder" else 12, first, colours)}
        before, rows = (8, widths) if half == "encoder" else (12, widths[::-1])
        for group, width in enumerate(rows, start=1):
            for block in (1, 2):
                place = f"blocks.group_{group}.block_{block}"
                if before != width:
                    layers[f"{place}.id_path"] = (width, before, 1)
                inside = [before, *[width // 4] * 3, width]
                kernels = (3, 3, 3, 1) if half == "encoder" else (1, 3, 3, 3)
                for number, kernel in enumerate(kernels):
                    layers[f"{place}.res_path.conv_{number + 1}"] = (
                        inside[number + 1],
                        inside[number],
                        kernel,
                    )
                before = width
        layers["blocks.output.conv"] = (20 if half == "encoder" else 6, before, 1)
        state = {
            f"{name}.{end}": torch.zeros(shape[0]) if end == "b" else torch.zeros(*shape, shape[2])
            for name, shape in layers.items()
            for end in ("w", "b")
        }
        save_file(state, tmp_path / f"{half}.safetensors")
    with pytest.raises(LimnerError, match="is OpenAI dVAE, which holds no CLIP"):
        reader(tmp_path, "cpu")
