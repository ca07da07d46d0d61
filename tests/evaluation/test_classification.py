"""A labelled folder: its labels, shares and confusion by hand, and the picture of them."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from limner.errors import LimnerError
from limner.evaluation.classification import Classified, confusion_png, labelled, measured, plot
from limner.evaluation.intervals import wilson
from limner.pipelines.embedding import Reader
from limner.text import ClipTokenizer

CLASSIFIED = Classified(
    labels=("cat", "dog", "fox"),
    truth=torch.tensor([0, 0, 1, 2]),
    probabilities=torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.7, 0.2]]),
    broken={},
)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("fox/1.png", "cat/1.png", "red_apple/in/1.png", "cat/2.png", "5.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (50 * number, 90, 90)).save(tmp_path / name)
    return tmp_path


def test_shares_and_confusion_by_hand():
    # The third is a tie, which counts against CLIP.
    assert CLASSIFIED.top(1) == wilson(1, 4)
    assert CLASSIFIED.top(2) == wilson(3, 4)
    assert CLASSIFIED.top(3) == wilson(4, 4)
    assert (CLASSIFIED.chance(1), CLASSIFIED.chance(5)) == (pytest.approx(1 / 3), 1.0)
    assert CLASSIFIED.confusion().tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]


def test_the_picture_shows_every_pair():
    (axes,) = plot(CLASSIFIED).axes
    shown = axes.images[0].get_array()
    assert shown.tolist() == [[0.5, 0.5, 0], [1, 0, 0], [0, 1, 0]]
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["cat", "dog", "fox"]
    assert sorted(text.get_text() for text in axes.texts) == ["1"] * 4
    with Image.open(io.BytesIO(confusion_png(CLASSIFIED))) as picture:
        assert picture.format == "PNG"


def test_two_folders_of_one_label_are_refused(folder):
    (folder / "red apple").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "red apple" / "1.png")
    with pytest.raises(LimnerError, match="both of the label 'red apple': make them one folder"):
        labelled(folder)


def test_pictures_beside_the_folders_are_told_of(folder):
    with pytest.warns(UserWarning, match="have no label and are left out: 1"):
        labelled(folder)


@pytest.mark.filterwarnings("ignore:pictures that lie beside")
def test_labels_are_the_names_of_folders(folder):
    labels, truth = labelled(folder)
    assert labels == ["cat", "fox", "red apple"]
    assert {str(path.relative_to(folder)): label for path, label in truth.items()} == {
        "cat/1.png": "cat",
        "cat/2.png": "cat",
        "fox/1.png": "fox",
        str(Path("red_apple", "in", "1.png")): "red apple",
    }
    more = ["red apple", "dog", "fox", "cat"]
    assert labelled(folder, more) == (more, truth)


@pytest.mark.filterwarnings("ignore:pictures that lie beside")
def test_folders_that_cannot_be_measured_are_refused(folder):
    with pytest.raises(ValueError, match=r"labels lacks 'red apple', which .* has a folder of: add it"):
        labelled(folder, ["cat", "fox"])
    with pytest.raises(LimnerError, match="holds pictures but no folders of them"):
        labelled(folder / "fox")
    with pytest.raises(LimnerError, match="there is no folder"):
        labelled(folder / "none")
    with pytest.raises(ValueError, match="labels is 'in' alone"):
        labelled(folder / "red_apple")


@pytest.mark.filterwarnings("ignore:pictures that lie beside")
def test_broken_pictures_are_left_out(folder, clip):
    read = Reader(clip.requires_grad_(False), ClipTokenizer(600), "")
    (folder / "cat" / "1.png").write_text("words")
    labels, truth = labelled(folder)
    found = measured(read, labels, truth)
    assert list(found.broken) == [folder / "cat" / "1.png"]
    assert [labels[number] for number in found.truth] == ["cat", "fox", "red apple"]
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(3))
    for path in truth:
        path.write_text("words")
    with pytest.raises(LimnerError, match=r"no picture can be read, such as .*1.png"):
        measured(read, labels, truth)
