"""The report on autoencoders: exact where all or nothing comes back, whole where models are untrained."""

import contextlib
import io
import json
import math
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from limner.cli import main
from limner.data.folder import Record
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.features import WIDTH, Trunk
from limner.evaluation.recognition import Judge, load_judge
from limner.evaluation.reconstruction_table import CELL, GAP, MARGIN, Lost, chosen, contact_sheet
from limner.evaluation.reconstructions import (
    Originals,
    Returned,
    by_group,
    found,
    held_out,
    judged,
    lost,
    matched,
    mean_picture,
    measured,
    opened,
    returned,
    same,
)
from limner.pipelines import load_autoencoder

SIDE = 32


@pytest.fixture(scope="module")
def judge(blind: Path, trunk: Trunk) -> Judge:  # noqa: ARG001 (missing, it is named at once)
    return load_judge(blind)


@pytest.fixture(scope="module")
def originals(judge: Judge) -> Originals:
    return opened(sample_dir(), SIDE, judge)


def test_pictures_are_the_held_out_ones_on_white(originals: Originals):
    assert {record.facts["split"] for record in originals.records} == {"concept"}
    assert len(originals.records) == len(originals.pictures) == len(originals.features) == 28
    assert len(set(originals.concepts)) == 7
    assert originals.pictures[:, :, 0, 0].mean() > 0.9


def test_whoever_returns_everything_loses_nothing(judge: Judge, originals: Originals):
    whole = Returned(pictures=originals.pictures, bits=torch.full((28,), 24.0 * SIDE**2), words={})
    row = measured(judge, originals, whole, of=("png", ""), seed=0)
    assert (row.psnr.value, row.ssim.value) == (100, pytest.approx(1))
    assert row.distance == pytest.approx(0, abs=1e-3)
    assert (row.bits.low, row.bits.value, row.bits.high) == (24576, 24576, 24576)
    assert row.judged["all"].reconstructions == row.judged["all"].originals
    # Drawings of the same thing are alike; that is what makes the question worth asking.
    known = row.matched["all"]
    assert known.originals.value > 0.5
    assert known.ratio is not None
    assert (known.ratio.low, known.ratio.value, known.ratio.high) == (1, 1, 1)
    assert known.originals.total == 28


def test_whoever_is_told_nothing_returns_the_mean(judge: Judge, originals: Originals):
    nothing = mean_picture(originals)
    assert nothing.pictures.shape == originals.pictures.shape
    row = measured(judge, originals, nothing, of=("mean", ""), seed=0)
    error = (originals.pictures - originals.pictures.mean(dim=0)).square().mean(dim=(1, 2, 3)) / 4
    assert row.psnr.value == pytest.approx(float((-10 * error.log10()).mean()), abs=1e-3)
    assert row.bits.value == 0
    assert row.distance > 10
    assert row.matched["all"].reconstructions.value <= 2 / 7
    # One answer for all: right for melons or for turtles, or for neither.
    assert row.judged["all"].reconstructions.value in (0, 0.5)


def test_a_model_is_asked_a_few_pictures_at_a_time(originals: Originals, autoencoders: Path):
    model = load_autoencoder("vqvae2", weights=autoencoders)
    many = originals.pictures.repeat(2, 1, 1, 1)
    back = returned(model, many)
    torch.testing.assert_close(back.pictures, model.reconstruct(many))
    assert back.bits.tolist() == pytest.approx([(16 + 64) * 4] * 56)
    for name, grid in model.tokens(many).items():
        assert back.words[name].used == len(grid.unique())
        assert back.words[name].vocabulary == 16
    assert returned(load_autoencoder("vae", weights=autoencoders), many).words == {}


def picture_of(style: str, hexcode: str, **facts: object) -> Record:
    return Record(
        Path(f"{style}/{hexcode}.png"),
        (hexcode,),
        {"style": style, "hexcode": hexcode, "name": hexcode, **facts},
    )


def seen(records: list[Record], features: Tensor) -> Originals:
    nothing = torch.zeros(len(records), 3, 1, 1)
    return Originals(records=tuple(records), pictures=nothing, features=features, judged=features)


def test_another_style_s_drawing_recognises_what_lies_nearest():
    """Two styles draw a face, a flag and a pear; on what comes back the flag of one style became a pear."""
    groups = {"A": "smileys-emotion", "B": "flags", "C": "food-drink"}
    records = [picture_of(style, name, group=groups[name]) for style in "xy" for name in "ABC"]
    records += [picture_of("x", "D"), picture_of("y", "A", skin_tone="dark")]  # drawn once; in another tone
    corners = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    style = torch.tensor([0.0, 0, 0, 0.3])
    features = torch.cat([corners + style, corners - style, torch.tensor([[0.0, 0, 0, 1], [1, 0, 0, 0]])])
    back = features.clone()
    back[1] = features[2]
    known = matched(seen(records, features), back, seed=0)
    assert list(known) == ["all", "faces", "flags"]
    assert known["all"].originals.value == known["faces"].reconstructions.value == 1
    assert known["all"].originals.total == 6
    assert known["all"].reconstructions.value == pytest.approx(5 / 6)
    assert lost(seen(records, features), back) == [Lost(1, "B", "x", "C")]
    assert lost(seen(records, features), features) == []
    flags = known["flags"]
    assert flags.ratio is not None
    assert (flags.reconstructions.value, flags.ratio.value, flags.ratio.total) == (0.5, 0.5, 2)


