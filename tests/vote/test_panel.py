"""Automatic judges vote as people do, apart from them."""

import pytest
import torch
from PIL import Image

from limner.comparison.panel import QUESTIONS, PanelJudge, preferences
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.emoji600 import requests
from limner.evaluation.eyes import Eyes
from limner.pipelines.pictures import open_picture
from limner.vote.checks import on_white
from limner.vote.panel import answer, clip, recogniser, sit
from limner.vote.report import measure
from limner.vote.schedule import Design
from limner.vote.store import FILES, opened
from limner.vote.study import begun
from limner.vote.tally import tally


def colours(pictures):
    """Mean colours as features."""
    return torch.tensor([picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures]).float() / 255


EYES = Eyes("colours", "mean colours", 3, colours)


def likes_red(features, _prompts):
    return (features[:, 0] - features[:, 2]).tolist()


@pytest.fixture
def judge():
    return PanelJudge("red", EYES, likes_red, torch.tensor([[0.8, 0.2, 0.2], [0.7, 0.2, 0.2]]))


def test_a_judge_votes_by_its_own_name_in_a_file_of_its_own(folder, judge):
    study = begun(folder, Design(checks=0), "panel")
    assert [*sit(study, [judge])] == [("red", study.store.progress(study.store.named("red"))[1])]
    assert [*sit(study, [judge])] == [("red", 0)]
    found = measure(study.store.votes(), "panel")
    study.store.close()
    assert not (folder / FILES["people"]).exists()
    assert [voter.name for voter in found.voters] == ["red"]
    rates = {
        (pair.first, pair.second): pair.share.value for pair in found.pairs if pair.question == "caption"
    }
    assert rates == {("dalle1", "dfgan"): 1.0, ("dalle1", "glide"): 1.0, ("dfgan", "glide"): 1.0}
    # What does not change its mind answers every repeat as before.
    assert found.voters[0].same == found.voters[0].repeats > 0


def test_a_panel_is_asked_what_people_are(folder, judge):
    """In a study of one question, two pictures and two models, to which a third has come since."""
    (folder / "pictures" / "glide").rename(folder / "glide")
    design = Design(seed=4, questions=("caption",), pictures=2, checks=0)
    people = begun(folder, design, "people")
    wanted = [shown.task for shown in people.store.waiting(people.join("anna"), 99)]
    people.store.close()
    (folder / "glide").rename(folder / "pictures" / "glide")
    study = begun(folder, None, "panel")
    assert study.design == design
    assert study.showing.gathered.models == ("dalle1", "dfgan")
    next(sit(study, [judge]))
    assert [vote.task for vote in study.store.votes()] == wanted
    study.store.close()


def test_a_panel_does_not_sit_among_people(folder, judge):
    study = begun(folder, Design(), "people")
    with pytest.raises(ValueError, match="a panel votes in a file of its own"):
        next(sit(study, [judge]))
    study.store.close()
    with pytest.raises(LimnerError, match="limner vote panel"):
        opened(folder, "panel")


def test_who_does_not_know_the_words_does_not_vote_on_them(folder, judge):
    """Two that are alike are a tie; what nobody has told is neither a tie nor a failed check."""
    deaf = PanelJudge("deaf", EYES, None, judge.real)
    unsure = PanelJudge("unsure", EYES, lambda features, _: [None] * len(features), judge.real)
    red, blue = (Image.new("RGB", (4, 4), name) for name in ("red", "blue"))
    for one in (deaf, unsure):
        assert answer(one, "caption", "a pear", [red], [blue]) is None
    assert answer(judge, "caption", "a pear", [red], [red]) == "neither"
    assert answer(judge, "caption", "a pear", [blue], [red]) == "right"
    assert answer(judge, "realism", "a pear", [red], [red]) == "left"
    assert answer(judge, "diversity", "a pear", [red, red], [red, blue]) == "right"
    assert answer(PanelJudge("new", EYES, None, None), "realism", "a pear", [blue], [red]) is None
    study = begun(folder, Design(questions=("realism", "caption"), checks=3), "panel")
    ((name, given),) = sit(study, [deaf])
    votes = study.store.votes()
    assert (name, given) == ("deaf", len(votes))
    assert {vote.task.question for vote in votes} == {"realism"}
    (voter,) = tally(votes).voters
    assert voter.checks == sum(vote.task.kind == "check" for vote in votes) > 0
    assert [*sit(study, [deaf])] == [("deaf", 0)]
    study.store.close()


def test_votes_and_the_report_go_by_the_same_rules(blind):
    """What a judge says of a pair on the page is what the comparison counts of the same pictures."""
    drawings = [on_white(open_picture(record.file)) for record in read(sample_dir("train")).records[:12]]
    left, right = drawings[:6], drawings[6:]
    # A name, one of the fixed evaluation, one in which two things are named, and one with none.
    fixed = next(one.prompt for one in requests() if one.group == "pair")
    prompts = ["red apple", fixed, "an apple and a red apple", "nothing of the kind"]
    for judge in (clip(weights=None, device="cpu"), recogniser(blind, device="cpu")):
        for question in QUESTIONS:
            for prompt in prompts:
                grids = (left, right) if question == "diversity" else (left[:1], right[:1])
                said = answer(judge, question, prompt, *grids)
                opinions = [
                    [judge.opinion(question, judge.eyes.see(grid), [prompt] * len(grid))] for grid in grids
                ]
                if opinions[0] == [None]:
                    assert (judge.name, question, said) == ("recogniser", "caption", None)
                    assert prompt in prompts[2:]
                    continue
                counted = preferences({"left": opinions[0], "right": opinions[1]}, seed=0)
                assert [one.won.value for one in counted] == [{"left": 1.0, "right": 0.0}[said]]
