import json
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

import limner
from limner.cli import main
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.features import Trunk
from limner.evaluation.frechet import KernelDistance
from limner.evaluation.intervals import Estimate
from limner.evaluation.likelihood import Likelihood
from limner.evaluation.names import plain
from limner.evaluation.recognition import Judge
from limner.evaluation.report import (
    asked_names,
    asked_pairs,
    distances,
    imagination,
    of_dalle2,
    opened,
    recognition,
)
from limner.evaluation.table import Distance, Report, rows
from limner.pipelines import TokenSettings
from limner.text import CutCaptionWarning

NAMES = 12


@pytest.fixture(scope="module")
def out(untrained: Path, judge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("report")
    painter = limner.load("dalle2", weights=untrained)
    report = of_dalle2(painter, sample_dir(), judge_folder, place, names=NAMES, seed=3)
    assert report == place / "report.md"
    return place


def test_every_number_of_the_table_is_there(out: Path):
    found = json.loads((out / "report.json").read_text())
    assert found["names"] == NAMES
    assert set(found["recognition"]) >= {"all names", "names trained on"}
    everything = found["recognition"]["all names"]
    # A painter that has learned nothing is not recognised; real drawings are.
    assert everything["painted"]["top1"]["value"] < 0.3 < everything["real"]["top1"]["value"]
    assert everything["painted"]["top1"]["total"] == NAMES
    distance = found["distance"]
    assert distance["painted"] > 2 * distance["real"]
    assert distance["painted_kernel"]["value"] > distance["real_kernel"]["value"]
    assert set(found["prior"]) == {"pair", "concept"}
    assert (found["model"], found["candidates"], found["likelihood"]) == ("dalle2", None, {})

    table = (out / "report.md").read_text()
    for words in ("all names", "top-5", "recall@5", "Fréchet distance", "prior", "seed 3"):
        assert words in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_the_paintings_are_kept(out: Path, untrained: Path):
    files = sorted((out / "painted").iterdir())
    assert len(files) >= NAMES
    sides = limner.load("dalle2", weights=untrained).sizes
    with Image.open(files[0]) as painting:
        assert painting.size == (sides[1], sides[1])
    assert not list(out.rglob(".*"))


def test_requests_say_what_training_saw(judge: Judge):
    records = [record for record in read(sample_dir()).records if plain(record)]
    asked = asked_names(records, judge, 1000)
    split = {str(r.facts["name"]): r.facts["split"] for r in records}
    assert {one.name for one in asked} == set(judge.names) & set(split)
    for one in asked:
        assert (one.split == "concept") == (split[one.name] == "concept")
        assert one.name in one.prompt
        assert "," not in one.prompt
    pairs = asked_pairs(records)
    assert len(pairs) == sum(record.facts["split"] == "pair" for record in records) > 5
    assert all("style" in one.prompt for one in pairs)
    with pytest.raises(LimnerError, match="no name"):
        asked_names([], judge, 10)


def test_real_drawings_in_the_painter_s_place_score_as_real_drawings_do(judge: Judge):
    asked_of = judge.names[:40]
    records = [r for r in read(sample_dir()).records if plain(r) and r.facts["name"] in asked_of]
    asked = asked_names(records, judge, 1000)
    first = {str(record.facts["name"]): record for record in records}
    paintings = list(opened([first[one.name] for one in asked], None))
    found = recognition(judge, asked, paintings, records, detail=32, seed=0)["all names"]
    assert found.painted.top1.low < found.real.top1.value < found.painted.top1.high + 0.1
    assert found.real_small.top1.value < found.real.top1.value + 0.05
    apart = distances(judge, paintings, records, seed=0)
    # One drawing of each name either way.
    assert apart.painted == pytest.approx(apart.real, rel=0.5)


def test_the_prior_imagines_one_embedding_for_each_caption(untrained: Path):
    painter = limner.load("dalle2", weights=untrained)
    captions = [f"a thing number {i}" for i in range(18)]
    imagined = imagination(painter, 0)(captions)
    assert imagined.shape == (18, 16)
    assert torch.allclose(imagined.norm(dim=1), torch.ones(18), atol=1e-4)
    assert torch.allclose(imagination(painter, 0)(captions[16:]), imagined[16:], atol=1e-4)
    assert not torch.allclose(imagination(painter, 1)(captions[16:]), imagined[16:], atol=1e-4)


# --- DALL-E 1 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_tokens(
    dalle1_line: Path,
    blind: Path,
    trunk: Trunk,  # noqa: ARG001 (missing, it is named at once)
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The command's report on a tiny DALL-E 1: the best two of five for each of three names."""
    place: Path = tmp_path_factory.mktemp("dalle1-report") / "out"
    places = ("--data", sample_dir(), "--judge", blind, "--out", place, "--weights", dalle1_line)
    options = ("--candidates", 5, "--count", 2, "--seed", 3, "--device", "cpu")
    with warnings.catch_warnings():
        # The tiny line's context is shorter than most captions.
        warnings.simplefilter("ignore", CutCaptionWarning)
        assert main([str(word) for word in ("evaluate", "--model", "dalle1", *places, *options)]) == 0
    return place


def test_dalle1_is_asked_for_bits_instead_of_retrieval(of_tokens: Path, dalle1_line: Path):
    found = json.loads((of_tokens / "report.json").read_text())
    painter = limner.load("dalle1", weights=dalle1_line)
    assert (found["model"], found["weights"]) == ("dalle1", painter.digest)
    assert (found["names"], found["judge_names"], found["candidates"]) == (3, 3, 5)
    assert (found["size"], found["detail"]) == (32, 32)
    assert (found["retrieval"], found["prior"]) == (None, {})
    assert set(found["likelihood"]) == {"pair", "concept"}
    for bits in found["likelihood"].values():
        # Of 32 image tokens the one that has learned nothing knows less than one who has counted.
        assert bits["image"]["value"] > bits["image_unigram"]["value"]
        assert bits["image_unigram"]["value"] < 5
    assert found["recognition"]["all names"]["painted"]["top1"]["total"] == 6
    assert found["distance"]["painted"] > found["distance"]["real"]

    table = (of_tokens / "report.md").read_text()
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len([line for line in lines if "bits per" in line and "for counted tokens" in line]) == 4
    assert not [line for line in lines if "recall" in line or "prior" in line]
    assert "2 of each, the best by CLIP of 5 candidates, 32 pixels, seed 3" in table


def test_the_paintings_are_those_that_clip_likes_best(of_tokens: Path, dalle1_line: Path):
    painter = limner.load("dalle1", weights=dalle1_line)
    files = sorted((of_tokens / "painted").iterdir())
    assert [file.name.partition("_")[2] for file in files[:6:2]] == ["1f348.png", "1f404.png", "1f422.png"]
    best = painter.paint("a melon", count=2, seed=3, settings=TokenSettings(candidates=5))
    for file, image in zip(files, best, strict=False):
        with Image.open(file) as kept:
            assert kept.tobytes() == image.tobytes()


def test_bits_stand_in_the_table_beside_those_of_counting():
    def exactly(value: float) -> Estimate:
        return Estimate(value=value, low=value - 0.5, high=value + 0.5, total=7)

    bits = Likelihood(
        text=exactly(2.0), text_unigram=exactly(5.0), image=exactly(6.25), image_unigram=exactly(8.0)
    )
    kernel = KernelDistance(0.0, 0.0)
    distance = Distance(painted=2.0, real=1.0, painted_kernel=kernel, real_kernel=kernel)
    report = Report(
        model="dalle1",
        weights="abc",
        size=64,
        detail=64,
        names=1,
        judge_names=1,
        count=1,
        seed=0,
        candidates=None,
        recognition={},
        distance=distance,
        likelihood={"concept": bits},
    )
    what = "transformer, held-out concepts (7 pictures), bits per"
    assert rows(report)[:2] == [
        (f"{what} text token", "2.000 (1.500 to 2.500)", "", "5.000 (4.500 to 5.500) for counted tokens"),
        (f"{what} image token", "6.250 (5.750 to 6.750)", "", "8.000 (7.500 to 8.500) for counted tokens"),
    ]
