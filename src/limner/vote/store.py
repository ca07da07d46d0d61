"""Raters, tasks and votes in one SQLite file. What `vote` has returned from is on the disk.

Every vote is a transaction of its own, with synchronous writes (EXTRA: the folder too), so that a process
that is killed, or a machine that loses its power, has every vote that was acknowledged. Votes are only ever
added: of a task that was answered twice the later counts, and the earlier stays to be seen.
"""

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from limner.errors import LimnerError
from limner.vote.schedule import ANSWERS, Answer, Design, Task

Whose: TypeAlias = Literal["people", "panel"]
FILES: dict[Whose, str] = {"people": "votes.sqlite", "panel": "panel.sqlite"}
# Bytes of randomness in a name that is not to be guessed.
UNGUESSABLE = 16
# More are a mistake, or somebody who joins again and again.
MOST_RATERS = 2000
# Seconds to wait for another process that writes.
PATIENCE = 20.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token TEXT NOT NULL UNIQUE, joined REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters, place INTEGER NOT NULL,
    question TEXT NOT NULL, prompt TEXT NOT NULL, number INTEGER NOT NULL, "left" TEXT NOT NULL,
    "right" TEXT NOT NULL, kind TEXT NOT NULL, left_name TEXT NOT NULL UNIQUE,
    right_name TEXT NOT NULL UNIQUE, UNIQUE (rater, place));
CREATE TABLE IF NOT EXISTS votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL REFERENCES tasks, answer TEXT NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS votes_of_tasks ON votes (task);
"""
# Of a task the last vote, by the index and not by looking through all votes.
LAST = "(SELECT max(id) FROM votes WHERE votes.task = tasks.id)"
TASK = 'tasks.question, tasks.prompt, tasks.number, tasks."left", tasks."right", tasks.kind'


@dataclass(frozen=True)
class Rater:
    """Somebody who votes: `token` is what their browser shows."""

    id: int
    name: str
    token: str


@dataclass(frozen=True)
class Shown:
    """A task of a rater's, in place `place` of the schedule, with the names its pictures are asked for by."""

    id: str
    place: int
    task: Task
    left_name: str
    right_name: str


@dataclass(frozen=True)
class Vote:
    """What somebody answered: `seconds` after the pictures came, `at` seconds since 1970.

    `replaced`: whether they went back and answered again, so that a later vote counts in its place.
    """

    rater: str
    place: int
    task: Task
    answer: Answer
    seconds: float
    at: float
    replaced: bool = False

    @property
    def chosen(self) -> str | None:
        """The model of the picture that was chosen, None for neither."""
        return {"left": self.task.left, "right": self.task.right, "neither": None}[self.answer]


