"""What was said to be saved is there, whatever became of the process; and nothing is mixed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from limner.errors import LimnerError
from limner.vote.exporting import as_csv, as_json
from limner.vote.schedule import Design, Task
from limner.vote.store import FILES, Store, opened

SRC = Path(__file__).parents[2] / "src"
TASKS = [Task("caption", f"prompt {n}", 1, "a", "b", "asked") for n in range(5)]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / FILES["people"], "people")
    yield store
    store.close()


def test_a_rater_goes_on_where_they_stopped(store, tmp_path):
    anna = store.join("anna")
    store.ask(anna, TASKS)
    for answer in ("left", "neither"):
        store.vote(store.waiting(anna)[0], answer, 1.5)
    store.close()
    again = Store(tmp_path / FILES["people"], "people")
    anna = again.join("anna")
    again.ask(anna, TASKS[:1])
    assert again.progress(anna) == (2, 5)
    assert [shown.place for shown in again.waiting(anna, 9)] == [2, 3, 4]
    assert [(vote.rater, vote.task, vote.chosen) for vote in again.votes()] == [
        ("anna", TASKS[0], "a"),
        ("anna", TASKS[1], None),
    ]
    again.close()


def test_of_a_task_answered_twice_the_later_vote_counts(store):
    anna = store.join("anna")
    store.ask(anna, TASKS)
    store.vote(store.waiting(anna)[0], "left", 1.0)
    last = store.answered(anna)
    assert last.place == 0
    store.vote(last, "right", 2.0)
    assert [vote.answer for vote in store.votes()] == ["right"]
    assert store.progress(anna) == (1, 5)


def test_names_of_pictures_lead_to_their_side_and_nowhere_else(store):
    anna = store.join("anna")
    store.ask(anna, TASKS)
    (shown,) = store.waiting(anna)
    assert store.picture(shown.left_name) == (shown.task, "left")
    assert store.picture(shown.right_name) == (shown.task, "right")
    assert store.picture("' OR 1=1 --") is None
    names = [name for one in store.waiting(anna, 9) for name in (one.id, one.left_name, one.right_name)]
    assert len(set(names)) == 15
    assert min(map(len, names)) >= 22


def test_no_rater_sees_another_ones_tasks(store):
    anna, ben = store.join("anna"), store.join("ben")
    assert anna.token != ben.token
    store.ask(anna, TASKS)
    (shown,) = store.waiting(anna)
    assert store.shown(ben, shown.id) is None
    assert store.rater("") is None


def test_one_rater_too_many_leaves_no_trace(tmp_path, monkeypatch):
    """Of twenty who come at once to two processes, as many are taken as there is room for."""
    monkeypatch.setattr("limner.vote.store.MOST_RATERS", 8)
    stores = [Store(tmp_path / FILES["people"], "people") for _ in range(2)]
    refused = []

    def come(number):
        try:
            stores[number % 2].join(f"rater {number}")
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=come, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = [rater.name for rater in stores[0].raters()]
    assert len(there) == 8
    assert len(refused) == 12
    assert all("8 raters are here, and no more are taken" in said for said in refused)
    # Who is there comes back all the same.
    assert stores[1].join(there[0]) == stores[0].named(there[0])
    for store in stores:
        store.close()


def test_answers_that_a_question_does_not_have(store):
    anna = store.join("anna")
    store.ask(anna, [Task("realism", "prompt", 1, "a", "b", "asked")])
    with pytest.raises(ValueError, match="answer is 'neither': realism takes left or right"):
        store.vote(store.waiting(anna)[0], "neither", 1.0)
    assert store.votes() == []


def test_a_study_is_gone_on_with_as_it_was_begun(store):
    design = Design(seed=3, questions=("caption",), most=7)
    store.begin(design, "pictures", ["a", "b"])
    store.begin(design, "pictures", ["a", "b"])
    assert store.design() == design
    assert store.models() == ("a", "b")
    with pytest.raises(LimnerError, match=r"most is None, and .* was begun with 7"):
        store.begin(Design(seed=3, questions=("caption",)), "pictures", ["a", "b"])
    with pytest.raises(LimnerError, match="pictures are not those"):
        store.begin(design, "others", ["a", "b"])


def test_people_and_panel_are_never_mixed(tmp_path):
    Store(tmp_path / FILES["people"], "people").close()
    with pytest.raises(LimnerError, match="holds votes of people, not of panel"):
        Store(tmp_path / FILES["people"], "panel")
    os.rename(tmp_path / FILES["people"], tmp_path / FILES["panel"])
    with pytest.raises(LimnerError, match="never to be mixed"):
        opened(tmp_path, "panel")
    with pytest.raises(LimnerError, match="nobody has been asked yet"):
        opened(tmp_path, "people")


def test_threads_and_processes_take_turns(tmp_path):
    stores = [Store(tmp_path / "votes.sqlite", "people") for _ in range(2)]
    raters = [stores[0].join(name) for name in ("anna", "ben")]

    def vote(store, rater):
        store.ask(rater, TASKS)
        for _ in TASKS:
            store.vote(store.waiting(rater)[0], "left", 1.0)

    threads = [threading.Thread(target=vote, args=each) for each in zip(stores, raters, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].votes()) == len(stores[1].votes()) == 10
    for store in stores:
        store.close()


def test_a_vote_that_cannot_be_kept_is_not_shown_as_kept(tmp_path, monkeypatch):
    """Somebody else reads the file for longer than is waited for, so that nothing can be committed."""
    monkeypatch.setattr("limner.vote.store.PATIENCE", 0.1)
    path = tmp_path / FILES["people"]
    store = Store(path, "people")
    anna = store.join("anna")
    store.ask(anna, TASKS)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM facts").fetchone()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.vote(store.waiting(anna)[0], "left", 1.0)
    assert store.progress(anna) == (0, 5)
    reader.execute("COMMIT")
    store.vote(store.waiting(anna)[0], "left", 1.0)
    assert store.progress(anna) == (1, 5)
    reader.close()
    store.close()


def test_votes_are_written_through(store):
    """EXTRA is 3: the file and, after the journal is gone, its folder are on the disk at each commit."""
    assert store._db.execute("PRAGMA synchronous").fetchone() == (3,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_export_has_every_vote(store):
    anna = store.join("anna, the second")
    store.ask(anna, TASKS)
    for answer in ("neither", "right"):
        store.vote(store.waiting(anna)[0] if answer == "neither" else store.answered(anna), answer, 1.25)
    store.vote(store.waiting(anna)[0], "left", 2.0)
    votes = store.every_vote()
    back, row, other = json.loads(as_json(votes, "people"))
    assert row["rater"] == "anna, the second"
    assert (row["left"], row["right"], row["answer"], row["chosen"]) == ("a", "b", "right", "b")
    # What was taken back is there, and is known from what counts.
    assert (back["place"], back["answer"], back["chosen"], back["replaced"]) == (1, "neither", None, "yes")
    assert [one["replaced"] for one in (row, other)] == ["no", "no"]
    assert [vote for vote in votes if not vote.replaced] == store.votes()
    header, _, line, _ = as_csv(votes, "people").splitlines()
    assert header.split(",")[:3] == ["voters", "rater", "place"]
    assert header.endswith(",seconds,at,replaced")
    assert line.endswith(",no")
    assert line.startswith('people,"anna, the second",1,asked,caption,prompt 0,1,a,b,right,b,1.25,')


class Client:
    """A browser without a screen."""

    def __init__(self, address):
        self.address = address
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def __call__(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=300) as answer:
            return json.loads(answer.read())


def test_votes_that_were_acknowledged_outlive_a_kill(folder):
    """SIGKILL after each of three acknowledged votes; started again, the page goes on after them."""
    command = [sys.executable, "-m", "limner", "vote", str(folder), "--port", "0"]
    given = []
    for round_ in range(3):
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(SRC)}, stdout=subprocess.PIPE, text=True
        )
        try:
            client = Client(process.stdout.readline().split()[-1])
            state = client("/api/join", {"name": "anna"})
            assert state["done"] == round_
            answer = "left" if round_ % 2 == 0 else "right"
            told = client("/api/vote", {"task": state["task"]["id"], "answer": answer, "seconds": 1.0})
            assert told["done"] == round_ + 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        given.append(answer)
        store = opened(folder, "people")
        assert [vote.answer for vote in store.votes()] == given
        store.close()
