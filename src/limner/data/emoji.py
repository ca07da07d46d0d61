"""The emoji sets as a data folder: five painters' drawings of the same few thousand things, with captions."""

import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from limner.data import render, splits
from limner.data.captions import captions
from limner.data.colours import dominant_colours
from limner.data.drawings import drawings
from limner.data.names import Emoji, emoji_table
from limner.data.sources import (
    CLDR,
    EMOJIBASE,
    GENERATOR_SETS,
    JUDGE_SETS,
    PICTURES,
    VECTOR_SETS,
    cache_dir,
    obtain,
)
from limner.errors import LimnerError

__all__ = ["GENERATOR_SETS", "JUDGE_SETS", "VECTOR_SETS", "fetch"]

# What is called so was painted here.
PAINTED = re.compile(rf"({'|'.join(PICTURES)})/[0-9a-z-]+\.png")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to be made: what to draw, where it goes, what it says about its making."""

    path: Path
    size: int
    package: str
    drawing: render.Drawing


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of a job: the drawing's dominant colours and the hash of its pixels, or why there is none."""

    colours: tuple[str, ...] = ()
    digest: str = ""
    failure: str = ""


def fetch(
    out: Path,
    *,
    sets: Sequence[str] = GENERATOR_SETS,
    size: int = 256,
    most: int | None = None,
    workers: int | None = None,
    cache: Path | None = None,
) -> Path:
    """Fetch emoji sets, paint them at `size` pixels into the folder `out`, caption them; returns `out`.

    `most`: at most so many drawings of each set, spread over all of it; None for every one.
    Packages come by name through the `npm` client into `cache` and are checked by SHA-512. A run that was
    stopped is taken up where it stood: whole pictures are kept, `captions.jsonl` is written last.
    Raises `ValueError` for an unknown set, a size under 16 or `most` under 1, `LimnerError` when a package
    cannot be had and where `out` has captions of other pictures, which would be lost.
    """
    unknown = [name for name in sets if name not in PICTURES]
    if unknown or not sets:
        raise ValueError(f"sets must name some of {', '.join(PICTURES)}; got {', '.join(sets) or 'none'}")
    if not 16 <= size <= 2048:
        raise ValueError(f"size must be from 16 to 2048 pixels, got {size}")
    if most is not None and most < 1:
        raise ValueError(f"most is {most}: give a whole number from 1")
    only_made_here(out, PAINTED)
    if find_spec("resvg_py") is None:
        raise LimnerError("painting emoji needs the package resvg-py: pip install 'limner[data]'")
    named = list(dict.fromkeys(sets))
    tarballs = obtain([EMOJIBASE, CLDR, *(PICTURES[name] for name in named)], cache or cache_dir())
    table = emoji_table(tarballs[EMOJIBASE.name], tarballs[CLDR.name])
    try:
        out.mkdir(parents=True, exist_ok=True)
        rows = _paint(out, named, size, most, workers or os.cpu_count() or 1, tarballs, table)
        _write(out, rows, named)
    except OSError as error:
        raise LimnerError(f"cannot write into {out}: {error.strerror or error}") from error
    return out