def test_a_tie_is_no_recognition():
    drawings = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    others = ~same(["x", "x", "y", "y"])
    right = same(["A", "B", "A", "B"]) & others
    assert found(drawings, drawings, right, others).tolist() == [True] * 4
    alike = torch.tensor([[0.5, 0.5]]).expand(4, 2)
    assert found(alike, drawings, right, others).tolist() == [False] * 4


def test_recognition_is_told_apart_by_group():
    groups = ["smileys-emotion"] * 4 + ["flags"] * 2 + ["objects"] * 2
    records = [picture_of("x", f"{i}", group=group) for i, group in enumerate(groups)]
    hits = {
        0: (True, True),
        1: (False, True),
        2: (True, True),
        3: (False, True),
        4: (True, False),
        6: (True, True),
    }
    known = by_group(seen(records, torch.zeros(8, 2)), hits, seed=0)
    everything, faces, flags = known["all"], known["faces"], known["flags"]
    assert everything.ratio is not None
    assert everything.ratio.value == pytest.approx(4 / 5)
    assert faces.ratio is not None
    assert (faces.reconstructions.value, faces.originals.value, faces.ratio.value) == (0.5, 1, 0.5)
    assert faces.ratio.low <= 0.5 <= faces.ratio.high
    # Nothing is a share of nothing.
    assert (flags.reconstructions.total, flags.ratio) == (1, None)


def test_the_judge_is_asked_what_it_knows(judge: Judge, originals: Originals):
    known = judged(judge, originals, originals.judged, seed=0)
    assert list(known) == ["all"]
    assert known["all"].originals.total == 8
    unknown = [picture_of("x", "1F999")] * 2
    assert judged(judge, seen(unknown, torch.zeros(2, WIDTH)), torch.zeros(2, WIDTH), seed=0) == {}


@pytest.fixture(scope="module")
def out(autoencoders: Path, blind: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command's report on three untrained models, the fourth not being there."""
    three = tmp_path_factory.mktemp("three")
    for name in ("vae", "vqvae2"):
        shutil.copytree(autoencoders / name, three / name / "model")
    shutil.copytree(autoencoders / "dvae", three / "dalle1" / "dvae")
    place: Path = tmp_path_factory.mktemp("reconstructions") / "report"
    arguments = ["--data", sample_dir(), "--judge", blind, "--out", place, "--weights", three]
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(said):
        warnings.simplefilter("always")
        assert main(["evaluate", "--reconstructions", *map(str, arguments), "--device", "cpu"]) == 0
    assert said.getvalue() == "limner: warning: no weights for vqvae: measuring the others\n"
    return place


def test_every_number_of_the_tables_is_there(out: Path):
    report = json.loads((out / "reconstructions.json").read_text())
    rows = {row["model"]: row for row in report["rows"]}
    assert list(rows) == ["vae", "vqvae2", "dvae", "mean picture"]
    assert (report["absent"], report["pictures"], report["concepts"]) == (["vqvae"], 28, 7)
    assert rows["vqvae2"]["bits"]["value"] == pytest.approx(320)
    assert set(rows["vqvae2"]["words"]) == {"top", "bottom"}
    assert rows["dvae"]["words"]["tokens"]["vocabulary"] == 64
    assert rows["vae"]["words"] == {}
    for row in rows.values():
        assert math.isfinite(row["psnr"]["value"])
        assert -1 <= row["ssim"]["value"] < 1
        assert row["distance"] > 1
        assert row["matched"]["all"]["originals"]["total"] == 28

    text = (out / "reconstructions.md").read_text()
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [2 + 4, 2 + 4 * 2, 2 + 3]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert "for want of weights: vqvae." in text
    assert "the judge knows no names of them: faces, flags." in text
    assert "24,576 bits" in text
    assert sorted(path.name for path in out.iterdir()) == [
        *("reconstructions.json", "reconstructions.md", "reconstructions.png"),
        "reconstructions_failures.png",
    ]
    for row in rows.values():
        assert 0 < len(row["lost"]) <= 16


def test_the_sheet_shows_originals_above_what_came_back(out: Path, originals: Originals):
    with Image.open(out / "reconstructions.png") as sheet:
        assert sheet.height == GAP + 4 * (CELL + GAP)
        first = sheet.crop((MARGIN, GAP, MARGIN + CELL, GAP + CELL)).resize(
            (SIDE, SIDE), Image.Resampling.NEAREST
        )
    pixels = torch.frombuffer(bytearray(first.tobytes()), dtype=torch.uint8).reshape(SIDE, SIDE, 3)
    expected = (originals.pictures[chosen(originals.records)[0]] + 1) * 127.5
    assert torch.equal(pixels.permute(2, 0, 1), expected.round().byte())


def test_nobody_chooses_what_the_sheet_shows(tmp_path: Path):
    groups = ["objects"] * 9 + ["flags"] * 5 + ["smileys-emotion"] * 2
    records = [picture_of("x", f"{i}", group=group) for i, group in enumerate(groups)]
    rows = chosen(records)
    assert [groups[row] for row in rows] == ["smileys-emotion"] * 2 + ["flags"] * 3 + ["objects"] * 6
    backwards = chosen(records[::-1])
    assert [records[row] for row in rows] == [records[::-1][row] for row in backwards]
    (tmp_path / "file").touch()
    with pytest.raises(LimnerError, match=r"cannot write .*file/reconstructions\.png"):
        contact_sheet(records, {"originals": torch.zeros(16, 3, 4, 4)}, tmp_path / "file")


def test_a_folder_must_say_what_it_holds_out(tmp_path: Path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("black")
    with pytest.raises(LimnerError, match="does not say what training has not seen: give a folder made by"):
        held_out(tmp_path, 16)
