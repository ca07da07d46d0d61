"""The house itself: quick to enter, of one version, its arrows pointing down."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import limner

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_importing_limner_imports_nothing_heavy():
    code = "import sys, limner; print(*sorted({'torch', 'numpy', 'PIL', 'tokenizers'} & sys.modules.keys()))"
    path = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_one_version_everywhere():
    assert limner.__version__ == PROJECT["project"]["version"]
    assert f"\nversion: {limner.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_unknown_names_are_unknown():
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        limner.lode  # noqa: B018


def test_load_is_there_without_being_imported():
    from limner.pipelines import load

    assert limner.load is load


def test_every_folder_has_its_place_in_the_layers():
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    placed = {name.strip(" ()") for layer in contract["layers"] for name in layer.split("|")}
    found = {
        path.stem
        for path in (ROOT / "src" / "limner").iterdir()
        if path.suffix == ".py" or (path.is_dir() and next(path.rglob("*.py"), None) is not None)
    }
    assert found - placed == {"__init__", "__main__"}
    # Parentheses are for what is still to be built; what stands in them already is held all the same.
    assert contract["exhaustive"]


def test_the_torch_that_make_installs_is_one_that_limner_takes():
    from packaging.requirements import Requirement

    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = next(Requirement(line) for line in pins if line.startswith("torch=="))
    wide = next(Requirement(line) for line in PROJECT["project"]["dependencies"] if line.startswith("torch"))
    (specifier,) = pinned.specifier
    assert pinned.name == wide.name == "torch"
    assert specifier.operator == "=="
    assert specifier.version in wide.specifier


def test_the_prompt_reaches_the_command_as_it_was_typed(tmp_path):
    """Quotes, dollars, backticks: make must neither expand nor run any of it."""
    prompt = """a "red" apple's $(shell touch bad) $HOME `touch bad` \\ for $5; touch bad # 🍎"""
    stamps = tmp_path / "venv" / ".limner"
    stamps.mkdir(parents=True)
    for step in ("venv", "torch", "base"):
        (stamps / step).touch()
    command = tmp_path / "venv" / "bin" / "limner"
    command.parent.mkdir()
    command.write_text(f'#!{sys.executable}\nimport sys\nopen("said", "w").write("\\0".join(sys.argv[1:]))\n')
    command.chmod(0o755)
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    for step in ("venv", "torch", "base"):
        (stamps / step).touch()
    subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "paint", f"PROMPT={prompt}", f"VENV={tmp_path / 'venv'}"],
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "said").read_text().split("\0") == ["paint", prompt]
    assert not (tmp_path / "bad").exists()
