"""`limner vote`: a blind page that asks people which of two pictures is better, and what their votes say."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from limner.cli.places import JUDGE, try_folder, try_writing
from limner.pipelines.settings import checked_whole

if TYPE_CHECKING:
    from limner.vote.schedule import Design
    from limner.vote.study import Study

HELP = """Ask people which of two pictures is better, blindly, and report what they said.
  limner vote comparison
  limner vote page comparison --raters anna,ben --host 0.0.0.0
  limner vote report comparison
  limner vote export comparison --out votes.csv
  limner vote panel comparison --judge runs/judge
  limner vote plan --win-rate 0.6 --models 4"""
PAGE_HELP = """Serve the page on which people vote, until it is stopped; `page` may be left out.
  limner vote page comparison
  limner vote comparison --most 120 --port 9000
  limner vote comparison --raters anna,ben --host 0.0.0.0"""
REPORT_HELP = """Say what the votes say: win rates, Elo, agreement, and what would settle the rest.
  limner vote report comparison
  limner vote report comparison --out report --majority 3"""
EXPORT_HELP = """Write every vote as a line of CSV or as JSON, those that were taken back too.
  limner vote export comparison --out votes.csv"""
PANEL_HELP = """Ask automatic judges the same, under their own name and in a file of their own.
  limner vote panel comparison --judge runs/judge
  limner vote report comparison --panel"""
PLAN_HELP = """Say how many prompts and votes a difference needs, before anybody votes.
  limner vote plan --win-rate 0.6
  limner vote plan --win-rate 0.55 --models 4 --questions 3 --alike 0.3"""

TASKS = ("page", "report", "export", "panel", "plan")
ASKED = ("realism", "caption", "diversity")
MOST_ASKED = 100_000
COMPARED = "give the one with the pictures, OUT of `limner compare --out OUT`"


def spelled(argv: Sequence[str]) -> list[str]:
    """The command as tyro wants it: `limner vote DIR` is short for `limner vote page DIR`."""
    given = list(argv)
    if given[:1] == ["vote"] and len(given) > 1 and given[1] not in (*TASKS, "-h", "--help"):
        given.insert(1, "page")
    return given


@dataclass(frozen=True, kw_only=True)
class Page:
    """The options of `limner vote DIR`."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """Pictures of several models for the same prompts; votes are kept in its votes.sqlite."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Where to listen; by default only this machine itself gets in."""
    port: Annotated[int, arg(metavar="N")] = 8000
    """At which port; 0 for any that is free."""
    raters: Annotated[str | None, arg(metavar="A,B", help_behavior_hint="(default: anybody)")] = None
    """Who may vote, with commas between: each gets a link of their own, and nobody else gets in."""
    anybody: bool = False
    """Let whoever reaches the address vote under any name, from other machines too."""
    questions: Annotated[
        str | None, arg(metavar="A,B", help_behavior_hint=f"(default: {','.join(ASKED)})")
    ] = None
    """What to ask, with commas between; diversity is of grids, and wants four pictures of each prompt at
    least, sixteen for grids of 4 × 4."""
    pictures: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 1)")] = None
    """How many of each model's pictures of a prompt are compared, one with one."""
    most: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """How many pairs one rater is asked, beside repeats and checks; raters share out the rest."""
    repeats: Annotated[float | None, arg(metavar="SHARE", help_behavior_hint="(default: 0.1)")] = None
    """Of the pairs, how many come again with sides swapped."""
    checks: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 12)")] = None
    """One plain pair, to see who looks, to so many others; 0 for none."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 0)")] = None
    """The same seed, the same pairs in the same order for the first rater, the second, and so on."""

    def run(self) -> None:
        """Look at the pictures, begin or go on, serve."""
        from limner.cli.serve import loopback

        checked_whole("port", self.port, 0, 65535)
        alone = loopback(self.host)
        names = [] if self.raters is None else [name.strip() for name in self.raters.split(",")]
        if names and self.anybody:
            raise ValueError("raters is given beside anybody: leave out one of them")
        if not alone and not names and not self.anybody:
            raise ValueError(
                f"host is '{self.host}', where other machines get in: give --raters, or --anybody if whoever "
                "reaches it may vote"
            )
        from limner.vote.study import begun, checked_names

        checked_names(names)
        try_folder("folder", self.folder, COMPARED)
        design = self._design()
        try_writing(self.folder, "DIR")

        from limner.server.running import bound
        from limner.vote.running import run

        # Known at once, before pictures are read and anything is begun.
        bound(self.host, self.port).close()
        study = begun(self.folder, design, "people")
        tell_left_out(study)
        links = [(name, study.join(name).token) for name in names]

        def on_ready(address: str) -> None:
            shared = len(study.line)
            print(f"{shared} pairs of {', '.join(study.showing.gathered.models)} at {address}", flush=True)
            for name, token in links:
                print(f"{name}: {address}/r/{token}", flush=True)

        run(study, host=self.host, port=self.port, names=not links, alone=alone, on_ready=on_ready)

    def _design(self) -> "Design | None":
        """What was asked for, over how the study was begun or else over the usual; None where nothing was."""
        from limner.vote.schedule import Design
        from limner.vote.study import beginning

        for name, given, low, high in (
            ("pictures", self.pictures, 1, 1000),
            ("most", self.most, 1, MOST_ASKED),
            ("checks", self.checks, 0, MOST_ASKED),
            ("seed", self.seed, 0, 2**53),
        ):
            if given is not None:
                checked_whole(name, given, low, high)
        if self.repeats is not None and not 0 <= self.repeats <= 1:
            raise ValueError(f"repeats is {self.repeats}: give a share from 0 to 1")
        began = beginning(self.folder, "people")
        design = Design() if began is None else began.design
        if self.questions is not None:
            design = replace(design, questions=checked_questions(self.questions))
        if self.pictures is not None:
            design = replace(design, pictures=self.pictures)
        if self.most is not None:
            design = replace(design, most=self.most)
        if self.repeats is not None:
            design = replace(design, repeats=self.repeats)
        if self.checks is not None:
            design = replace(design, checks=self.checks)
        if self.seed is not None:
            design = replace(design, seed=self.seed)
        return design


@dataclass(frozen=True, kw_only=True)
class Report:
    """The options of `limner vote report`."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """The folder that was voted on."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: in DIR)")] = None
    """Where report.md, report.html and the tables go; by default DIR/votes, of the panel DIR/panel."""
    panel: bool = False
    """Report on the automatic judges in place of people."""
    majority: Annotated[int, arg(metavar="N")] = 5
    """How many votes a majority is of, an odd number."""
    passes: Annotated[float, arg(metavar="SHARE")] = 0.75
    """Of the checks, how many a rater must pass for their votes to count."""
    seed: int = 0
    """What resampling draws from."""

    def run(self) -> None:
        """Work it out, write it, print it."""
        checked_whole("majority", self.majority, 1, 999)
        if self.majority % 2 == 0:
            raise ValueError(f"majority is {self.majority}: give an odd number, such as 5")
        if not 0 <= self.passes <= 1:
            raise ValueError(f"passes is {self.passes}: give a share from 0 to 1")
        out = self.folder / ("panel" if self.panel else "votes") if self.out is None else self.out
        from limner.vote.store import opened

        store = opened(self.folder, "panel" if self.panel else "people")
        votes, whose = store.votes(), store.whose
        store.close()
        from limner.vote.report import measure
        from limner.vote.written import markdown, save, sections

        found = measure(votes, whose, of=self.majority, passes=self.passes, seed=self.seed)
        try_writing(out)
        paths = save(found, out)
        print(markdown(found, sections(found)))
        for path in paths:
            print(path)


