"""The page's server, asked as a browser asks: it gives nothing away, and keeps what it says it keeps."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from limner.cli import main
from limner.cli.vote import tell_left_out
from limner.errors import LimnerError
from limner.vote.app import create_app
from limner.vote.pictures import gather
from limner.vote.schedule import SOUND, UNSOUND, Design
from limner.vote.study import begun


@pytest.fixture
def study(folder):
    study = begun(folder, Design(checks=4), "people")
    yield study
    study.store.close()


@pytest.fixture
def page(study):
    with TestClient(create_app(study, hosts=("testserver",), names=True)) as page:
        yield page


def test_a_vote_is_asked_for_and_kept(page, study):
    state = page.post("/api/join", json={"name": " anna "}).json()
    assert (state["rater"], state["done"], state["back"]) == ("anna", 0, False)
    task = state["task"]
    again = page.post("/api/vote", json={"task": task["id"], "answer": "left", "seconds": 1.5}).json()
    assert (again["done"], again["back"]) == (1, True)
    assert again["task"]["id"] != task["id"]
    (vote,) = study.store.votes()
    assert (vote.rater, vote.answer, vote.seconds) == ("anna", "left", 1.5)
    back = page.post("/api/back", json={}).json()
    assert back["task"] == task
    page.post("/api/vote", json={"task": task["id"], "answer": "right", "seconds": 1.0})
    assert [vote.answer for vote in study.store.votes()] == ["right"]


def test_nothing_says_which_model_is_which(page, study):
    """Neither what is sent nor its names: no model, no kind, no file, no metadata, one size."""
    state = page.post("/api/join", json={"name": "anna"}).json()
    sizes, names = set(), set()
    while state["task"] is not None:
        said = json.dumps(state)
        for secret in (*study.showing.gathered.models, SOUND, UNSOUND, "repeat", "check", "asked"):
            assert secret not in said
        task = state["task"]
        assert task.keys() == {"id", "question", "caption", "answers", "pictures"}
        assert (task["caption"] is None) == (task["question"] == "realism")
        for address in task["pictures"]:
            png = page.get(address).content
            with Image.open(io.BytesIO(png)) as picture:
                assert picture.info == {}
                sizes.add((task["question"] == "diversity", picture.size))
            names.add(address)
        state = page.post("/api/vote", json={"task": task["id"], "answer": "left", "seconds": 1}).json()
    assert len(sizes) == 2
    assert len(names) == 2 * state["total"]
    assert page.get("/pictures/dalle1.png").status_code == 404
    assert page.get("/pictures/..%2f..%2fvotes.sqlite.png").status_code == 404


def test_sides_show_what_the_store_says_they_show(page, study, folder):
    page.post("/api/join", json={"name": "anna"})
    rater = study.store.named("anna")
    files = gather(folder).files
    for shown in study.store.waiting(rater, 100):
        if shown.task.kind == "asked" and shown.task.question != "diversity":
            for model, name in ((shown.task.left, shown.left_name), (shown.task.right, shown.right_name)):
                sent = Image.open(io.BytesIO(page.get(f"/pictures/{name}.png").content))
                file = Image.open(files[model][shown.task.prompt][shown.task.number])
                assert sent.getpixel((9, 9)) == file.getpixel((3, 3))


def test_others_are_kept_out(page, study):
    anna = page.post("/api/join", json={"name": "anna"}).json()
    page.cookies.clear()
    task = {"task": anna["task"]["id"], "answer": "left", "seconds": 1}
    assert page.post("/api/vote", json=task).status_code == 401
    page.post("/api/join", json={"name": "ben"})
    refused = page.post("/api/vote", json=task)
    assert (refused.status_code, refused.json()["error"][:25]) == (404, "that is none of your task")
    assert study.store.votes() == []
    assert page.get("/api/state", headers={"Host": "evil.example"}).status_code == 400
    assert page.post("/api/join", json={"name": "x" * 5000}).status_code == 413
    assert page.post("/api/join", json={"name": " "}).status_code == 422
    assert page.get("/docs").status_code == page.get("/openapi.json").status_code == 404
    policy = page.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"answer": "both"}, 422),
        ({"answer": "neither"}, 422),
        ({"seconds": -1}, 422),
        ({"seconds": "nan"}, 422),
        ({"extra": 1}, 422),
        ({"task": "nobody's"}, 404),
        ({"task": None}, 422),
    ],
)
def test_votes_that_are_none(study, body, status):
    """Of realism, where neither is no answer."""
    study.design = Design(questions=("realism",))
    with TestClient(create_app(study, hosts=("testserver",), names=True)) as page:
        rater = study.store.join("anna")
        study.store.ask(rater, [task for task in _realism(study)])
        page.post("/api/join", json={"name": "anna"})
        task = page.get("/api/state").json()["task"]
        given = {"task": task["id"], "answer": "left", "seconds": 1, **body}
        refused = page.post("/api/vote", json=given)
        assert refused.status_code == status
        assert refused.json()["error"]
    assert study.store.votes() == []


def _realism(study):
    from limner.vote.schedule import dealt

    return [task for task in dealt(study.line, 0, None) if task.question == "realism"]


def test_links_let_in_whom_they_were_given_to(study):
    anna = study.join("anna")
    with TestClient(create_app(study, hosts=("testserver",), names=False)) as page:
        assert page.post("/api/join", json={"name": "anna"}).status_code == 403
        assert page.get("/r/nobody").status_code == 401
        assert page.get("/api/state").json() == {
            **{"rater": None, "open": False, "done": 0, "total": 0},
            **{"back": False, "task": None, "ahead": []},
        }
        assert page.get(f"/r/{anna.token}").status_code == 200
        assert page.get("/api/state").json()["rater"] == "anna"
        page.post("/api/leave")
        assert page.get("/api/state").json()["rater"] is None


def test_checks_have_a_plain_answer(study):
    """Noise has no two neighbours alike, a caption's own drawing is there, a grid of one is of one."""
    for question, count in (("realism", 1), ("caption", 1), ("diversity", 4)):
        from limner.vote.checks import check

        for number in (0, 7, 80):
            one, other = (
                check(study.showing.drawings, question, number, sound=sound, count=count)
                for sound in (True, False)
            )
            rough = [np.abs(np.diff(np.asarray(side[0], float), axis=0)).mean() for side in (one, other)]
            if question == "realism":
                assert rough[1] > 2 * rough[0]
            if question == "diversity":
                assert len({picture.tobytes() for picture in one}) == 4
                assert len({picture.tobytes() for picture in other}) == 1
            assert one[0].tobytes() != other[0].tobytes() or question == "diversity"
    assert len(study.showing.drawings) > 90


