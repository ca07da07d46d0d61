"""The whole line learns to paint: from nothing, on the shipped sample, judged by eyes it has never met."""

import json
import subprocess
import sys
from pathlib import Path

from limner.data.sample import sample_dir

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "toy_line.py"


def test_the_toy_line_is_recognised_ten_times_as_often_as_guessing(tmp_path):
    # In a process of its own: the tests' check of every call's shapes would slow thousands of steps.
    ran = subprocess.run(
        [sys.executable, str(BENCHMARK), "--out", str(tmp_path / "toy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    measured = json.loads((tmp_path / "toy" / "toy_line.json").read_text())
    assert measured["times_chance"]["32"] >= 10, ran.stdout
    # CLIP has looked at the pictures once, for prior and decoder together.
    assert len(list((tmp_path / "toy").rglob("embeddings_*.npy"))) == 1
    codes_are_foreseen(tmp_path / "toy")


def codes_are_foreseen(line: Path) -> None:
    """The other prior, on the CLIP and the embeddings that are there now.

    16 buckets are 4 bits; who knows how often each is used needs 3.3, as of any bell curve so cut.
    """
    asked = ("train", "prior-autoregressive", "--size", "toy", "--data", str(sample_dir()), "--device", "cpu")
    places = ("--clip", str(line / "clip" / "model"), "--out", str(line / "codes"))
    command = [sys.executable, "-m", "limner", *asked, *places]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(row) for row in (line / "codes" / "log.jsonl").read_text().splitlines()[-20:]]
    assert sum(row["bits"] for row in rows) / len(rows) < 3.25
    assert sum(row["bits_first"] for row in rows) / len(rows) < 3.25
