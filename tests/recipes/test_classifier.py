"""Classifiers on a tiny CLIP: what it reads once is kept, and what is trained is whole in its folder."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.clip.classifiers import ClassifierConfig
from limner.errors import LimnerError
from limner.pipelines.classifying import Classifying
from limner.recipes import classifier

CLIP = ClipConfig(
    vision=VisionConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
    text=TextConfig(context=32, vocabulary=600, width=24, layers=1, heads=2),
    embedding=16,
    activation="quick_gelu",
)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (128, 128, 128)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The folder of a CLIP that was never trained."""
    folder: Path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    checkpoint.save(folder, Clip(CLIP).state_dict(), CLIP)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Flat pictures, each with a caption that fits and one that does not."""
    folder: Path = tmp_path_factory.mktemp("pairs")
    rows, names = [], list(COLOURS)
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), COLOURS[name]).save(folder / f"{name}.png")
        other = names[number - 1]
        for colour, label in ((name, "fits"), (other, "wrong")):
            rows.append({"file": f"{name}.png", "caption": f"a {colour} ground", "label": label})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tiny(steps: int = 2) -> classifier.ClassifierRecipe:
    toy = classifier.toy()
    training = dataclasses.replace(toy.train, steps=steps, batch=8, warmup=0, save_every=steps)
    return dataclasses.replace(toy, hidden=16, width=16, layers=1, heads=2, train=training)


def run(kind: classifier.Kind, out: Path, *, clip: Path, pairs: Path, **more: object) -> Path:
    options = {"recipe": tiny(), "resume": False} | more
    return classifier.run(folders=[pairs], out=out, device="cpu", clip=clip, kind=kind, **options)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_a_classifier_is_whole_in_its_folder(tmp_path, clip, pairs, kind):
    model = run(kind, tmp_path / "out", clip=clip, pairs=pairs)
    config, _ = checkpoint.load(model, ClassifierConfig)
    assert config.labels == ("fits", "wrong")
    found = Classifying.load(tmp_path / "out")
    (_, state), kept = checkpoint.load(clip, ClipConfig), found.clip.state_dict()
    for name, value in state.items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=0)
    images = [Image.new("RGB", (20, 12), colour) for colour in COLOURS.values()]
    captions = ["a red ground", "a longer caption of a green ground", "blue", "a grey ground"]
    answers = found.classify(images, captions)
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(answers[2:3], found.classify(images[2:3], captions[2:3]))
    with pytest.raises(ValueError, match="images, captions: 4 and 1; give as many of each"):
        found.classify(images, captions[:1])


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_batches_are_what_a_pipeline_would_read(tmp_path, clip, pairs, kind, monkeypatch):
    """What was kept is what CLIP says, to half precision, beside the right label."""
    held = []
    monkeypatch.setattr(classifier, "train", lambda *given, **_: held.append(given))
    run(kind, tmp_path / "out", clip=clip, pairs=pairs)
    _, _, batches = held[0]
    batch = batches(0, range(40))
    assert set(batch.labels.tolist()) == {0, 1}
    again = batches(0, range(10, 12))
    torch.testing.assert_close(again.labels, batch.labels[10:12])
    torch.testing.assert_close(again.pairs.pictures, batch.pairs.pictures[10:12])
    monkeypatch.undo()
    run(kind, tmp_path / "other", clip=clip, pairs=pairs)
    reader = Classifying.load(tmp_path / "other")
    flat = torch.tensor(list(COLOURS.values())).float()[:, :, None, None].expand(4, 3, 8, 8) / 127.5 - 1
    looked = reader.looked_at(flat)
    said = reader.read(reader.ids([f"a {name} ground" for name in COLOURS]))

    def nearest(rows: torch.Tensor, among: torch.Tensor) -> list[int]:
        distance = torch.cdist(rows.flatten(1), among.flatten(1))
        assert distance.amin(dim=1).max() < 0.05
        return distance.argmin(dim=1).tolist()

    pooled = kind == "mlp"
    unit = torch.nn.functional.normalize
    pictures = nearest(batch.pairs.pictures, unit(looked.pooled) if pooled else looked.tokens)
    length = batch.pairs.captions.shape[1]
    captions = nearest(batch.pairs.captions, unit(said.pooled) if pooled else said.tokens[:, :length])
    right = [int(picture != caption) for picture, caption in zip(pictures, captions, strict=True)]
    assert right == batch.labels.tolist()


def test_what_clip_has_read_is_not_read_again(tmp_path, clip, pairs, monkeypatch):
    out = tmp_path / "out"
    run("mlp", out, clip=clip, pairs=pairs)
    kept = sorted(path.name for path in out.glob("*.npy"))
    assert len(kept) == 2

    def looked(*_: object) -> None:
        raise AssertionError("looked at once more")

    with monkeypatch.context() as patched:
        patched.setattr(Clip, "encode_image", looked)
        patched.setattr(Clip, "encode_text", looked)
        run("mlp", out, clip=clip, pairs=pairs, recipe=tiny(4), resume=True)
    # Of another CLIP it is other numbers, under another name.
    torch.manual_seed(1)
    checkpoint.save(tmp_path / "clip", Clip(CLIP).state_dict(), CLIP)
    run("mlp", tmp_path / "more", clip=tmp_path / "clip", pairs=pairs)
    (other,) = (path for path in (tmp_path / "more").glob("mlp_pictures*.npy"))
    assert other.name not in kept
    (first,) = (path for path in out.glob("mlp_pictures*.npy"))
    assert not np.allclose(np.load(other), np.load(first))


def test_training_goes_on_from_weights(tmp_path, clip, pairs):
    first = run("transformer", tmp_path / "first", clip=clip, pairs=pairs)
    still = tiny(1)
    still = dataclasses.replace(still, train=dataclasses.replace(still.train, learning_rate=1e-30))
    again = run("transformer", tmp_path / "again", clip=clip, pairs=pairs, recipe=still, init_from=first)
    (_, before), (_, after) = (checkpoint.load(folder, ClassifierConfig) for folder in (first, again))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"init_from is .*, of another network .*\(head is MlpConfig"):
        run(
            "transformer", tmp_path / "other", clip=clip, pairs=pairs, init_from=mlp_of(tmp_path, clip, pairs)
        )
    assert not (tmp_path / "other").exists()


def mlp_of(folder: Path, clip: Path, pairs: Path) -> Path:
    return run("mlp", folder / "mlp", clip=clip, pairs=pairs)


def test_a_folder_without_labels_is_refused_before_anything_is_written(tmp_path, clip):
    folder = tmp_path / "plain"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "a.txt").write_text("a black square")
    with pytest.raises(LimnerError, match=r"0 different labels, .* give every row of captions"):
        run("mlp", tmp_path / "out", clip=clip, pairs=folder)
    assert sorted(os.listdir(tmp_path)) == ["plain"]


@pytest.mark.parametrize("missing", ["model", "clip"])
def test_what_is_no_classifier_is_refused(tmp_path, clip, pairs, missing):
    run("mlp", tmp_path, clip=clip, pairs=pairs)
    (tmp_path / missing / "config.json").unlink()
    with pytest.raises(LimnerError, match=f"holds no {missing}: give OUT of `limner train classifier`"):
        Classifying.load(tmp_path)