def _paint(
    out: Path,
    sets: Sequence[str],
    size: int,
    most: int | None,
    workers: int,
    tarballs: dict[str, Path],
    table: dict[str, Emoji],
) -> list[dict[str, object]]:
    """Make every picture that is not there yet; the rows of all that are kept, without splits."""
    rows: list[dict[str, object]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _pool(workers) as pool, Progress(*columns) as progress:
        for style in sets:
            package = PICTURES[style]
            wanted = [
                (table[hexcode], drawing)
                for hexcode, drawing in drawings(style, tarballs[package.name], table)
                if table[hexcode].tone is None or splits.keeps_tone(hexcode)
            ]
            if most is not None and len(wanted) > most:
                wanted = [wanted[i * len(wanted) // most] for i in range(most)]
            (out / style).mkdir(exist_ok=True)
            for part in (out / style).glob(".*.part"):
                part.unlink(missing_ok=True)
            files = {out / style / f"{emoji.hexcode.lower()}.png": emoji for emoji, _ in wanted}
            jobs = (
                Job(path=file, size=size, package=package.spec, drawing=drawing)
                for file, (_, drawing) in zip(files, wanted, strict=True)
            )
            task = progress.add_task(f"painting {style}", total=len(wanted))
            made: dict[Path, Made] = {}
            for job, found in _spread(pool, jobs, 4 * workers):
                progress.advance(task)
                made[job.path] = found
                if found.failure:
                    progress.console.print(f"left out {job.path.name} of {style}: {found.failure}")
            kept = one_of_each(files, made)
            rows += [_row(style, files[file], list(made[file].colours)) for file in files if file in kept]
            for file in files.keys() - kept:
                file.unlink(missing_ok=True)
    return rows


def one_of_each(files: Mapping[Path, Emoji], made: Mapping[Path, Made]) -> set[Path]:
    """Of pictures that are the same pixel for pixel, the one with the shortest name; failures are left out.

    A set draws one flag for France and for its islands. Kept apart, such twins could lie on both sides of a
    split, and their captions would contradict each other.
    """
    best: dict[str, Path] = {}
    for file, emoji in files.items():
        digest = made[file].digest
        if digest and (digest not in best or len(emoji.name) < len(files[best[digest]].name)):
            best[digest] = file
    return set(best.values())


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of fresh processes; none for a single worker, which works where it is."""
    if workers <= 1:
        yield None
        return
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_follow_parent) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise LimnerError(
            "a painting process was stopped from outside: run again to go on from here"
        ) from error


def _follow_parent() -> None:
    """End this worker when the process that started it is gone, however it went."""

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    parent = parent_process()
    if parent is not None:
        Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _spread(pool: ProcessPoolExecutor | None, jobs: Iterable[Job], ahead: int) -> Iterator[tuple[Job, Made]]:
    """Do the jobs, at most `ahead` of them waiting, and yield each with what came of it."""
    if pool is None:
        yield from ((job, make(job)) for job in jobs)
        return
    pending: dict[Future[Made], Job] = {}
    for job in jobs:
        pending[pool.submit(make, job)] = job
        if len(pending) >= ahead:
            yield from _finished(pending)
    while pending:
        yield from _finished(pending)


def _finished(pending: dict[Future[Made], Job]) -> Iterator[tuple[Job, Made]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    yield from ((pending.pop(future), future.result()) for future in done)


def make(job: Job) -> Made:
    """Make one picture unless it is there and whole."""
    picture = render.reopen(job.path, job.size, job.package)
    if picture is None:
        try:
            picture = render.render(job.drawing, job.size)
        except ValueError as error:
            return Made(failure=str(error))
        render.save(picture, job.path, job.package)
    return Made(
        colours=tuple(dominant_colours(render.small(picture))),
        digest=hashlib.blake2b(picture.tobytes(), digest_size=16).hexdigest(),
    )


def _row(style: str, emoji: Emoji, colours: list[str]) -> dict[str, object]:
    seed = int(splits.fraction("captions", style, emoji.hexcode) * 2**53)
    return {
        "file": f"{style}/{emoji.hexcode.lower()}.png",
        "captions": captions(emoji.name, style, emoji.keywords, colours, random.Random(seed)),
        "name": emoji.name,
        "style": style,
        "hexcode": emoji.hexcode,
        "keywords": list(emoji.keywords),
        "group": emoji.group,
        "colours": colours,
        "skin_tone": emoji.tone,
        "licence": PICTURES[style].licence,
        "package": PICTURES[style].spec,
    }


def _write(out: Path, rows: list[dict[str, object]], sets: Sequence[str]) -> None:
    """The credits, then the rows with their splits: the last file is what makes the folder a data folder."""
    split = splits.assign((str(row["style"]), str(row["hexcode"])) for row in rows)
    lines = [
        json.dumps(row | {"split": split[str(row["style"]), str(row["hexcode"])]}, ensure_ascii=False) + "\n"
        for row in rows
    ]
    replace_text(out / "ATTRIBUTION.md", attribution(sets, Counter(str(row["style"]) for row in rows)))
    replace_text(out / "captions.jsonl", "".join(lines))


def attribution(sets: Sequence[str], counts: dict[str, int]) -> str:
    """Who drew what, under which licence, for the folder's ATTRIBUTION.md."""
    lines = ["# Who drew these pictures", "", "| folder | pictures | drawn by | licence | package | home |"]
    lines.append("|---|---|---|---|---|---|")
    for style in sets:
        package = PICTURES[style]
        cells = (
            style,
            str(counts.get(style, 0)),
            package.credit,
            package.licence,
            package.spec,
            package.home,
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Names and keywords: {EMOJIBASE.spec} ({EMOJIBASE.credit}, {EMOJIBASE.licence}) and "
        f"{CLDR.spec} ({CLDR.credit}, {CLDR.licence}).",
        "",
        "Changes: each drawing was rendered to a square PNG and centred with a small margin.",
        "CC-BY-4.0: https://creativecommons.org/licenses/by/4.0/ · "
        "CC-BY-SA-4.0: https://creativecommons.org/licenses/by-sa/4.0/ · "
        "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0 · MIT: https://opensource.org/license/mit",
        "",
    ]
    return "\n".join(lines)


def only_made_here(out: Path, files: re.Pattern[str]) -> None:
    """Raise LimnerError where the folder `out` has captions of files that are not called like `files`.

    A list that names other files is somebody's own, and what is written here would take its place.
    """
    table = out / "captions.jsonl"
    if not table.exists():
        return
    try:
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
        ours = all(files.fullmatch(row["file"]) for row in rows)
    except (OSError, ValueError, LookupError, TypeError):
        ours = False
    if not ours:
        raise LimnerError(f"{table} was not made by this command, and would be lost: give another folder")


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
