"""Your pictures: folders are looked over, runs begin, are watched, stopped and gone on with."""

import io
import json
import time

import pytest
from PIL import Image

from limner.errors import LimnerError
from limner.server.errors import Refused
from limner.studio import yours
from limner.studio.curve import POINTS, curve, thinned
from limner.studio.training import Plan, Training, curves, samples, steps_done
from limner.training.state import states


@pytest.fixture
def training():
    training = Training()
    yield training
    training.close()


def test_a_folder_is_looked_over(folder):
    report, sheet = yours.checked(str(folder))
    assert report.pictures == 15
    with Image.open(io.BytesIO(sheet)) as opened:
        assert opened.format == "PNG"
    said = yours.report_html(report, sheet)
    assert "0.png: it has no caption" in said
    assert "<dd>15</dd>" in said


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^folder is empty"):
        yours.checked(" ")
    with pytest.raises(LimnerError, match=r"none"):
        yours.checked(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"room": "dalle3"}, "room is 'dalle3'"),
        ({"size": "paper"}, "size is 'paper'"),
        ({"room": "line", "steps": 3}, "steps is 3: line trains several parts"),
    ],
)
def test_plans_that_cannot_be_are_refused(folder, tmp_path, changes, said):
    plan = {"room": "vae", "size": "toy", "data": folder, "out": tmp_path / "run"} | changes
    with pytest.raises(ValueError, match=f"^{said}"):
        Plan(**plan)


def test_a_plan_knows_how_long_it_is(folder, tmp_path):
    plan = Plan(room="vae", size="toy", data=folder, out=tmp_path / "run")
    assert plan.total == 500
    assert Plan(room="line", size="toy", data=folder, out=tmp_path / "run").total > 3000
    assert Plan(room="vae", size="toy", data=folder, out=tmp_path / "run", steps=7).total == 7


def test_runs_that_are_there_are_neither_overwritten_nor_made_up(training, folder, tmp_path):
    plan = Plan(room="vae", size="toy", data=folder, out=tmp_path / "run")
    with pytest.raises(Refused, match=r"^there is no run in '.*run' to go on with"):
        training.start(plan, resume=True)
    with pytest.raises(Refused, match=r"^no run is under way"):
        training.stop()
    plan.out.mkdir()
    (plan.out / "log.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    with pytest.raises(Refused, match=r"^'.*run' holds a run already"):
        training.start(plan, resume=False)
    assert training.state == "nothing"


def test_a_run_is_stopped_with_its_state_and_gone_on_with_to_its_end(training, folder, tmp_path):
    plan = Plan(room="vae", size="toy", data=folder, out=tmp_path / "run", steps=60)
    training.start(plan, resume=False)
    with pytest.raises(Refused, match=r"^a run is under way"):
        training.start(plan, resume=False)
    until = time.monotonic() + 300
    while not (found := curves(plan.out)) and time.monotonic() < until:
        assert training.state == "running", training.said()
        time.sleep(0.05)
    training.stop()
    assert training.wait(120.0) == "stopped", training.said()
    found = curves(plan.out)
    done = steps_done(found)
    assert 0 < done < 60
    assert states(plan.out / "states")[-1].name == f"step_{done:08d}.pt"
    assert "stopped" in yours.state_html(training)
    assert 'class="lm-curve"' in yours.run_html(training)
    training.start(plan, resume=True)
    assert training.wait(300.0) == "finished", training.said()
    (rows,) = curves(plan.out).values()
    assert [step for step, _ in rows] == list(range(60))
    assert rows[:done] == found["run"]
    assert samples(plan.out)[0].name == "00000060.png"
    shown = yours.run_html(training)
    assert "run at step 60" in shown
    assert f"--out {plan.out} --steps 60" in shown


def test_a_run_that_fails_says_why(training, tmp_path):
    (tmp_path / "empty").mkdir()
    plan = Plan(room="vae", size="toy", data=tmp_path / "empty", out=tmp_path / "run")
    training.start(plan, resume=False)
    assert training.wait(300.0) == "failed"
    said = yours.state_html(training)
    assert 'role="alert"' in said
    assert "empty" in said


def test_a_half_written_line_is_no_step(tmp_path):
    rows = [json.dumps({"step": step, "loss": 2.0 - step}) for step in range(3)]
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "log.jsonl").write_text("\n".join([*rows, '{"step": 3, "lo']))
    assert curves(tmp_path) == {"clip": [(0, 2.0), (1, 1.0), (2, 0.0)]}


def test_a_curve_keeps_its_ends_and_few_points():
    rows = [(step, 1 / (1 + step)) for step in range(5000)]
    points = thinned(rows)
    assert len(points) <= POINTS
    assert points[-1][0] == 4999
    assert points[0][1] > 10 * points[-1][1]
    drawn = curve(rows, "<clip>")
    assert drawn.count("<path") == 1
    assert "&lt;clip&gt;: loss" in drawn
    assert "nan" not in curve([(0, 1.0)], "flat")
    with pytest.raises(ValueError, match=r"^rows is empty"):
        curve([], "none")
