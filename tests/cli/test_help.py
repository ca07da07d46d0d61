"""The command as it presents itself: its options are a promise, its help is quick and shows how."""

import contextlib
import io
import re
import shlex
import subprocess
import sys

import pytest

from limner.cli import main, parse

# What people and scripts rely on. Adding to it is a feature, taking away from it breaks them.
OPTIONS = {
    "": [],
    "paint": [
        *(
            "candidates",
            "clip-guidance",
            "compile",
            "condition",
            "count",
            "device",
            "guidance",
            "guidance-kind",
        ),
        *(
            "model",
            "negative-prompt",
            "out",
            "precision",
            "prior",
            "seed",
            "sheet",
            "size",
            "steps",
            "temperature",
            "text-guidance",
            "tile",
            "top-k",
            "top-p",
            "truncation",
            "weights",
        ),
    ],
    "complete": [
        *("candidates", "count", "device", "guidance", "keep", "model", "out", "seed", "temperature"),
        *("top-k", "top-p", "weights"),
    ],
    "inpaint": [
        *("clip-guidance", "count", "device", "guidance", "guidance-kind", "model", "out", "precision"),
        *("negative-prompt", "seed", "size", "steps", "weights"),
    ],
    "redraw": [
        *("clip-guidance", "count", "device", "guidance", "guidance-kind", "model", "out", "precision"),
        *("negative-prompt", "seed", "size", "steps", "strength", "weights"),
    ],
    "vary": ["count", "device", "model", "out", "seed", "sheet", "size", "strength", "weights"],
    "blend": ["device", "model", "noise", "out", "seed", "sheet", "size", "steps", "weights"],
    "edit": ["device", "from", "model", "out", "sheet", "size", "steps", "strength", "to", "weights"],
    "probe": ["device", "dims", "model", "out", "seed", "size", "weights"],
    "rank": ["device", "model", "weights"],
    "classify": [
        *("confusion", "device", "json", "labels", "labels-file", "model", "templates-file", "top"),
        "weights",
    ],
    "explain": ["device", "model", "out", "weights"],
    "index": ["device", "model", "out", "weights"],
    "search": ["device", "in", "json", "like", "model", "sheet", "top", "weights"],
    "reconstruct": ["device", "model", "out", "weights"],
    "interpolate": ["device", "model", "out", "steps", "weights"],
    "traverse": ["device", "dims", "model", "out", "span", "steps", "weights"],
    "sample": ["count", "device", "model", "out", "seed", "temperature", "weights"],
    "train": [
        *(
            "clip",
            "compile",
            "data",
            "decoder",
            "device",
            "dvae",
            "init-from",
            "kind",
            "learning-rate",
            "out",
            "prior",
            "resume",
        ),
        *("share", "size", "steps"),
    ],
    "data": [],
    "data fetch": ["most", "out", "pixels"],
    "data scenes": ["count", "kind", "out", "pixels", "seed", "settled", "sprites"],
    "data pairs": ["out", "scenes"],
    "data check": ["all", "sheet"],
    "evaluate": [
        *(
            "candidates",
            "count",
            "data",
            "device",
            "full-size",
            "judge",
            "model",
            "names",
            "out",
            "precision",
        ),
        *("reconstructions", "reranking", "seed", "sheet", "study", "suite", "weights"),
    ],
    "compare": [
        *("blur", "clip", "count", "data", "device", "inception", "judge", "models", "most", "most-real"),
        *("out", "page", "precision", "prompts", "seed", "size"),
    ],
    "open": ["activation", "head-width", "heads", "json", "kept", "release", "schedule"],
    "convert": ["activation", "head-width", "heads", "kept", "out", "release", "schedule", "to"],
    "serve": [
        *("allow-origin", "api-key", "device", "host", "lifetime", "models", "no-key", "port", "precision"),
        *("proxy", "queue", "url"),
    ],
    "studio": [
        *("allow-origin", "api-key", "device", "host", "lifetime", "models", "no-browser", "no-key", "port"),
        *("precision", "proxy", "queue", "url"),
    ],
    "vote": [],
    "vote page": [
        *("anybody", "checks", "host", "most", "pictures", "port", "questions", "raters", "repeats", "seed"),
    ],
    "vote report": ["majority", "out", "panel", "passes", "seed"],
    "vote export": ["out", "panel"],
    "vote panel": ["clip", "device", "judge"],
    "vote plan": ["alike", "level", "models", "power", "questions", "seconds", "win-rate"],
    "info": [],
}


def helped(command):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    return said.getvalue()


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_are_frozen(command):
    # Options stand at the left edge of the box, or where it would be; those in texts do not.
    lines = re.findall(r"^[│ ] (?:-h, )?(--[a-z].*)", helped(command), flags=re.MULTILINE)
    found = [name for line in lines for name in re.findall(r"(?:^|, )--([a-z-]+)", line)]
    assert sorted(found) == sorted([*OPTIONS[command], "help"])


@pytest.mark.parametrize("command", OPTIONS)
def test_help_shows_how_in_lines_that_can_be_copied(command):
    text = helped(command)
    examples = re.findall(r"^[│ ]+limner ([a-z ]+)", text, flags=re.MULTILINE)
    assert any(example.startswith(command) for example in examples)


def test_the_first_help_has_an_example_of_every_command():
    text = helped("")
    for command in OPTIONS:
        assert f"limner {command}" in text


def test_every_example_is_understood():
    texts = [helped(command) for command in OPTIONS if command]
    lines = {line.strip() for text in texts for line in text.splitlines() if line.startswith("  limner ")}
    assert len(lines) >= 8
    for line in lines:
        assert parse(shlex.split(line)[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["paint", "--help"], ["train", "--help"], ["paint", ""]])
def test_help_and_refusals_import_nothing_heavy(arguments, environment):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "limner", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    imported = set(re.findall(r"\| +(\S+)$", done.stderr, flags=re.MULTILINE))
    assert "tyro" in imported
    assert not imported & {"torch", "numpy", "PIL", "tokenizers", "safetensors"}
