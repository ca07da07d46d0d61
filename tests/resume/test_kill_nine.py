"""Nothing that a kill can do changes where a run ends."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"


def test_ten_kills_at_random_moments():
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_nine.py")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 of 10 lives ended by SIGKILL" in done.stdout
    assert "weights: identical" in done.stdout
    assert "log: identical" in done.stdout
