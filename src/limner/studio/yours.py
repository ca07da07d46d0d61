"""Your pictures: a folder looked over, a run started on it, watched, stopped and gone on with."""

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from limner.data.check import Report, check
from limner.errors import LimnerError
from limner.server.errors import Refused
from limner.studio.asked import whole
from limner.studio.curve import curve
from limner.studio.fields import blank_field
from limner.studio.shown import alert, note, png_url, section
from limner.studio.training import ROOMS, Plan, State, Training, curves, samples, steps_done
from limner.studio.turns import TROUBLE

# Problems that are named; the rest is counted.
NAMED = 8
SECONDS = 2.0
FOLDER = "Pictures with a .txt of the same name beside each, or one captions.csv or captions.jsonl."
EMPTY = '<p class="lm-empty">Check a folder, then start a run on it. Its curve and samples come here.</p>'
SAID: dict[State, str] = {
    "nothing": "no run was started here",
    "running": "training",
    "stopping": "finishing the step and saving",
    "stopped": "stopped, and saved: go on whenever you like",
    "finished": "finished",
    "failed": "failed",
}


def pictures_of(folder: str) -> Path:
    """The folder that somebody wrote. ValueError where it is none."""
    if not folder.strip():
        raise ValueError("folder is empty: give the path of one with captioned pictures")
    return Path(folder.strip()).expanduser()


def checked(folder: str) -> tuple[Report, bytes]:
    """What is in a folder, as `limner data check` says it, and a sheet of it."""
    path = pictures_of(folder)
    with tempfile.TemporaryDirectory() as scratch:
        sheet = Path(scratch) / "sheet.png"
        report = check(path, sheet)
        return report, sheet.read_bytes() if sheet.is_file() else b""


def report_html(report: Report, sheet: bytes) -> str:
    """A report as a table, its problems by name, and the sheet."""
    rows = {"pictures that can be used": str(report.pictures)}
    if report.pictures:
        low, middle, high = report.words
        rows |= {
            "captions": f"{report.captions}, of {report.vocabulary} different words",
            "words in a caption": f"{low} to {high}, half of them {middle:g} or fewer",
            "sizes in pixels": _few([f"{size}: {number}" for size, number in report.sizes.items()]),
            "the same file twice": f"{len(report.exact)} groups",
            "nearly the same": f"{len(report.near)} groups",
        }
    rows["skipped"] = str(len(report.problems))
    table = "".join(f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in rows.items())
    named = "".join(f"<li>{escape(f'{one.path.name}: {one.reason}')}</li>" for one in report.problems[:NAMED])
    problems = f'<ul class="lm-problems">{named}</ul>' if named else ""
    shown = ""
    if sheet:
        told = "Some of the pictures, each above its caption"
        shown = f'<img class="lm-sheet" src="{png_url(sheet)}" alt="{told}">'
    told = "Ready to train on." if report.ok else "What is skipped does no harm to the rest."
    return section(report.folder.name, told, f'<div class="lm-card"><dl>{table}</dl></div>{problems}{shown}')


def run_html(training: Training) -> str:
    """The run that was started last: what would be typed, its curves, its newest samples, its last words."""
    if training.plan is None:
        return EMPTY
    found = curves(training.plan.out)
    parts = [f'<p class="lm-log">{escape(" ".join(training.plan.command))}</p>']
    if found:
        drawn = "".join(curve(rows, name) for name, rows in reversed(found.items()))
        parts.append(section("Loss", "Over the steps of each part; lower is better.", drawn))
    if newest := samples(training.plan.out):
        shown = "".join(_sample(path, training.plan.out) for path in newest)
        parts.append(section("Samples", "By the averaged weights, the newest first.", shown))
    if said := training.said():
        lines = escape("\n".join(said))
        parts.append(section("What it says", "", f'<p class="lm-log">{lines}</p>'))
    return "".join(parts)


def state_html(training: Training) -> str:
    """How it stands, with a bar while it trains."""
    state = training.state
    if training.plan is None:
        return note(SAID[state])
    if state == "failed":
        return alert(Refused((training.said() or ["the run ended"])[-1].removeprefix("limner: ")))
    done, total = steps_done(curves(training.plan.out)), training.plan.total
    if total is None:
        return note(f"{SAID[state]}: {done:,} steps")
    return note(f"{SAID[state]}: {done:,} of {total:,} steps", share=min(1.0, done / total))


