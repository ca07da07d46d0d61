import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import limner
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.names import plain
from limner.evaluation.recognition import Judge
from limner.evaluation.report import (
    asked_names,
    asked_pairs,
    distances,
    imagination,
    opened,
    recognition,
    run,
)

NAMES = 12


@pytest.fixture(scope="module")
def out(untrained: Path, judge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("report")
    assert run(untrained, sample_dir(), judge_folder, place, names=NAMES, seed=3) == place / "report.md"
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
