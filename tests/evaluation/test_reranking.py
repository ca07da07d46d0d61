"""Re-ranking: the choice by its definition, the judge's shares by hand, and the whole on a tiny line."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import limner
from limner.cli import main
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.features import Trunk
from limner.evaluation.recognition import Judge, Recogniser, RecogniserConfig
from limner.evaluation.report import Asked
from limner.evaluation.reranking import (
    CELL,
    GAP,
    LINE,
    MARGIN,
    SAMPLES,
    Choice,
    Reranking,
    best_of,
    chosen,
    measured,
    plot,
    run,
    sheet,
    text,
)
from limner.pipelines import TokenSettings

SEED = 5
SCORES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=64)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


# --- the choice ----------------------------------------------------------------------------------


@given(SCORES, st.data())
def test_the_best_of_n_has_the_highest_score_of_the_first_n(scores: list[float], data: st.DataObject):
    n = data.draw(st.integers(1, len(scores)))
    best = best_of(torch.tensor(scores), n)
    assert best < n
    assert scores[best] == max(scores[:n])
    # Of equals the first, as the painter's own choice has it; and what comes after n changes nothing.
    assert max(scores[:n]) not in scores[:best]
    assert best_of(torch.tensor(scores[:n] + [2.0] * 3), n) == best


@given(SCORES)
def test_more_candidates_never_score_less(scores: list[float]):
    table = torch.tensor(scores)
    found = [scores[best_of(table, n)] for n in range(1, len(scores) + 1)]
    assert found == sorted(found)
    assert best_of(table, 1) == 0
    assert best_of(table, len(scores)) == int(table.argmax())


@pytest.mark.parametrize("n", [-1, 0, 4])
def test_a_sample_beyond_the_candidates_is_refused(n: int):
    with pytest.raises(ValueError, match=f"n is {n}: there are 3 candidates, so give 1 to 3"):
        best_of(torch.tensor([0.1, 0.3, 0.2]), n)


def test_what_is_chosen_is_what_the_painter_keeps_of_so_many(dalle1_line: Path):
    painter = limner.load("dalle1", weights=dalle1_line)
    choice = chosen(painter, Asked("two fish", "fish", "1F41F", "train"), seed=SEED)
    assert list(choice.scores) == sorted(choice.scores)
    assert len({picture.tobytes() for picture in choice.pictures}) > 1
    for n, picture, score in zip(SAMPLES, choice.pictures, choice.scores, strict=True):
        settings = TokenSettings(candidates=n)
        *_, ranked = painter.paint("two fish", seed=SEED, settings=settings, stages=True)
        assert ranked.images()[0].tobytes() == picture.tobytes()
        assert ranked.scores.item() == pytest.approx(score, abs=1e-6)


# --- the judge -----------------------------------------------------------------------------------


class Seeing(Judge):
    """A judge whose features are a picture's mean colour and whose names are three colours."""

    def look(self, pictures, *, total: int) -> Tensor:
        assert len(pictures) == total
        return torch.tensor([picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures]) / 255


@pytest.fixture
def seeing() -> Judge:
    config = RecogniserConfig(names=tuple(COLOURS), hexcodes=("R", "G", "B"), features=3, side=1, dropout=0.0)
    recogniser = Recogniser(config).eval()
    with torch.no_grad():
        recogniser.names.weight.copy_(torch.eye(3))
        recogniser.names.bias.zero_()
    return Seeing(Trunk(torch.nn.Identity()), recogniser)


def painting(colour: str) -> Image.Image:
    return Image.new("RGB", (8, 8), COLOURS[colour])


@pytest.fixture
def choices() -> list[Choice]:
    """Red is right from 4 on, green from 16 on; blue is lost when there are 64."""
    paintings = {
        "red": ("blue", "red", "red", "red"),
        "green": ("red", "red", "green", "green"),
        "blue": ("blue", "blue", "blue", "red"),
    }
    return [
        Choice(
            Asked(f"a {name} thing", name, name, "train"),
            tuple(map(painting, painted)),
            tuple(0.1 * place + 0.05 * row for place in range(4)),
        )
        for row, (name, painted) in enumerate(paintings.items())
    ]


@pytest.fixture
def reranking(seeing: Judge, choices: list[Choice]) -> Reranking:
    return Reranking(
        weights="abc", names=3, judge_names=3, seed=SEED, samples=measured(seeing, choices, seed=0)
    )