def _sample(path: Path, out: Path) -> str:
    try:
        source = png_url(path.read_bytes())
    except OSError:  # tidied up in the meantime
        return ""
    step = int(path.stem) if path.stem.isdecimal() else 0
    part = path.parent.parent.name if path.parent.parent != out else out.name
    told = escape(f"{part} at step {step:,}")
    return (
        f'<figure class="lm-samples"><img src="{source}" alt="Samples of {told}">'
        f"<figcaption>{told}</figcaption></figure>"
    )


def _few(words: Sequence[str], most: int = 6) -> str:
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def yours_tab(training: Training, page: gr.Blocks) -> None:
    """The tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            folder = gr.Textbox(
                "",
                label="Folder of pictures",
                info=FOLDER,
                placeholder="my-pictures",
                elem_id="lm-yours-folder",
            )
            look = gr.Button("Check the folder", elem_id="lm-yours-check")
            room = gr.Radio(
                [(told, name) for name, told in ROOMS.items()],
                value="line",
                label="What to train",
                elem_id="lm-yours-room",
            )
            size = gr.Radio(
                [("toy, minutes", "toy"), ("small, hours", "small")],
                value="toy",
                label="Size",
                elem_id="lm-yours-size",
            )
            out = gr.Textbox("runs/mine", label="Where the run goes", elem_id="lm-yours-out")
            steps = blank_field("Steps", "Of a single part.", "the recipe's own", "lm-yours-steps")
            with gr.Row():
                start = gr.Button("Train", variant="primary", elem_id="lm-yours-start")
                stop = gr.Button("Stop", variant="stop", elem_id="lm-yours-stop")
                resume = gr.Button("Go on", elem_id="lm-yours-resume")
            state = gr.HTML(note(SAID["nothing"]), elem_id="lm-yours-note")
        with gr.Column(scale=5, min_width=300):
            found = gr.HTML("", elem_id="lm-yours-report")
            shown = gr.HTML(EMPTY, elem_id="lm-yours-run")
    timer = gr.Timer(SECONDS, active=False)

    def looking(folder: str) -> tuple[Any, Any]:
        try:
            return report_html(*checked(folder)), gr.skip()
        except LimnerError as error:  # Of the folder that was written, which is no secret.
            return "", alert(Refused(str(error)))
        except TROUBLE as error:
            return "", alert(error)

    def begin(folder: str, room: str, size: str, out: str, steps: str) -> tuple[Any, Any, Any]:
        return launch(folder, room, size, out, steps, resume=False)

    def go_on(folder: str, room: str, size: str, out: str, steps: str) -> tuple[Any, Any, Any]:
        return launch(folder, room, size, out, steps, resume=True)

    def launch(
        folder: str, room: str, size: str, out: str, steps: str, *, resume: bool
    ) -> tuple[Any, Any, Any]:
        try:
            if not out.strip():
                raise ValueError("out is empty: say where the run goes, such as runs/mine")
            plan = Plan(
                room=room,
                size=size,
                data=pictures_of(folder),
                out=Path(out.strip()).expanduser(),
                steps=whole(steps, "steps"),
            )
            training.start(plan, resume=resume)
        except TROUBLE as error:
            return alert(error), gr.skip(), gr.skip()
        return current()

    def halt() -> tuple[Any, Any, Any]:
        try:
            training.stop()
        except TROUBLE as error:
            return alert(error), gr.skip(), gr.skip()
        return current()

    def current() -> tuple[Any, Any, Any]:
        active = training.state in ("running", "stopping")
        return state_html(training), run_html(training), gr.Timer(active=active)

    fields = [folder, room, size, out, steps]
    outputs = [state, shown, timer]
    look.click(looking, [folder], [found, state], show_progress="hidden")
    start.click(begin, fields, outputs, show_progress="hidden")
    resume.click(go_on, fields, outputs, show_progress="hidden")
    stop.click(halt, None, outputs, show_progress="hidden")
    timer.tick(current, None, outputs, show_progress="hidden")
    page.load(current, None, outputs, show_progress="hidden")
