"""Folders, names and disks that are not as they should be: one line each, and nothing is left behind."""

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from limner import checkpoint
from limner.cli import main
from limner.clip import ClipConfig
from limner.errors import LimnerError
from limner.formats import convert, opened
from limner.formats.writing import to_diffusers
from limner.pipelines import load

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def karlo(tiny_karlo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released files; diffusers has one width for words and embeddings."""
    parts = {name: getattr(tiny_karlo, name)(64) for name in ("prior", "decoder", "clip")}
    return tiny_karlo.saved(tmp_path_factory.mktemp("karlo"), upsampler=tiny_karlo.upsampler(), **parts)


@pytest.fixture(scope="module")
def unclip(karlo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as diffusers keeps it."""
    return to_diffusers(opened(karlo), tmp_path_factory.mktemp("unclip") / "folder")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says, which is one line on standard error."""
    assert main([str(one) for one in arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("limner: ")
    assert errors.count("\n") == 1
    assert errors[:-1].isprintable()
    return errors


def a_damaged_part(folder: Path) -> str:
    file = folder / "decoder" / WEIGHTS
    file.write_bytes(file.read_bytes()[:5000])
    return "is not a whole safetensors file"


def unreadable_settings(folder: Path) -> str:
    (folder / "decoder" / "config.json").write_bytes(b"\xff\xfe")
    return "config.json is no JSON"


def words_for_weights(folder: Path) -> str:
    (folder / "prior" / WEIGHTS).write_text("no weights at all, but some words\n" * 9)
    return "is no checkpoint that limner knows by its first bytes"


def a_list_for_settings(folder: Path) -> str:
    (folder / "super_res_first" / "config.json").write_text("[1]")
    return "config.json holds a list where settings are wanted"


def settings_without_a_bottom(folder: Path) -> str:
    (folder / "prior" / "config.json").write_text("[" * 100_000)
    return "config.json is no JSON"


@pytest.mark.parametrize(
    "broken",
    [
        a_damaged_part,
        unreadable_settings,
        words_for_weights,
        a_list_for_settings,
        settings_without_a_bottom,
    ],
    ids=lambda one: one.__name__,
)
def test_a_broken_part_of_an_unclip_is_one_line(
    broken: Callable[[Path], str], unclip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(unclip, tmp_path / "unclip")
    says = broken(folder)
    for arguments in (
        ["open", folder],
        ["paint", "a pear", "--model", folder, "--out", tmp_path / "out"],
        ["convert", folder, "--out", tmp_path / "out"],
    ):
        assert says in refused(capsys, *arguments)
    assert [one.name for one in tmp_path.iterdir()] == ["unclip"]


def test_names_that_no_disk_takes(
    karlo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long, clip = "x" * 300, karlo / "ViT-L-14.pt"
    for arguments in (
        ["open", long],
        ["convert", clip, "--out", long],
        ["convert", clip, "--to", "huggingface", "--out", f"{long}/deep"],
        ["paint", "a pear", "--model", long],
        ["paint", "a pear", "--weights", long],
        ["paint", "a pear", "--out", long],
    ):
        assert f"{long}" in (said := refused(capsys, *arguments))
        assert "File name too long" in said
    with pytest.raises(LimnerError, match="File name too long"):
        load(long)
    with pytest.raises(LimnerError, match="File name too long"):
        opened(Path(long))
    assert list(tmp_path.iterdir()) == []


def test_folders_that_may_not_be_looked_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said by the system in these tests too, where whoever runs them may look everywhere."""
    closed, stat, listing = tmp_path / "closed", Path.stat, Path.iterdir
    (closed / "inside").mkdir(parents=True)

    def denied(path: Path) -> None:
        if closed in (path, *path.parents):
            raise PermissionError(13, "Permission denied", str(path))

    def guarded_stat(path: Path, *, follow_symlinks: bool = True) -> object:
        if path != closed:
            denied(path)
        return stat(path, follow_symlinks=follow_symlinks)

    def guarded_listing(path: Path) -> object:
        denied(path)
        return listing(path)

    monkeypatch.setattr(Path, "stat", guarded_stat)
    monkeypatch.setattr(Path, "iterdir", guarded_listing)
    for arguments in (
        ["open", closed],
        ["open", closed / "inside"],
        ["paint", "a pear", "--model", closed],
        ["paint", "a pear", "--model", closed / "inside"],
        ["paint", "a pear", "--out", closed / "inside"],
    ):
        said = refused(capsys, *arguments)
        assert "Permission denied" in said
        assert str(closed) in said


def test_the_folder_that_one_is_in_is_not_replaced(
    karlo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    clip = karlo / "ViT-L-14.pt"
    assert ". is the folder that you are in: give the name" in refused(capsys, "convert", clip, "--out", ".")
    assert ".. is there already" in refused(capsys, "convert", clip, "--out", "..")
    assert [one.name for one in tmp_path.rglob("*")] == ["here"]
    # An empty one that is somewhere else is filled.
    (tmp_path / "empty").mkdir()
    assert main(["convert", str(clip), "--out", "../empty"]) == 0
    assert capsys.readouterr().out == "../empty\n"
    assert checkpoint.is_ours(tmp_path / "empty")


@pytest.mark.parametrize("to", ["limner", "huggingface", "diffusers"])
def test_a_full_disk_leaves_nothing(
    to: str, karlo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file may be larger than so much, which is as good as no space."""
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        said = refused(capsys, "convert", karlo, "--to", to, "--out", tmp_path / "a" / "b" / "c")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "cannot write" in said
    assert "File too large" in said
    assert list(tmp_path.iterdir()) == []


def test_tensors_in_one_memory_are_written_for_others(
    karlo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two names of one tensor, and another view of its numbers."""
    state: dict[str, Tensor] = torch.load(karlo / "ViT-L-14.pt")
    state["visual.ln_post.weight"] = state["visual.ln_pre.weight"]
    block = "transformer.resblocks.0."
    state[f"{block}mlp.c_proj.weight"] = state[f"{block}mlp.c_fc.weight"].view(64, 256)
    torch.save(state, tmp_path / "clip.pt")
    assert (
        main(["convert", str(tmp_path / "clip.pt"), "--to", "huggingface", "--out", str(tmp_path / "b")]) == 0
    )
    found = load_file(tmp_path / "b" / "model.safetensors")
    ours = opened(tmp_path / "clip.pt").parts[0].taken.state
    again = opened(tmp_path / "b").parts[0].taken.state
    assert torch.equal(found["vision_model.post_layernorm.weight"], found["vision_model.pre_layrnorm.weight"])
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.items())
    (own,) = convert(opened(tmp_path / "clip.pt"), tmp_path / "own")
    _, kept = checkpoint.load(own, ClipConfig)
    assert all(torch.equal(kept[name], tensor) for name, tensor in ours.items())
    assert capsys.readouterr().out == f"{tmp_path / 'b'}\n"


def test_what_a_file_says_is_shown_and_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither as markup nor by the terminal."""
    state = {
        "codebook.weight": torch.zeros(8, 4),
        "encoder.0.0.weight": torch.zeros(4, 3, 4, 4),
        "encoder.0.0.bias": torch.zeros(4),
        "encoder.1.weight": torch.zeros(8, 4, 1, 1),
        "encoder.1.bias": torch.zeros(8),
        "decoder.0.0.weight": torch.zeros(4, 4, 4, 4),
        "decoder.0.0.bias": torch.zeros(4),
        "decoder.1.weight": torch.zeros(3, 4, 1, 1),
        "decoder.1.bias": torch.zeros(3),
    }
    path = tmp_path / "weights"
    for version, shown in (
        ("[/red] x", "[/red] x"),
        ("[blink]1.0", "[blink]1.0"),
        ("1\n\x1b]0;y\x07", "1]0;y"),
    ):
        torch.save({"hparams": {"image_size": 16}, "weights": state, "version": version}, path)
        assert main(["open", str(path)]) == 0
        said = capsys.readouterr().out
        assert f"version {shown}" in " ".join(said.split())
        assert "\x1b" not in said
        assert "\x07" not in said
    torch.save({"hparams": {}, "weights": state, "version": "9" * 1000}, path)
    assert main(["open", str(path), "--json"]) == 0
    assert "9" * 80 in (said := json.loads(capsys.readouterr().out)["format"])
    assert "9" * 81 not in said
    save_file({"x": torch.ones(1)}, path, metadata={"a": "\x1b[31m" + "b" * 100})
    assert "\x1b" not in refused(capsys, "open", path)
    (odd := tmp_path / "a\x1b[31m").mkdir()
    assert "a\\x1b[31m" in refused(capsys, "open", odd)