def test_shares_gains_and_scores_by_hand(reranking: Reranking):
    samples = reranking.samples
    assert [sample.n for sample in samples] == [1, 4, 16, 64]
    assert [sample.recognised.top1.value for sample in samples] == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3])
    assert all(sample.recognised.top5.value == 1 for sample in samples)
    # Of the same names: one is lost at 64 and two are won, so the gain is a third.
    assert [sample.gain.value for sample in samples] == pytest.approx([0, 1 / 3, 2 / 3, 1 / 3])
    assert (samples[0].gain.low, samples[0].gain.high) == (0, 0)
    assert (samples[3].gain.low, samples[3].gain.high) == (-1, 1)
    assert [sample.score.value for sample in samples] == pytest.approx([0.05, 0.15, 0.25, 0.35])


def test_the_table_says_all_of_it(reranking: Reranking):
    said = text(reranking)
    lines = [line for line in said.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| 4", "| 16", "| 64", "| guessing"]
    assert "66.7 % (20.8 to 93.9)" in lines[3]
    assert "+33.3 (-100.0 to +100.0)" in lines[5]
    assert "33.33 %" in lines[6]
    assert "the seeds 5 to 68" in said


def test_the_plot_shows_shares_intervals_and_guessing(reranking: Reranking):
    (axes,) = plot(reranking).axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16", "64"]
    assert "%" in axes.get_ylabel()
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["top-1"].get_ydata()) == pytest.approx([100 / 3, 200 / 3, 100, 200 / 3])
    assert list(lines["top-1, guessing"].get_ydata()) == pytest.approx([100 / 3] * 2)
    bars = [segment for drawn in axes.collections for segment in drawn.get_segments()]
    assert len(bars) == 8
    for sample, bar in zip(reranking.samples, bars[4:], strict=True):
        top1 = sample.recognised.top1
        assert list(bar[:, 1]) == pytest.approx([100 * top1.low, 100 * top1.high])
        assert bar[0, 0] == pytest.approx(sample.n, rel=0.05)


def test_the_sheet_has_a_row_for_each_name_and_a_column_for_each_sample(choices: list[Choice]):
    laid = sheet(choices)
    for row, choice in enumerate(choices):
        for column, picture in enumerate(choice.pictures):
            x = MARGIN + column * (CELL + GAP) + CELL // 2
            y = LINE + GAP + row * (CELL + GAP + LINE) + CELL // 2
            assert laid.getpixel((x, y)) == picture.getpixel((0, 0))


# --- the whole -----------------------------------------------------------------------------------

# The tiny line's context is shorter than some names.
cut = pytest.mark.filterwarnings("ignore::limner.text.CutCaptionWarning")


@cut
@pytest.mark.usefixtures("trunk")
def test_the_command_writes_table_plot_and_sheet(
    dalle1_line: Path, blind: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    places = ("--data", sample_dir(), "--judge", blind, "--out", out, "--weights", dalle1_line)
    options = ("--names", 2, "--seed", SEED, "--device", "cpu")
    arguments = ("evaluate", "--reranking", "--model", "dalle1", *places, *options)
    assert main([str(argument) for argument in arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "reranking.md")
    files = sorted(file.name for file in out.iterdir())
    assert files == ["reranking.json", "reranking.md", "reranking.png", "reranking_sheet.png"]
    found = json.loads((out / "reranking.json").read_text())
    painter = limner.load("dalle1", weights=dalle1_line)
    assert found["weights"] == painter.digest
    assert (found["names"], found["judge_names"], found["seed"]) == (2, 3, SEED)
    assert [sample["n"] for sample in found["samples"]] == list(SAMPLES)
    assert {sample["recognised"]["top1"]["total"] for sample in found["samples"]} == {2}
    scores = [sample["score"]["value"] for sample in found["samples"]]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    with Image.open(out / "reranking.png") as curve, Image.open(out / "reranking_sheet.png") as pictures:
        assert curve.size == (900, 600)
        assert pictures.height == LINE + GAP + 2 * (CELL + GAP + LINE)


def test_without_matplotlib_nothing_is_painted(
    dalle1_line: Path, blind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    painter = limner.load("dalle1", weights=dalle1_line)
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        pytest.raises(LimnerError, match=r'matplotlib, which is not installed: pip install "limner\[eval\]"'),
    ):
        run(painter, sample_dir(), blind, tmp_path / "out")
    assert said.getvalue() == ""
    assert not list(tmp_path.iterdir())
