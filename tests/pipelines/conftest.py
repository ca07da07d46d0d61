import importlib.util
from pathlib import Path

import pytest

from limner.pipelines.dalle2 import Dalle2


@pytest.fixture(scope="session")
def tiny():
    spec = importlib.util.spec_from_file_location("tiny_line", Path(__file__).with_name("tiny_line.py"))
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
def painter(line):
    return Dalle2.load(line)


@pytest.fixture(scope="session")
def flax():
    """How Flax writes, as the formats are tested with it."""
    source = Path(__file__).parents[1] / "formats" / "conftest.py"
    spec = importlib.util.spec_from_file_location("flax_writing", source)
    writing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writing)
    return writing