# --- what is compared -------------------------------------------------------------------------------


def test_the_three_layouts_are_read_alike(folder):
    named = gather(folder)
    named_digest = named.digest()
    rows = [
        {"model": model, "prompt": prompt, "number": number, "file": str(file.relative_to(folder))}
        for model, prompts in named.files.items()
        for prompt, numbered in prompts.items()
        for number, file in numbered.items()
    ]
    (folder / "pictures.csv").write_text(
        "model,prompt,number,file\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    )
    table = gather(folder)
    index = {
        "prompts": list(named.prompts),
        "count": 4,
        "entrants": [{"name": model, "pictures": f"pictures/{model}"} for model in named.models],
    }
    (folder / "comparison.json").write_text(json.dumps(index))
    for place, prompt in enumerate(named.prompts):
        for model in named.models:
            for number, file in named.files[model][prompt].items():
                os.rename(file, file.with_name(f"{place:05d}-{number:02d}.png"))
    compared = gather(folder)
    assert named == table
    assert compared.digest() == named_digest
    assert (len(named.models), len(named.prompts), named.grid()) == (3, 3, 2)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("comparison.json", "{", "is none of `limner compare`'s"),
        ("comparison.json", "{}", "is none of `limner compare`'s"),
        ("pictures.csv", "model,prompt\na,p\n", "give model, prompt, number, file"),
        ("pictures.csv", "model,prompt,number,file\na,p,1,gone.png\n", "which is not there"),
        ("pictures.csv", "model,prompt,number,file\n", "no prompt that two models have painted"),
    ],
)
def test_lists_that_are_none(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(LimnerError, match=said):
        gather(tmp_path)


def test_other_pictures_are_another_study(folder, paint):
    begun(folder, None, "people").store.close()
    begun(folder, None, "people").store.close()
    paint(folder, side=16)
    with pytest.raises(LimnerError, match="pictures are not those"):
        begun(folder, None, "people")


@pytest.fixture
def compared(folder):
    """The same folder as `limner compare` leaves it; returns how its index is written."""
    named = gather(folder)
    for place, prompt in enumerate(named.prompts):
        for model in named.models:
            for number, file in named.files[model][prompt].items():
                os.rename(file, file.with_name(f"{place:05d}-{number:02d}.png"))
    entrants = [{"name": model, "pictures": f"pictures/{model}"} for model in named.models]
    index = {"prompts": list(named.prompts), "count": 4, "entrants": entrants}
    (folder / "comparison.json").write_text(json.dumps(index))
    return folder


def test_who_is_not_through_with_painting_is_left_out_and_named(compared):
    """A comparison that was killed: one entrant lacks its last picture, and has it later."""
    picture = compared / "pictures" / "glide" / "00002-04.png"
    picture.rename(compared / "last.png")
    study = begun(compared, None, "people")
    assert study.showing.gathered.models == ("dalle1", "dfgan")
    assert study.showing.gathered.left_out == {
        "glide": "has painted 11 of 12 pictures: wait for `limner compare`, or call it again as it was called"
    }
    anna = study.join("anna")
    study.store.vote(study.store.waiting(anna)[0], "left", 1.0)
    study.store.close()
    # Whoever is through later is not mixed into votes on the others, and does not stop them.
    (compared / "last.png").rename(picture)
    again = begun(compared, None, "people")
    assert again.showing.gathered.models == ("dalle1", "dfgan")
    assert "move" in again.showing.gathered.left_out["glide"]
    assert again.store.progress(again.join("anna"))[0] == 1
    # The command says so before it serves.
    with pytest.warns(
        UserWarning, match="glide is left out, for it was not there when the study began: move"
    ):
        tell_left_out(again)
    again.store.close()
    # Anew it is one of all.
    (compared / "votes.sqlite").unlink()
    study = begun(compared, None, "people")
    assert study.showing.gathered.models == ("dalle1", "dfgan", "glide")
    assert study.showing.gathered.left_out == {}
    study.store.close()
    picture.unlink()
    with pytest.raises(LimnerError, match=r"has not all pictures of glide, on whom .*votes\.sqlite has"):
        begun(compared, None, "people")


def test_one_who_is_through_is_compared_with_nobody(compared, capsys):
    (compared / "pictures" / "glide" / "00000-01.png").unlink()
    (compared / "pictures" / "dfgan" / "00000-01.png").unlink()
    assert main(["vote", str(compared)]) == 2
    said = capsys.readouterr().err
    assert (
        "has not yet two models that have painted everything: dfgan has painted 11 of 12 pictures: " in said
    )
    assert "call it again as it was called" in said
    assert not (compared / "votes.sqlite").exists()


# --- the command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "give --raters, or --anybody"),
        (["--raters", "anna,anna"], "raters has 'anna' more than once"),
        (["--raters", "anna", "--anybody"], "leave out one of them"),
        (["--questions", "beauty"], "questions is 'beauty'"),
        (["--repeats", "2"], "repeats is 2.0"),
        (["--port", "99999"], "port is 99999"),
        (["--most", "0"], "most is 0"),
    ],
)
def test_what_the_command_refuses(folder, options, said, capsys):
    assert main(["vote", str(folder), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "votes.sqlite").exists()


@pytest.mark.parametrize("task", [["page"], ["panel"]])
def test_a_folder_that_is_none_is_named_with_what_makes_one(task, tmp_path, capsys):
    assert main(["vote", *task, str(tmp_path / "none")]) == 2
    said = f"folder is '{tmp_path / 'none'}', which is no folder: give the one with the pictures, OUT of"
    assert said in capsys.readouterr().err
    if task == ["panel"]:
        assert main(["vote", *task, str(tmp_path), "--judge", "none"]) == 2
        assert "which is no folder: give OUT of `limner train recogniser" in capsys.readouterr().err


def test_nobody_has_voted_yet(tmp_path, capsys):
    assert main(["vote", "report", str(tmp_path)]) == 2
    assert "nobody has been asked yet" in capsys.readouterr().err
