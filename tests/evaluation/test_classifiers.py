"""The study of classifiers: choices by hand, and the whole by its command, on what has learned nothing."""

import json
from pathlib import Path

import pytest
import torch

from limner import checkpoint
from limner.cli import main
from limner.clip import ClassifierConfig, Clip, MlpConfig, TextConfig, VisionConfig, classifier
from limner.clip.classifiers import token_config
from limner.clip.model import ClipConfig
from limner.data import scenes
from limner.data.labels import Labelled
from limner.data.pairs import write
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation import classifiers

CLIP = ClipConfig(
    vision=VisionConfig(resolution=16, patch=8, width=16, layers=1, heads=2),
    text=TextConfig(context=40, vocabulary=600, width=24, layers=1, heads=2),
    embedding=16,
    activation="quick_gelu",
)
LABELS = ("fits", "wrong colour", "wrong count", "wrong relation", "wrong thing")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    scenes.write(sample_dir(), folder / "scenes", count=2, size=16, tests=24, workers=1)
    return write(folder / "scenes", folder / "pairs")


def untrained(folder: Path, labels: tuple[str, ...] = LABELS, *, seed: int = 0) -> Path:
    """Both classifiers as training leaves them."""
    for way in classifiers.WAYS:
        torch.manual_seed(seed)
        clip = Clip(CLIP)
        mlp = MlpConfig(embedding=16, hidden=8, dropout=0.0)
        head = mlp if way == "mlp" else token_config(CLIP, width=16, layers=1, heads=2)
        config = ClassifierConfig(labels=labels, head=head)
        network = classifier(config)
        torch.nn.init.normal_(network.out.weight)
        checkpoint.save(folder / way / "clip", clip.state_dict(), CLIP)
        checkpoint.save(folder / way / "model", network.state_dict(), config)
    return folder


def test_of_two_captions_the_likelier_is_taken_and_a_tie_is_wrong():
    pairs = [
        Labelled(0, "a cat", "fits"),
        Labelled(0, "a dog", "wrong thing"),
        Labelled(0, "a red cat", "wrong colour"),
        Labelled(1, "a cup", "fits"),
        Labelled(1, "a hat", "wrong thing"),
        Labelled(2, "nothing fits this one", "wrong thing"),
    ]
    found = classifiers.told_apart(torch.tensor([0.5, 0.4, 0.6, 0.3, 0.3, 0.9]), pairs, seed=0)
    assert {label: (one.value, one.total) for label, one in found.items()} == {
        "wrong thing": (0.5, 2),
        "wrong colour": (0.0, 1),
    }


def test_who_is_right_is_counted_by_label():
    pairs = [Labelled(number // 2, str(number), LABELS[number % 2]) for number in range(6)]
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    found = classifiers.judged("mlp", logits, pairs, LABELS, 7, seed=0)
    assert found.right.value == pytest.approx(4 / 6)
    assert {label: one.value for label, one in found.by_label.items()} == {
        "fits": pytest.approx(2 / 3),
        "wrong colour": pytest.approx(2 / 3),
    }


def test_the_study_by_its_command(tmp_path, pairs):
    weights = untrained(tmp_path / "runs")
    asked = ("evaluate", "--study", "classifiers", "--data", pairs, "--weights", weights, "--out", tmp_path)
    assert main([*map(str, asked), "--device", "cpu"]) == 0
    found = json.loads((tmp_path / "classifiers.json").read_text())
    assert [one["way"] for one in found["answered"]] == ["zero-shot", "mlp", "transformer"]
    assert [one["parameters"] > 0 for one in found["answered"]] == [False, True, True]
    for one in found["answered"]:
        parts = one["by_label"].values()
        assert one["right"]["total"] == sum(part["total"] for part in parts)
        hits = sum(part["value"] * part["total"] for part in parts)
        assert one["right"]["value"] == pytest.approx(hits / one["right"]["total"])
    assert found["answered"][0]["by_label"]["fits"]["total"] == 24
    assert [one["way"] for one in found["chose"]] == [
        *("cosine", "zero-shot", "mlp", "transformer"),
        *("mlp, of another picture", "transformer, of another picture"),
    ]
    assert all(one["right"]["wrong thing"]["total"] == 24 for one in found["chose"])
    said = (tmp_path / "classifiers.md").read_text()
    assert f"Always the commonest label: right {100 * found['commonest']:.1f} %." in said


def test_labels_of_ones_own_have_no_choice_of_captions(tmp_path, pairs):
    labels = ("bad", "good")
    table = tmp_path / "data" / "captions.jsonl"
    table.parent.mkdir()
    for part in ("train", "test"):
        (table.parent / part).symlink_to((pairs / part).resolve())
    rows = [json.loads(row) for row in (pairs / "captions.jsonl").read_text().splitlines()]
    mine = [row | {"label": labels[row["label"] == "fits"]} for row in rows]
    table.write_text("".join(json.dumps(row) + "\n" for row in mine))
    weights = untrained(tmp_path / "runs", labels)
    found = json.loads(classifiers.run(weights, table.parent, tmp_path).with_suffix(".json").read_text())
    assert found["chose"] == []
    assert set(found["answered"][0]["by_label"]) == set(labels)
    with pytest.raises(LimnerError, match=r"has labels that training had not \(fits, wrong co"):
        classifiers.run(weights, pairs, tmp_path)


def test_classifiers_on_two_clips_are_not_compared(tmp_path, pairs):
    weights, other = untrained(tmp_path / "one"), untrained(tmp_path / "other", seed=1)
    (weights / "mlp").rename(tmp_path / "mlp")
    (other / "mlp").rename(weights / "mlp")
    with pytest.raises(LimnerError, match="differ in their labels or their CLIP: train both"):
        classifiers.run(weights, pairs, tmp_path)
