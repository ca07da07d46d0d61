"""Weights by either name of the option, of limner's own and of others, from here and from the hub."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import limner
from limner import checkpoint
from limner.cli import main, parse
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.formats import hub, openai_clip
from limner.formats.places import give
from limner.pipelines import Dalle2
from limner.pipelines.settings import HUB

# What else each command wants.
COMMANDS = {
    "complete": ["a.png", "a pear"],
    "inpaint": ["a.png", "0,0,8,8", "a pear"],
    "redraw": ["a.png", "a pear"],
    "vary": ["a.png"],
    "blend": ["a.png", "a.png"],
    "edit": ["a.png", "--to", "a pear"],
    "probe": ["a.png"],
    "rank": ["a pear", "a.png"],
    "classify": ["a.png", "--labels", "pear,cat"],
    "explain": ["a.png", "a pear"],
    "index": ["."],
    "search": ["a pear", "--in", "."],
    "interpolate": ["a.png", "a.png"],
    "traverse": ["a.png"],
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16), "red").save("a.png")

    def command(*arguments):
        status = main([*arguments, "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The same CLIP, of CLIP's own words, as limner keeps it and as OpenAI does."""
    config = ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=64, layers=1, heads=1),
        text=TextConfig(context=16, vocabulary=49_408, width=64, layers=1, heads=1),
        embedding=8,
        activation="quick_gelu",
    )
    folder = tmp_path_factory.mktemp("clips")
    torch.manual_seed(0)
    state = Clip(config).state_dict()
    checkpoint.save(folder / "ours", state, config)
    save_file(give(openai_clip.places(config), state), folder / "theirs.safetensors")
    return folder


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Puts a folder where the hub's library keeps what it has brought, by its name; nothing else is there."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name, source):
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0123")
        (place / "snapshots").mkdir()
        (place / "snapshots" / "0123").symlink_to(source, target_is_directory=True)

    return put


@pytest.mark.parametrize("command", COMMANDS)
def test_model_is_another_name_for_weights(command):
    for option in ("--model", "--weights"):
        assert parse([command, *COMMANDS[command], option, "some/where"]).weights == Path("some/where")
    assert parse([command, *COMMANDS[command]]).weights is None


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "search"])
def test_weights_that_are_not_there_are_one_line(run, command):
    status, out, errors = run(command, *COMMANDS[command], "--model", "nowhere")
    assert (status, out, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith(("limner: no weights at nowhere: ", "limner: no checkpoint at nowhere: "))


def test_somebody_elses_clip_says_the_same_as_ours(run, clips):
    for command in ("rank", "classify"):
        said = {
            (name, option): run(command, *COMMANDS[command], option, str(clips / name))
            for name in ("ours", "theirs.safetensors")
            for option in ("--model", "--weights")
        }
        assert {status for status, _, _ in said.values()} == {0}, said
        assert len({out for _, out, _ in said.values()}) == 1, said


def test_a_name_on_the_hub_is_a_path(run, kept, clips, line):
    kept("some/clip", clips / "ours")
    kept("some/line", line)
    wanted = run("rank", "a pear", "a.png", "--model", str(clips / "ours"))
    for option in ("--model", "--weights"):
        assert run("rank", "a pear", "a.png", option, "hub:some/clip") == wanted
    digest = Dalle2.load(line).digest
    for painter in (limner.load("hub:some/line"), limner.load("dalle2", weights=Path("hub:some/line"))):
        assert painter.digest == digest
    status, out, errors = run("paint", "a pear", "--model", "hub:some/line", "--size", "64", "--steps", "1")
    assert (status, errors) == (0, "")
    with Image.open(out.strip()) as picture:
        assert picture.text["weights"] == digest


def test_a_name_that_the_hub_does_not_give_is_one_line(run, kept):  # noqa: ARG001 (it is offline by that)
    for arguments in (
        ["paint", "a pear"],
        ["rank", "a pear", "a.png"],
        ["vary", "a.png"],
        ["traverse", "a.png"],
    ):
        for name, says in (
            ("hub:some/thing", "the hub cannot be reached for 'some/thing'"),
            ("hub:x", "path"),
        ):
            status, out, errors = run(*arguments, "--model", name)
            assert (status, out, errors.count("\n")) == (2, "", 1), errors
            assert errors.startswith(f"limner: {says}"), errors


def test_the_hub_is_spelled_in_one_way():
    assert HUB == hub.PREFIX
