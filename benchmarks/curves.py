"""The learning curves of runs, small enough to keep: docs/training/NAME.csv and .png.

    python benchmarks/curves.py prior=runs/prior --batch 256 --out docs/training
    python benchmarks/curves.py decoder=runs/decoder --batch 32 --suite 4000=runs/at4000/emoji600.json \
        --out docs/training

A line of the CSV is the mean of a stretch of steps: the last of them, pictures seen until then, core hours
until then, and what the run has written of itself. `--suite`: what the fixed evaluation said of the one run
after so many steps; its recognition of names, among five, stands in the line of that step.

Core hours are the run's own seconds times `--cores`, the cores it was given, whatever else went on there.
"""

import argparse
import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# A curve has so many lines at most.
LINES = 120


def rows_of(run: Path) -> list[dict[str, float]]:
    """What a run wrote of each step. SystemExit for a folder that holds no run."""
    log = run / "log.jsonl"
    if not log.exists():
        raise SystemExit(f"{log} is missing: give the folder of a run")
    found: list[dict[str, float]] = [json.loads(line) for line in log.read_text().splitlines()]
    return found


def thinned(rows: Sequence[Mapping[str, float]], batch: int, cores: int) -> list[dict[str, float]]:
    """At most LINES lines, each the mean of a stretch; steps, pictures and hours are those at its end."""
    stretch = -(-len(rows) // LINES)
    seconds, lines = 0.0, []
    for start in range(0, len(rows), stretch):
        part = rows[start : start + stretch]
        seconds += sum(batch / row["speed"] for row in part)
        end = int(part[-1]["step"]) + 1
        means = {
            key: float(f"{sum(row[key] for row in part) / len(part):.5g}")
            for key in part[0]
            if key not in ("step", "speed")
        }
        hours = round(seconds * cores / 3600, 4)
        lines.append({"step": end, "pictures": end * batch, "core_hours": hours, **means})
    return lines


def with_suite(lines: list[dict[str, float]], scores: Mapping[int, Path]) -> list[dict[str, float]]:
    """The lines with what the suite said, each in the first that is not before its step."""
    for step, file in sorted(scores.items()):
        known = json.loads(file.read_text())
        named = [row for row in known["rows"] if row["groups"] == ["name"] and row["mark"] == "among five"]
        line = next((one for one in lines if one["step"] >= step), lines[-1])
        line["names_among_five"] = named[0]["painted"]["value"]
    return lines


def written(lines: Sequence[Mapping[str, float]], file: Path) -> None:
    """As CSV; columns that only some lines have are empty in the others."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    partial = file.with_suffix(".partial")
    with partial.open("w", newline="") as out:
        table = csv.DictWriter(out, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    os.replace(partial, file)


def plotted(lines: Sequence[Mapping[str, float]], name: str, file: Path) -> None:
    """Loss by pictures, both logarithmic, and what the suite said on an axis of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.loglog([one["pictures"] for one in lines], [one["loss"] for one in lines])
    axes.set(title=name, xlabel="pictures seen", ylabel="loss")
    axes.grid(visible=True, which="both", alpha=0.3)
    hours = axes.secondary_xaxis(-0.25, functions=(lambda x: x, lambda x: x))
    first, last = lines[0]["pictures"], lines[-1]["pictures"]
    marks = [first * (last / first) ** (number / 4) for number in range(5)]
    ends = [min(lines, key=lambda one: abs(one["pictures"] - mark)) for mark in marks]
    hours.set_xticks([one["pictures"] for one in ends], [f"{one['core_hours']:.2g} h" for one in ends])
    hours.set_xlabel("core hours")
    scored = [one for one in lines if "names_among_five" in one]
    if scored:
        beside = axes.twinx()
        beside.plot(
            [one["pictures"] for one in scored],
            [100 * one["names_among_five"] for one in scored],
            "o-",
            color="C1",
        )
        beside.set(ylabel="names recognised among five, %", ylim=(0, 100))
    figure.savefig(file)


def main() -> None:
    """Read the runs, write their curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR", help="runs, and what their curves are called")
    parser.add_argument("--suite", nargs="*", default=[], metavar="STEP=JSON")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the curves")
    parser.add_argument("--cores", type=int, default=1, help="cores that the runs were given")
    parser.add_argument("--batch", type=int, required=True, help="rows a step")
    given = parser.parse_args()
    scores = {int(step): Path(file) for step, file in (one.split("=", 1) for one in given.suite)}
    given.out.mkdir(parents=True, exist_ok=True)
    for name, folder in (one.split("=", 1) for one in given.runs):
        lines = with_suite(thinned(rows_of(Path(folder)), given.batch, given.cores), scores)
        written(lines, given.out / f"{name}.csv")
        plotted(lines, name, given.out / f"{name}.png")
        print(f"{given.out / name}.csv: {len(lines)} lines, {lines[-1]['core_hours']} core hours")


if __name__ == "__main__":
    main()
