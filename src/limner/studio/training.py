"""A training run of one's own: a process of `limner train`, watched through what it leaves in its folder."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import limner
from limner.server.errors import Refused
from limner.training import TrainConfig

Room: TypeAlias = Literal["line", "glide", "clip", "vae", "dvae"]
Size: TypeAlias = Literal["toy", "small"]
State: TypeAlias = Literal["nothing", "running", "stopping", "stopped", "finished", "failed"]
ROOMS: dict[Room, str] = {
    "line": "DALL-E 2, all of it: words to pictures",
    "glide": "GLIDE: words to pictures, and mending",
    "clip": "CLIP: how well words and pictures go together",
    "vae": "VAE: pictures as few numbers",
    "dvae": "dVAE: pictures as tokens",
}
# Seconds that a run is given to save what it has, when the server ends.
PATIENCE = 60.0
# What is wide enough for a verdict to stand in one line.
COLUMNS = "200"
LOG = "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained, on which folder, and where it goes; `steps` None for the recipe's own."""

    room: str
    size: str
    data: Path
    out: Path
    steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could not even begin."""
        if self.room not in get_args(Room):
            raise ValueError(f"room is {self.room!r}: choose {', '.join(get_args(Room))}")
        if self.size not in get_args(Size):
            raise ValueError(f"size is {self.size!r}: choose toy or small")
        if not self.data.is_dir():
            raise ValueError(f"data is '{self.data}', which is no folder: give one with captioned pictures")
        if self.steps is not None and self.room in ("line", "glide"):
            raise ValueError(f"steps is {self.steps}: {self.room} trains several parts, so leave it out")

    @property
    def command(self) -> tuple[str, ...]:
        """What somebody would type."""
        steps = () if self.steps is None else ("--steps", str(self.steps))
        places = ("--data", str(self.data), "--out", str(self.out))
        return ("limner", "train", self.room, "--size", self.size, *places, *steps)

    @property
    def total(self) -> int | None:
        """Steps of all its parts; None where that is not known beforehand."""
        if self.steps is not None:
            return self.steps
        recipe = getattr(import_module(f"limner.recipes.{self.room}"), self.size)()
        if self.room == "line":
            legs = [leg for part in vars(recipe).values() for leg in vars(part).values()]
            return sum(leg.steps for leg in legs if isinstance(leg, TrainConfig))
        return recipe.train.steps if hasattr(recipe, "train") else None


class Training:
    """At most one run at a time: a machine that paints and trains twice does neither."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._told_to_stop = False
        self._folder = tempfile.TemporaryDirectory(prefix="limner-training-")

    @property
    def state(self) -> State:
        """How it stands with the run that was started last."""
        if self._process is None:
            return "nothing"
        status = self._process.poll()
        if status is None:
            return "stopping" if self._told_to_stop else "running"
        if status == 0:
            return "finished"
        return "stopped" if self._told_to_stop else "failed"

    def start(self, plan: Plan, *, resume: bool) -> None:
        """Begin a run, or go on with the one in its folder. Raises Refused where one is under way."""
        if self.state in ("running", "stopping"):
            raise Refused("a run is under way: stop it first")
        if resume and not curves(plan.out):
            raise Refused(f"there is no run in '{plan.out}' to go on with: start one")
        if not resume and curves(plan.out):
            raise Refused(f"'{plan.out}' holds a run already: go on with it, or give another folder")
        command = [sys.executable, "-m", *plan.command, *(("--resume",) if resume else ())]
        # The limner that trains is the one that serves, wherever it was imported from.
        places = [str(Path(limner.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        more = {"PYTHONPATH": os.pathsep.join(filter(None, places)), "COLUMNS": COLUMNS, "NO_COLOR": "1"}
        with self._log.open("wb") as log:
            # In a session of its own, for Ctrl-C in the server's terminal would end it without saving.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | more,
                start_new_session=True,
            )
        self.plan, self._told_to_stop = plan, False

    def stop(self) -> None:
        """Ask the run to end, which saves what it has. Raises Refused where there is none."""
        if self._process is None or self.state not in ("running", "stopping"):
            raise Refused("no run is under way")
        self._told_to_stop = True
        self._process.terminate()

    def wait(self, seconds: float) -> State:
        """How it stands when the run has ended, or so many seconds have passed."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return self.state

    def said(self, most: int = 12) -> list[str]:
        """The last lines that the run has said."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-most:]

    def abandon(self) -> None:
        """Ask a run to save what it has and end, if nobody has yet, and wait for nothing."""
        if self.state == "running":
            self.stop()
        self._folder.cleanup()

    def close(self) -> None:
        """Let a run save what it has and end."""
        if self._process is not None and self._process.poll() is None:
            self._told_to_stop = True
            self._process.terminate()
            if self.wait(PATIENCE) == "stopping":
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    @property
    def _log(self) -> Path:
        return Path(self._folder.name) / "said.txt"


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """The loss of every part that a run in `out` has trained so far, step by step, by the part's folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    logs = sorted(
        [*out.glob(LOG), *out.glob(f"*/{LOG}"), *out.glob(f"*/*/{LOG}")],
        key=lambda path: path.stat().st_ctime,
    )
    for path in logs:
        rows = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                rows.append((int(row["step"]), float(row["loss"])))
            except (ValueError, KeyError, TypeError):  # the last line may be half written
                break
        if rows:
            found[path.parent.name] = rows
    return found


def samples(out: Path, most: int = 3) -> list[Path]:
    """The pictures that a run has painted to be looked at, the newest first."""
    found = [path for depth in ("", "*/", "*/*/") for path in out.glob(f"{depth}samples/*.png")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:most]


def steps_done(found: Mapping[str, Sequence[tuple[int, float]]]) -> int:
    """Steps of all parts together."""
    return sum(rows[-1][0] + 1 for rows in found.values())
