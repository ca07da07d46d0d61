import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SRC = TESTS.parent / "src"


@pytest.fixture(scope="session")
def tiny():
    spec = importlib.util.spec_from_file_location("tiny_line", TESTS / "pipelines" / "tiny_line.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return tiny


@pytest.fixture(scope="session")
def line(tiny, tmp_path_factory):
    """The folder of a tiny line's weights."""
    return tiny.write(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="session")
def dalle1_line(tiny, tmp_path_factory):
    """The same of DALL-E 1."""
    return tiny.write_dalle1(tmp_path_factory.mktemp("dalle1") / "line")


@pytest.fixture(scope="session")
def dfgan_line(tiny, tmp_path_factory):
    """The same of DF-GAN."""
    return tiny.write_dfgan(tmp_path_factory.mktemp("dfgan") / "line")


@pytest.fixture(scope="session")
def glide_line(tiny, tmp_path_factory):
    """The same of GLIDE."""
    return tiny.write_glide(tmp_path_factory.mktemp("glide") / "line")


@pytest.fixture(scope="session")
def environment():
    """What a sub-process needs to find limner, and to print as wide as it likes."""
    return {**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "80", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def limner(tmp_path, environment):
    """The real command, run in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "limner", *map(str, arguments)],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    run.work = work
    return run