class Store:
    """The file, which one process or several may use at once; threads take turns."""

    def __init__(self, path: Path | Literal[":memory:"], whose: Whose) -> None:
        self.path, self.whose = path, whose
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = EXTRA")
            self._db.execute("PRAGMA foreign_keys = ON")
            with self._writing():
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute("INSERT OR IGNORE INTO facts VALUES ('whose', ?)", (whose,))
        except sqlite3.Error as error:
            raise LimnerError(f"cannot use {path} ({error}): give a folder that can be written to") from error
        if (found := self._fact("whose")) != whose:
            self.close()
            raise LimnerError(f"{path} holds votes of {found}, not of {whose}: they are never to be mixed")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                # A commit may fail too, and what is then left open would look saved from here.
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    # --- the study ----------------------------------------------------------------------------------

    def _fact(self, name: str) -> str | None:
        with self._lock:
            found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def design(self) -> Design | None:
        """How the study asks, once it has begun."""
        told = self._fact("design")
        if told is None:
            return None
        fields = json.loads(told)
        return Design(**{**fields, "questions": tuple(fields["questions"])})

    def models(self) -> tuple[str, ...] | None:
        """Who is compared, once it has begun; None where it is not told."""
        told = self._fact("models")
        return None if told is None else tuple(json.loads(told))

    def begin(self, design: Design, digest: str, models: Sequence[str]) -> None:
        """Begin a study, or go on with it. LimnerError where it was begun otherwise or of other pictures."""
        with self._writing():
            there, pictures = self.design(), self._fact("pictures")
            if there is None:
                told = {
                    "design": json.dumps(asdict(design)),
                    "pictures": digest,
                    "models": json.dumps(models),
                }
                self._db.executemany("INSERT INTO facts VALUES (?, ?)", [*told.items()])
                return
        if pictures != digest:
            raise LimnerError(
                f"the pictures are not those that {self.path} has votes of: put the old ones back, or move "
                "that file away to begin anew"
            )
        for name, was in asdict(there).items():
            if (now := getattr(design, name)) != was:
                raise LimnerError(
                    f"{name} is {now}, and {self.path} was begun with {was}: leave the option out, or move "
                    "that file away to begin anew"
                )

    # --- raters -------------------------------------------------------------------------------------

    def raters(self) -> list[Rater]:
        """All, in the order in which they joined."""
        with self._lock:
            rows = self._db.execute("SELECT id, name, token FROM raters ORDER BY id").fetchall()
        return [Rater(*row) for row in rows]

    def rater(self, token: str) -> Rater | None:
        """Whose token it is."""
        with self._lock:
            row = self._db.execute("SELECT id, name, token FROM raters WHERE token = ?", (token,)).fetchone()
        return None if row is None else Rater(*row)

    def named(self, name: str) -> Rater | None:
        """Who goes by that name."""
        with self._lock:
            row = self._db.execute("SELECT id, name, token FROM raters WHERE name = ?", (name,)).fetchone()
        return None if row is None else Rater(*row)

    def join(self, name: str) -> Rater:
        """The rater of that name, who is new or comes back. ValueError where no more are taken."""
        with self._writing():
            # Counted in the transaction that adds: of several who come at once none is one too many.
            if self.named(name) is None and len(self.raters()) >= MOST_RATERS:
                raise ValueError(
                    f"name is '{name}': {MOST_RATERS} raters are here, and no more are taken; vote under a "
                    "name that is here already, or begin another study in a folder of its own"
                )
            self._db.execute(
                "INSERT OR IGNORE INTO raters (name, token, joined) VALUES (?, ?, ?)",
                (name, secrets.token_urlsafe(UNGUESSABLE), time.time()),
            )
            found = self.named(name)
        assert found is not None
        return found

    # --- tasks --------------------------------------------------------------------------------------

    def ask(self, rater: Rater, tasks: Sequence[Task]) -> None:
        """Write a rater's schedule down; nothing where they have one."""
        with self._writing():
            if self._db.execute("SELECT 1 FROM tasks WHERE rater = ? LIMIT 1", (rater.id,)).fetchone():
                return
            self._db.executemany(
                "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        secrets.token_urlsafe(UNGUESSABLE),
                        rater.id,
                        place,
                        *(one.question, one.prompt, one.number, one.left, one.right, one.kind),
                        secrets.token_urlsafe(UNGUESSABLE),
                        secrets.token_urlsafe(UNGUESSABLE),
                    )
                    for place, one in enumerate(tasks)
                ],
            )

    def waiting(self, rater: Rater, most: int = 1) -> list[Shown]:
        """The next tasks that the rater has not answered, in order."""
        return self._tasks(f"tasks.rater = ? AND {LAST} IS NULL ORDER BY place LIMIT ?", (rater.id, most))

    def answered(self, rater: Rater) -> Shown | None:
        """The task that the rater answered last."""
        where = f"tasks.rater = ? AND {LAST} IS NOT NULL ORDER BY {LAST} DESC LIMIT 1"
        found = self._tasks(where, (rater.id,))
        return found[0] if found else None

    def shown(self, rater: Rater, task: str) -> Shown | None:
        """One of the rater's own tasks."""
        found = self._tasks("tasks.rater = ? AND tasks.id = ?", (rater.id, task))
        return found[0] if found else None

    def picture(self, name: str) -> tuple[Task, Literal["left", "right"]] | None:
        """Which side of which task the name of a picture stands for."""
        found = self._tasks("tasks.left_name = ?1 OR tasks.right_name = ?1", (name,))
        if not found:
            return None
        return found[0].task, "left" if found[0].left_name == name else "right"

    def _tasks(self, where: str, values: tuple[str | int, ...]) -> list[Shown]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT id, place, left_name, right_name, {TASK} FROM tasks WHERE {where}", values
            ).fetchall()
        return [Shown(id, place, Task(*task), left, right) for id, place, left, right, *task in rows]

    def progress(self, rater: Rater) -> tuple[int, int]:
        """How many tasks the rater has answered, and how many there are."""
        with self._lock:
            row = self._db.execute(
                f"SELECT count({LAST}), count(*) FROM tasks WHERE rater = ?", (rater.id,)
            ).fetchone()
        return int(row[0]), int(row[1])

    # --- votes --------------------------------------------------------------------------------------

    def vote(self, shown: Shown, answer: Answer, seconds: float) -> None:
        """Keep a vote; on the disk when this returns. ValueError for an answer that the question has not."""
        allowed = ANSWERS[shown.task.question]
        if answer not in allowed:
            raise ValueError(f"answer is '{answer}': {shown.task.question} takes {' or '.join(allowed)}")
        with self._writing():
            self._db.execute(
                "INSERT INTO votes (task, answer, seconds, at) VALUES (?, ?, ?, ?)",
                (shown.id, answer, seconds, time.time()),
            )

    def votes(self) -> list[Vote]:
        """The last vote on every task that has one, rater by rater, in the order of their schedules."""
        return [vote for vote in self.every_vote() if not vote.replaced]

    def every_vote(self) -> list[Vote]:
        """The same, and before each those that it replaced, in the order in which they were given."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT raters.name, place, answer, seconds, at, votes.id < {LAST}, {TASK} FROM votes "
                "JOIN tasks ON tasks.id = votes.task JOIN raters ON raters.id = tasks.rater "
                "ORDER BY raters.id, place, votes.id"
            ).fetchall()
        return [
            Vote(name, place, Task(*task), answer, seconds, at, bool(replaced))
            for name, place, answer, seconds, at, replaced, *task in rows
        ]


def opened(folder: Path, whose: Whose) -> Store:
    """The votes in a folder, which are there. LimnerError where nobody has been asked yet."""
    path = folder / FILES[whose]
    if not path.is_file():
        remedy = "`limner vote DIR`" if whose == "people" else "`limner vote panel DIR`"
        raise LimnerError(f"{folder} has no {path.name}: nobody has been asked yet, so begin with {remedy}")
    return Store(path, whose)
