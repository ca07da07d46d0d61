"""What a run says of itself."""

import io
import json

import pytest
from rich.console import Console

from limner.training.report import History, in_words, progress_bar, verdict


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89.0, "89 s"),
        (90.0, "2 min"),
        (5399.0, "90 min"),
        (5400.0, "1.5 h"),
        (86_400.0, "24.0 h"),
    ],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words


def history(tmp_path, losses, *, clipped=0.0, baseline=1.0) -> History:
    """A run of these losses, of which this share of steps was clipped."""
    made = History(tmp_path / "log.jsonl")
    for step, loss in enumerate(losses):
        cut = (step * clipped) % 1 + clipped >= 1
        made.add(step, {"loss": loss, "gradient": 2.0 if cut else 0.5}, baseline=baseline, clipped=cut)
    return made


def falling(steps: int, end: float) -> list[float]:
    return [1 + (end - 1) * step / steps for step in range(steps)]


@pytest.mark.parametrize(
    ("losses", "clipped", "sentence"),
    [
        ([], 0, "no step taken yet"),
        ([1.0] * 99, 0, "too early to say: loss 1 against 1 for a model that knows nothing"),
        (falling(300, 0.1), 0.75, "UNSTEADY: .*; 75% of steps were clipped: try half the learning rate"),
        ([0.99] * 300, 0, "NOT LEARNING: .*: check captions and pictures, or raise the learning rate"),
        ([0.5] * 300, 0, "STALLED: .*, and 0.5 early on: try another learning rate or a larger model"),
        (falling(300, 0.1), 0.25, "healthy: loss 0.17.* against 1 .*; 25% of steps clipped"),
        ([0.5] * 150, 0, "healthy"),
    ],
)
def test_verdicts(tmp_path, losses, clipped, sentence):
    import re

    assert re.match(sentence, verdict(history(tmp_path, losses, clipped=clipped)))


def test_a_game_may_stand_still_but_not_where_it_began(tmp_path):
    (tmp_path / "lost").mkdir()
    assert verdict(history(tmp_path, [0.5] * 300), rivals=True).startswith("healthy")
    lost = history(tmp_path / "lost", [0.99] * 300)
    assert verdict(lost, rivals=True).startswith("NOT LEARNING")


@pytest.mark.parametrize("losses", [[1.0], [0.99] * 300, falling(300, 0.1)], ids=["early", "flat", "healthy"])
def test_a_warning_comes_before_any_verdict(tmp_path, losses):
    made = history(tmp_path, losses)
    said = verdict(made, "COLLAPSED: 2 of 512 codes are chosen")
    assert said.startswith("COLLAPSED: 2 of 512 codes are chosen; loss ")
    assert "healthy" not in said
    assert said != verdict(made, None)


def test_a_report_is_set_against_that_of_the_mean(tmp_path):
    """The last fifty values, and only where both are there; a log begun without them is no obstacle."""
    made = history(tmp_path, [0.5] * 10)
    assert "mean" not in verdict(made)
    for step in range(10, 110):
        cosines = {"cosine": 0.7 if step < 80 else 0.8, "cosine_of_mean": 0.6, "error": 3.0}
        made.add(step, {"loss": 0.5, "gradient": 0.5} | cosines, baseline=1.0, clipped=False)
    expected = "loss 0.5 against 1 for a model that knows nothing, cosine 0.800 against 0.600 for the mean"
    assert verdict(made) == f"healthy: {expected}; 0% of steps clipped"
    resumed = History(tmp_path / "log.jsonl")
    for step, cosine in ((108, "0.800"), (90, "0.700"), (12, "0.700")):
        resumed.rewind(step, clip_norm=1.0)
        assert resumed.recent() == 0.5
        assert f"cosine {cosine} against 0.600 for the mean" in verdict(resumed)
        assert verdict(resumed).count("for the mean") == 1


def test_one_odd_batch_moves_nothing(tmp_path):
    made = history(tmp_path, [0.5] * 60)
    made.add(60, {"loss": 1e6, "gradient": 1.0}, baseline=1.0, clipped=False)
    assert made.recent() == 0.5


def test_log_is_a_line_of_json_a_step(tmp_path):
    history(tmp_path, [1.0, 0.123456789])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == [
        {"step": 0, "loss": 1.0, "gradient": 0.5},
        {"step": 1, "loss": 0.123457, "gradient": 0.5},
    ]


@pytest.mark.parametrize("torn", ["", '{"step": 5, "lo', '{"step": 5, "loss": 1}\n{"st'])
def test_a_resumed_run_takes_its_steps_up_where_its_state_was(tmp_path, torn):
    """A kill leaves lines of steps that are taken again, the last perhaps half."""
    whole = history(tmp_path, [1.0, 0.9, 0.8, 0.7, 0.6], clipped=0.5)
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text() + torn)
    resumed = History(path)
    resumed.rewind(3, clip_norm=1.0)
    assert resumed.losses == whole.losses[:3]
    assert resumed.clipped == whole.clipped[:3]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2]
    resumed.add(3, {"loss": 0.7, "gradient": 2.0}, baseline=1.0, clipped=True)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_rewinding_to_before_the_beginning(tmp_path):
    fresh = History(tmp_path / "log.jsonl")
    fresh.rewind(0, clip_norm=1.0)
    assert fresh.losses == []
    history(tmp_path, [1.0, 2.0])
    fresh.rewind(0, clip_norm=1.0)
    assert fresh.path.read_text() == ""


def test_bar_says_speed_loss_and_time_left():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with progress_bar(console, disable=False) as bar:
        bar.add_task("clip", total=10, completed=4, speed="12 pictures/s", loss="0.5")
    said = out.getvalue()
    assert all(part in said for part in ("clip", "4/10", "12 pictures/s", "loss 0.5"))
    assert progress_bar(console, disable=True).disable
