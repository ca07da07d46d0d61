"""The whole line, trained here and now on the shipped sample, paints what a stranger to it recognises."""

import json
from pathlib import Path

import pytest

from limner.data.sample import sample_dir
from limner.evaluation.recognition import load_judge
from limner.pipelines import load
from limner.recipes import line, recogniser

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's, on first import of their training code

TIMES_CHANCE = 10


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy")
    return line.run(line.toy(), folders=[sample_dir()], share=None, out=out, resume=False, device="cpu")


@pytest.fixture(scope="module")
def judged_by(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judge")
    return recogniser.run(
        recogniser.toy(), folders=[sample_dir("judge")], out=out, resume=False, device="cpu"
    )


def test_paintings_are_recognised_ten_times_as_often_as_by_guessing(painter: Path, judged_by: Path) -> None:
    judge = load_judge(judged_by)
    rows = [json.loads(text) for text in (sample_dir() / "captions.jsonl").read_text().splitlines()]
    trained = sorted({row["name"] for row in rows if row["split"] == "train"} & set(judge.names))
    model = load("dalle2", weights=painter)
    captions = {row["name"]: row["captions"][0] for row in rows}
    pictures = model.paint([captions[name] for name in trained], size=model.sizes[0], seed=0)
    found = judge(pictures, trained)
    assert found.top1.value >= TIMES_CHANCE * found.chance1, found


def test_every_part_says_what_it_was_made_of(painter: Path) -> None:
    described = [json.loads((painter / part / "config.json").read_text()) for part in line.CONFIGS]
    assert all(len(part["sha256"]) == 64 for part in described)