@dataclass(frozen=True, kw_only=True)
class Export:
    """The options of `limner vote export`."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """The folder that was voted on."""
    out: Annotated[Path, arg(metavar="FILE")]
    """Where to write; the name ends in .csv or .json."""
    panel: bool = False
    """Write the answers of the automatic judges in place of people's votes."""

    def run(self) -> None:
        """Write, and print where."""
        if self.out.is_dir() or self.out.suffix.lower() not in (".csv", ".json"):
            raise ValueError(f"out is '{self.out}': give a name that ends in .csv or .json")
        try_writing(self.out.parent)
        from limner.pipelines.png import write
        from limner.vote.exporting import as_csv, as_json
        from limner.vote.store import opened

        store = opened(self.folder, "panel" if self.panel else "people")
        told = (as_csv if self.out.suffix.lower() == ".csv" else as_json)(store.every_vote(), store.whose)
        store.close()
        write(self.out, told.encode())
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The options of `limner vote panel`."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """The pictures; answers are kept in its panel.sqlite."""
    judge: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: CLIP alone)")] = None
    """A trained recogniser, which is asked as well."""
    clip: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: the one that ships)")] = (
        None
    )
    """Another CLIP."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Ask every judge what it has not answered yet; print how many answers each gave."""
        try_folder("folder", self.folder, COMPARED)
        if self.judge is not None:
            try_folder("judge", self.judge, JUDGE)
        try_writing(self.folder, "DIR")
        from limner.pipelines.devices import device_named
        from limner.vote.panel import clip, recogniser, sit
        from limner.vote.study import begun

        device = str(device_named(self.device))
        study = begun(self.folder, None, "panel")
        tell_left_out(study)
        judges = [clip(weights=self.clip, device=device)]
        if self.judge is not None:
            judges.append(recogniser(self.judge, device=device))
        for name, answers in sit(study, judges):
            print(f"{name}: {answers} answers")
        study.store.close()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of `limner vote plan`."""

    win_rate: Annotated[float, arg(metavar="SHARE")]
    """The smallest share of votes that is to be told from a half, such as 0.6."""
    models: Annotated[int, arg(metavar="N")] = 2
    """How many are compared, each with each."""
    questions: Annotated[int, arg(metavar="N")] = 1
    """How many questions are asked of each pair."""
    alike: Annotated[float, arg(metavar="SHARE")] = 0.2
    """How alike votes on one prompt are: 0 not at all, 1 entirely."""
    seconds: Annotated[float, arg(metavar="N")] = 6.0
    """How long a vote takes."""
    power: Annotated[float, arg(metavar="SHARE")] = 0.8
    """In how many of such studies the difference is to be found."""
    level: Annotated[float, arg(metavar="SHARE")] = 0.05
    """In how many studies of equals one is to be found all the same."""

    def run(self) -> None:
        """Print a line for each number of raters that see every pair."""
        from limner.vote.power import needs

        found = needs(
            self.win_rate,
            models=self.models,
            questions=self.questions,
            alike=self.alike,
            seconds=self.seconds,
            power=self.power,
            level=self.level,
        )
        widths = (8, 9, 14, 14, 14, 12)
        rows: list[tuple[str, ...]] = [
            ("raters", "prompts", "votes a pair", "votes in all", "hours in all", "hours each")
        ]
        for one in found:
            whole = (one.votes, one.prompts, one.a_pair, one.total)
            hours = (one.hours, one.hours / one.votes)
            rows.append((*(f"{n:,}" for n in whole), *(f"{n:,.1f}" for n in hours)))
        for row in rows:
            print("".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def tell_left_out(study: "Study") -> None:
    """Warn of everybody in the folder whom nobody is asked about."""
    for model, why in study.showing.gathered.left_out.items():
        warnings.warn(f"{model} is left out, for it {why}", stacklevel=2)


def checked_questions(questions: str) -> tuple[Literal["realism", "caption", "diversity"], ...]:
    """Several questions with commas between. ValueError for one that is not asked."""
    given = [question.strip() for question in questions.split(",")]
    if not given or len(set(given)) < len(given) or not set(given) <= set(ASKED):
        raise ValueError(f"questions is '{questions}': give some of {','.join(ASKED)}, each once")
    return tuple(question for question in ("realism", "caption", "diversity") if question in given)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """The sub-commands of `limner vote`."""

    task: (
        Annotated[Page, subcommand("page", description=PAGE_HELP)]
        | Annotated[Report, subcommand("report", description=REPORT_HELP)]
        | Annotated[Export, subcommand("export", description=EXPORT_HELP)]
        | Annotated[Panel, subcommand("panel", description=PANEL_HELP)]
        | Annotated[Plan, subcommand("plan", description=PLAN_HELP)]
    )

    def run(self) -> None:
        """Do what was asked for."""
        self.task.run()
