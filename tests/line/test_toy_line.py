"""The whole line learns to paint: from nothing, on the shipped sample, judged by eyes it has never met."""

import json
import subprocess
import sys
from pathlib import Path

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
