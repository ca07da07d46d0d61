"""Stop, without a browser: the handlers are taken step by step, so that it comes wherever a test wants it."""

import threading
import time

import gradio as gr
import pytest
from PIL import Image
from starlette.requests import Request

from limner.server.errors import Refused
from limner.server.queue import Full, Job
from limner.server.service import Chore
from limner.studio import turns
from limner.studio.asked import Asked
from limner.studio.edit import MEND
from limner.studio.page import build
from limner.studio.paint import paint
from limner.studio.shown import data_url
from limner.studio.turns import Stopped, Visit
from limner.studio.vary import VARY
from limner.studio.wall import Hung

TABS = ("paint", "edit", "vary", "compare")
FEW = ("a pear", "dalle2", 64, 2, "7", "", "3", "", Hung())
# Something that takes minutes, and shares its batch with another of the same.
LONG = ("a pear", "dalle2", 64, 8, "7", "", "1000", "", Hung())


@pytest.fixture(scope="module")
def studio(make_service):
    service = make_service()
    yield service, build(service, None)
    service.end()


@pytest.fixture
def line(studio):
    """Where the pages' jobs wait; whatever a test did, no tab remembers it and none is left there."""
    service, page = studio
    yield service.painting
    for tab in TABS:
        assert wired(page, f"lm-{tab}-stop").fn.__self__._visits == []
    end = time.monotonic() + 60
    while service.painting.waiting or service.painting.working:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def busy(studio, line):
    """Something else is being painted until the test lets go."""
    service, _ = studio
    begun, let_go = threading.Event(), threading.Event()

    def work(_):
        begun.set()
        assert let_go.wait(60)

    service.line_up_chore(Chore(work), caller="somebody else")
    assert begun.wait(60)
    assert line.waiting == 0
    yield let_go
    let_go.set()


@pytest.fixture
def press(studio):
    """Presses a button in somebody's page: begins what it begins, or returns what it answers."""
    _, page = studio

    def press(button, *fields, session="mine"):
        request = gr.Request(
            request=Request({"type": "http", "state": {"caller": "127.0.0.1"}}), session_hash=session
        )
        return wired(page, button).fn(*fields, request)

    return press


@pytest.fixture
def asked(drawings, tmp_path):
    """What the fields of each tab hold."""
    marks = data_url(Image.new("RGBA", drawings[0].size, "white"))
    drawings[0].save(tmp_path / "drawing.png")
    return {
        "paint": FEW,
        "edit": (drawings[0], marks, "a pear", MEND, 0.5, "glide", 64, 1, "3", Hung()),
        "vary": (VARY, str(tmp_path / "drawing.png"), None, "", "", 1, 1, 3, 64, "dalle2", "5"),
        "compare": ("a pear", "3"),
    }


def wired(page, elem_id):
    """What a click on a button does."""
    (button,) = (one._id for one in page.blocks.values() if getattr(one, "elem_id", None) == elem_id)
    (does,) = (one for one in page.fns.values() if (button, "click") in one.targets)
    return does


def until(steps, words):
    """Take steps until the note says it."""
    for note, *_ in steps:
        if words in note:
            return
    raise AssertionError(f"it never said {words!r}")


def is_stopped(steps):
    """Whether all that still comes is the last word."""
    (last,) = steps
    return "stopped" in last[0]


@pytest.mark.parametrize("tab", TABS)
def test_what_waits_in_line_is_stopped(press, line, busy, asked, tab):
    steps = press(f"lm-{tab}-go", *asked[tab])
    until(steps, "waiting for its turn")
    assert line.waiting == 1
    assert not busy.is_set()
    press(f"lm-{tab}-stop")
    last = list(steps)
    assert is_stopped(last)
    if tab in ("paint", "edit"):
        assert "lm-empty" in last[0][1]  # the wall as it was
    assert line.waiting == 0


@pytest.mark.parametrize("tab", TABS)
def test_the_note_has_one_writer(studio, tab):
    """A Stop that wrote on it, or Gradio's own, would race with the handler."""
    _, page = studio
    stop = wired(page, f"lm-{tab}-stop")
    assert stop.outputs == []
    assert stop.cancels == []


def test_stop_between_two_steps_ends_one_page_and_not_another_of_its_batch(press, line, busy):
    mine, yours = (press("lm-paint-go", *LONG, session=one) for one in ("mine", "yours"))
    for steps in (mine, yours):
        until(steps, "waiting for its turn")
    busy.set()
    for steps in (mine, yours):
        until(steps, "<progress")
    assert line.working == 2
    press("lm-paint-stop")
    assert is_stopped(mine)
    until(yours, "<progress")
    assert line.working == 2
    press("lm-paint-stop", session="yours")
    assert is_stopped(yours)


def test_stop_before_there_is_a_job_is_remembered_and_only_for_that_one(press, studio, line, monkeypatch):
    service, _ = studio
    steps = press("lm-paint-go", *FEW)
    until(steps, "beginning")
    press("lm-paint-stop")
    with monkeypatch.context() as patched:
        patched.setattr(line, "put", lambda *_, **__: pytest.fail("it was lined up"))
        assert is_stopped(steps)
        # The same between two jobs of one handler, such as Compare's.
        visit = Visit(service, "127.0.0.1")
        visit.stop.set()
        with pytest.raises(Stopped):
            next(paint(visit, "dalle2", Asked(prompt="a pear", side=64)))
    # Nor is a Stop remembered that came when nothing was under way.
    press("lm-paint-stop")
    *_, last = press("lm-paint-go", *FEW)
    assert "painted 2 pictures" in last[0]


def test_only_the_tab_and_the_page_are_stopped_whose_button_it_is(press, line, busy):
    steps = [press("lm-paint-go", *FEW, session=one) for one in ("mine", "yours", None)]
    for one in steps:
        until(one, "waiting for its turn")
    press("lm-compare-stop")
    press("lm-paint-stop", session="another")
    press("lm-paint-stop", session=None)
    assert line.waiting == 3
    press("lm-paint-stop")
    assert is_stopped(steps[0])
    busy.set()
    for one in steps[1:]:
        *_, last = one
        assert "painted 2 pictures" in last[0]


def test_a_page_that_is_closed_leaves_nothing(press, line, busy):
    steps = press("lm-paint-go", *FEW)
    until(steps, "waiting for its turn")
    steps.close()
    assert line.waiting == 0
    assert not busy.is_set()


def test_who_is_pushed_out_of_a_full_line_reads_so():
    job = Job(order=Chore(lambda _check: None), key="one", pictures=1, caller="whoever has most there")
    job.result.set_exception(Full(7))
    with pytest.raises(Refused, match="try again in 7 s"):
        turns._raise_trouble(job)
