"""Two gloo processes that share a batch do what one process with the whole batch does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, dict[str, object]]:
    out = tmp_path_factory.mktemp("processes")
    done = subprocess.run(
        [sys.executable, str(HERE / "two_processes.py"), str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {world: json.loads((out / f"found_{world}.json").read_text()) for world in (1, 2)}


@pytest.mark.parametrize("part", ["clip", "chunked", "prior"])
def test_same_losses_and_statistics(found, part):
    """Negatives come from both processes, whose captions differ in length."""
    one, two = found[1][part], found[2][part]
    assert len(one) == len(two) == 6
    for mine, other in zip(one, two, strict=True):
        for key in set(mine) - {"speed", "gradient", "retrieval"}:
            assert other[key] == pytest.approx(mine[key], abs=1e-5), (mine["step"], key)
        # A caption that two rows share is nearest by the last bit, which is nobody's: one row of eight.
        assert other.get("retrieval", 0) == pytest.approx(mine.get("retrieval", 0), abs=1 / 8)
        assert other["gradient"] == pytest.approx(mine["gradient"], rel=1e-3)
    assert one[0]["loss"] != one[-1]["loss"]


def test_chunks_change_nothing(found):
    for mine, other in zip(found[2]["clip"], found[2]["chunked"], strict=True):
        assert other["loss"] == pytest.approx(mine["loss"], abs=1e-5)


def test_rows_are_gathered_in_order_and_gradients_go_home(found):
    assert found[2]["gathered"] == [[0, 1], [2, 3], [10, 11], [12, 13]]
    # Each row is weighed by both processes: w and w + 100.
    assert found[2]["gradients"] == [[2 * w + 100, 2 * w + 102] for w in (0, 2, 4, 6)]
    assert found[2]["averaged"] == [1.5, 7.5]


def test_the_first_says_for_all_what_it_will_cost(found):
    """The trial leaves no trace: that losses are those of one process is shown above."""
    said, of_the_other = found[2]["said"]
    assert "batch 8, 2 process(es)" in said
    assert " s a step in fp32, " in said
    assert re.search(r"for 6 steps; memory so far \d+\.\d GB a process\n", said)
    assert of_the_other == ""


def test_nobody_reads_a_model_before_it_is_written(found):
    assert found[2]["came too early"] is False


def test_a_sharded_model_learns_averages_and_resumes_as_a_whole_one(found):
    seen = found[2]
    assert seen["names"]
    assert seen["share"] == pytest.approx(0.5, abs=0.05)
    assert seen["resumed at"] == 4
    assert seen["apart"] < 1e-4
    assert seen["average apart"] < 1e-4
    assert seen["resumed apart"] == 0
    assert seen["resumed average apart"] == 0
