"""The whole: painted, killed, gone on with, measured and told."""

import csv
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from limner.cli import main
from limner.comparison import run as running
from limner.comparison.cost import Cost, cost
from limner.comparison.entrants import entrant
from limner.comparison.painting import Work, missing, paint, seconds_of
from limner.pipelines import load
from limner.pipelines.png import save_png
from limner.pipelines.settings import GlideSettings, PaintSettings, TokenSettings

# So few pictures mean nothing, and it says so.
pytestmark = pytest.mark.filterwarnings("ignore::limner.evaluation.few.FewPicturesWarning")

PROMPTS = ("a red apple", "two cats", "a blue car")


def options(lines: dict[str, Path], out: Path, *more: str) -> list[str]:
    """A comparison of those that paint 32 pixels."""
    models = f"dfgan={lines['dfgan']},dalle1={lines['dalle1']},dalle1:reranked={lines['dalle1']}"
    prompts = out.parent / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS) + "\n\n")
    return [
        *("compare", "--models", models, "--prompts", str(prompts), "--count", "2", "--out", str(out)),
        *("--device", "cpu", *more),
    ]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of its own for every cost, which one test is enough for."""

    def cheaply(work, _folder, *, weights, device, precision):
        assert device == "cpu"
        assert precision == "fp32"
        return Cost(
            weights=weights,
            size=work.size,
            device=device,
            precision=precision,
            seconds=0.5,
            megabytes=123.0,
        )

    monkeypatch.setattr(running, "cost", cheaply)


def pixels(folder: Path) -> dict[str, bytes]:
    """Every picture below a folder, by its place."""
    found = {}
    for file in sorted(folder.rglob("*.png")):
        with Image.open(file) as opened:
            found[str(file.relative_to(folder))] = opened.tobytes()
    return found


@pytest.mark.usefixtures("cheap")
def test_a_comparison_from_words_to_tables(lines, blind, drawings, tmp_path, capsys):
    out, page = tmp_path / "out", tmp_path / "docs" / "comparison.md"
    call = options(
        lines, out, "--judge", str(blind), "--data", str(drawings), "--most-real", "60", "--blur", "2"
    )
    assert main([*call, "--page", str(page)]) == 0
    assert capsys.readouterr().out == f"{out / 'report.html'}\n"

    # The pictures are what each painter paints in its own way, best first where CLIP has chosen.
    dalle1 = load("dalle1", weights=lines["dalle1"])
    chosen = dalle1.paint(PROMPTS, count=2, settings=TokenSettings(candidates=8))
    plain = dalle1.paint(PROMPTS, count=2)
    found = pixels(out / "pictures")
    assert len(found) == 18
    for folder, pictures in (("dalle1-reranked", chosen), ("dalle1", plain)):
        for number, picture in enumerate(pictures):
            file = f"{folder}/{number // 2:05d}-{number % 2 + 1:02d}.png"
            assert found[file] == picture.tobytes()
    assert chosen[0].tobytes() != plain[0].tobytes()
    known = json.loads((out / "comparison.json").read_text())
    assert known["prompts"] == list(PROMPTS)
    assert [one["name"] for one in known["entrants"]] == ["dfgan", "dalle1", "dalle1:reranked"]
    assert known["entrants"][1]["weights"] == dalle1.digest
    assert all((out / one["pictures"]).is_dir() for one in known["entrants"])

    # Every number has an interval around it, and everybody has every number.
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    numbers = [row for row in rows if row["low"]]
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in numbers)
    measured = {row["measure"] for row in rows if row["entrant"] == "dalle1"}
    assert {"clip", "frechet", "frechet_clip", "cmmd", "score", "precision", "recall", "spread"} <= measured
    assert {"first", "five", "copies", "seconds", "megabytes", "frechet_blurred"} <= measured
    seconds = {row["entrant"]: float(row["value"]) for row in rows if row["measure"] == "seconds"}
    assert 0 < seconds["dfgan"] < seconds["dalle1:reranked"]
    assert any(row["entrant"] == "dfgan over dalle1" and "diversity" in row["measure"] for row in rows)

    # The page needs nothing but itself, and says what it is.
    html = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", html)
    # Letters of a picture may spell anything.
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert html.count("data:image/png;base64,") == 6
    for said in ("stand-in panel of automatic judges", "Few pictures", "90.0 %", dalle1.digest):
        assert said in html
    assert known["prompts_sha256"] in html
    for text, folder in ((out / "report.md", "report"), (page, "comparison")):
        shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text.read_text())
        assert len(shown) == 6
        assert all(one.startswith(f"{folder}/") and (text.parent / one).is_file() for one in shown)
    assert page.read_text().startswith("# comparison: ")
    assert page.read_text().count("DALL-E 1 is preferred to DF-GAN as more realistic | 90.0 % | CLIP |") == 1
    assert "\n|  |  | recogniser |" in page.read_text()

    # Once more: nothing is painted or looked at again, and the numbers are the same.
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.png") if "report" not in file.parts}
    before |= {file: file.stat().st_mtime_ns for file in out.rglob("*.npz")}
    numbers_before = (out / "scores.csv").read_text()
    assert main(call) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (out / "scores.csv").read_text() == numbers_before

    # Others' words, or another count, are another comparison: nothing of the first is replaced.
    (tmp_path / "others.txt").write_text("a green pear\n")
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    for option, value, told in (
        ("--prompts", str(tmp_path / "others.txt"), "its prompts are others; give another --out"),
        ("--count", "3", "its count is 2, here 3; give another --out"),
    ):
        other = list(call)
        other[other.index(option) + 1] = value
        capsys.readouterr()
        assert main(other) == 2
        assert told in capsys.readouterr().err
    # So are pictures by other weights.
    other = list(call)
    other[other.index("--models") + 1] = f"dfgan={lines['other dfgan']}"
    assert main(other) == 2
    assert "is of another comparison: its weights is" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


@pytest.mark.usefixtures("cheap")
def test_somebody_elses_picture_is_refused_before_anybody_paints(lines, tmp_path, capsys):
    """It lies where the last of three is to paint: neither of the first two begins."""
    out = tmp_path / "out"
    call = options(lines, out, "--blur", "0")
    place = out / "pictures" / "dalle1-reranked" / "00002-02.png"
    place.parent.mkdir(parents=True)
    save_png(load("dalle1", weights=lines["dalle1"]).paint("a pear")[0], place, {"prompt": "a pear"})
    assert main(call) == 2
    assert f"{place} is of another comparison: its prompt is 'a pear'" in capsys.readouterr().err
    assert [file for file in out.rglob("*") if file.is_file()] == [place]


@pytest.mark.usefixtures("cheap")
def test_variants_are_painted_their_own_way(lines, tmp_path):
    """Of those that paint 64 pixels; with neither judge nor data, and a built-in list."""
    names = {"glide:clip": "glide", "glide": "glide", "dalle2:autoregressive": "dalle2", "dalle2": "dalle2"}
    models = ",".join(f"{name}={lines[model]}" for name, model in names.items())
    out = tmp_path / "out"
    call = ["compare", "--models", models, "--prompts", "emoji600:count", "--most", "1", "--count", "1"]
    assert main([*call, "--blur", "0", "--out", str(out), "--device", "cpu"]) == 0
    (prompt,) = json.loads((out / "comparison.json").read_text())["prompts"]
    found = pixels(out / "pictures")
    glide, dalle2 = load("glide", weights=lines["glide"]), load("dalle2", weights=lines["dalle2"])
    wanted = {
        "glide-clip": glide.paint(prompt, settings=GlideSettings(guidance_kind="clip")),
        "glide": glide.paint(prompt),
        "dalle2-autoregressive": dalle2.paint(
            prompt, size=64, settings=PaintSettings(prior="autoregressive")
        ),
        "dalle2": dalle2.paint(prompt, size=64),
    }
    assert found == {f"{name}/00000-01.png": pictures[0].tobytes() for name, pictures in wanted.items()}
    assert len(set(found.values())) == 4
    # Nobody paints 32 pixels here and there.
    told = (out / "report.md").read_text()
    assert "ImageNet's 1000 names" in told
    assert "Is it like real pictures?" in told
    assert "Fréchet" not in told.split("## Settings")[0].split("## Is it like")[1].split("\n\n")[2]


def test_killed_at_any_moment_it_goes_on_where_it_was(lines, tmp_path):
    """Whatever lies there when it is killed is whole, stays, and ends as what an unbroken run paints."""
    environment = {"PYTHONPATH": str(Path(running.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    import os

    call = options(lines, tmp_path / "out", "--blur", "0")
    program = (
        "import sys, time\n"
        "from limner.comparison import painting, run\n"
        "from limner.comparison.cost import Cost\n"
        "run.cost = lambda work, folder, *, weights, device, precision: "
        "Cost(weights=weights, size=work.size, device=device, precision=precision, seconds=1.0, "
        "megabytes=None)\n"
        "painting.AT_ONCE = 2\n"
        "save = painting.save_png\n"
        "def slowly(*given):\n    time.sleep(0.2)\n    save(*given)\n"
        "painting.save_png = slowly\n"
        "from limner.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )

    def begun() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *call],
            env={**os.environ, **environment},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    kept: dict[str, bytes] = {}
    pictures = tmp_path / "out" / "pictures"
    for least in (3, 9):
        process = begun()
        began = time.monotonic()
        while len(list(pictures.rglob("*.png"))) < least and time.monotonic() - began < 240:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = pixels(pictures)  # every one can be read to its end
        assert kept.items() <= now.items()
        assert least <= len(now) < 18
        times = {file: file.stat().st_mtime_ns for file in pictures.rglob("*.png")}
        kept = now
    assert begun().wait() == 0
    # Prompts that were whole were not painted again.
    whole = [file for file in times if file.with_name(file.name.replace("-01", "-02")) in times]
    assert len(whole) >= 6
    assert all(file.stat().st_mtime_ns == times[file] for file in whole)
    assert not list((tmp_path / "out").rglob(".*.part"))
    unbroken = {}
    for model, count in (("dfgan", 2), ("dalle1", 2)):
        painted = load(model, weights=lines[model]).paint(PROMPTS, count=count)
        for number, one in enumerate(painted):
            unbroken[f"{model}/{number // 2:05d}-{number % 2 + 1:02d}.png"] = one.tobytes()
    assert unbroken.items() <= pixels(pictures).items()
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_cost_is_measured_in_a_process_of_its_own(lines, tmp_path):
    one = entrant(f"dfgan={lines['dfgan']}")
    work = Work(one, ("a cat",), 2, 32, 0, tmp_path / "pictures")
    found = cost(work, tmp_path, weights="abc", device="cpu", precision="fp32")
    assert found.seconds > 0
    assert found.megabytes is None or 0 <= found.megabytes < 2000
    assert not multiprocessing.active_children()
    assert not work.folder.exists()
    # It is kept, for these weights.
    kept = tmp_path / "cost" / "dfgan.json"
    stamp = kept.stat().st_mtime_ns
    assert cost(work, tmp_path, weights="abc", device="cpu", precision="fp32") == found
    assert kept.stat().st_mtime_ns == stamp
    # What is damaged, or of other weights, is measured anew.
    kept.write_text("{}")
    assert cost(work, tmp_path, weights="abc", device="cpu", precision="fp32").seconds > 0
    assert json.loads(kept.read_text())["weights"] == "abc"
    assert cost(work, tmp_path, weights="def", device="cpu", precision="fp32").weights == "def"
    assert json.loads(kept.read_text())["weights"] == "def"


def test_a_cost_is_of_the_device_that_it_was_measured_on(lines, tmp_path):
    """What was measured on another one, or in other arithmetic, is not taken for what it costs here."""
    work = Work(entrant(f"dfgan={lines['dfgan']}"), ("a cat",), 2, 32, 0, tmp_path / "pictures")
    kept = tmp_path / "cost" / "dfgan.json"
    there = cost(work, tmp_path, weights="abc", device="cpu", precision="fp32")
    for name, other in (("device", "cuda"), ("precision", "bf16")):
        kept.write_text(json.dumps({**asdict(there), name: other, "seconds": 9e9}))
        found = cost(work, tmp_path, weights="abc", device="cpu", precision="fp32")
        assert 0 < found.seconds < 9e9
        assert json.loads(kept.read_text()) == asdict(found)
    kept.write_text(json.dumps({**asdict(there), "seconds": 9e9}))
    assert cost(work, tmp_path, weights="abc", device="cpu", precision="fp32").seconds == 9e9


def test_seconds_are_of_pictures_painted_here(lines, tmp_path):
    painter = load("dfgan", weights=lines["dfgan"])
    work = Work(entrant(f"dfgan={lines['dfgan']}"), ("a cat", "a pear"), 1, 32, 0, tmp_path)
    paint(work, painter, [0, 1], iter)
    assert len(seconds_of(work, "cpu")) == 2
    with Image.open(work.file(1, 1)) as opened:
        elsewhere, told = opened.copy(), {**opened.info, "device": "cuda", "seconds": "9000000"}
    save_png(elsewhere, work.file(1, 1), told)
    assert len(seconds_of(work, "cpu")) == 1
    assert seconds_of(work, "cpu")[0] < 9e6
    assert seconds_of(work, "cuda") == [9e6]
    # It is the same picture wherever it was painted.
    assert missing(work, painter) == []
