"""Tiny painters that have learned nothing."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from limner.data.sample import sample_dir

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that writes tiny lines."""
    spec = importlib.util.spec_from_file_location("tiny_line", TESTS / "pipelines" / "tiny_line.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lines(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of everybody: dfgan and dalle1 paint 32 pixels, glide and dalle2 64."""
    folder = tmp_path_factory.mktemp("lines")
    tiny.write(folder / "dalle2")
    tiny.write_other(folder / "dalle2")
    tiny.write_dalle1(folder / "dalle1")
    tiny.write_glide(folder / "glide")
    tiny.write_dfgan(folder / "dfgan")
    tiny.write_dfgan(folder / "other dfgan", seed=1)
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def drawings() -> Path:
    """Real drawings, some of them held out."""
    return sample_dir("train")
