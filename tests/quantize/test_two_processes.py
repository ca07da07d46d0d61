"""Two gloo processes with half a batch each teach a codebook what one with the whole batch does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, dict[str, Any]]:
    out = tmp_path_factory.mktemp("quantized")
    done = subprocess.run(
        [sys.executable, str(HERE / "two_processes.py"), str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {world: json.loads((out / f"found_{world}.json").read_text()) for world in (1, 2)}


def test_the_codebook_follows_both_halves(found):
    one, two = found[1]["codebook"], found[2]["codebook"]
    assert one["choices"] == two["choices"]
    assert {sum(counts) for counts in one["choices"]} == {4 * 7}
    assert any(sum(code) == 0 for code in zip(*one["choices"][:3], strict=True))  # so some codes restarted
    for name in ("codes", "counts", "sums"):
        assert torch.allclose(torch.tensor(one[name]), torch.tensor(two[name]), atol=1e-5), name


def test_evaluation_waits_for_nobody(found):
    assert (found[1]["codebook"]["alone"], found[2]["codebook"]["alone"]) == (4 * 7, 2 * 7)


def test_diversity_is_that_of_the_whole_batch_and_so_is_its_gradient(found):
    one, two = found[1]["product"], found[2]["product"]
    assert one["counts"] == two["counts"]
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-6)
    mine, other = torch.tensor(one["gradient"]), torch.tensor(two["gradient"])
    assert torch.allclose(mine, other, atol=1e-6)
    assert mine.abs().max() > 1e-4


def test_choices_of_both_are_counted(found):
    assert found[1]["gumbel"] == found[2]["gumbel"]
