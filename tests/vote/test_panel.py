"""Automatic judges vote as people do, apart from them."""

import pytest
import torch
from PIL import Image

from limner.errors import LimnerError
from limner.vote.panel import PanelJudge, sit
from limner.vote.report import measure
from limner.vote.schedule import Design
from limner.vote.store import FILES, opened
from limner.vote.study import begun


def colours(pictures):
    """Mean colours as features."""
    return torch.tensor([picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures]).float() / 255


def likes_red(features, _caption):
    return (features[:, 0] - features[:, 2]).tolist()


@pytest.fixture
def judge():
    return PanelJudge("red", colours, likes_red, torch.tensor([[0.8, 0.2, 0.2], [0.7, 0.2, 0.2]]))


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


def test_who_knows_no_word_says_neither(judge):
    deaf = PanelJudge("deaf", colours, lambda *_: None, judge.real)
    red, blue = (Image.new("RGB", (4, 4), name) for name in ("red", "blue"))
    assert deaf.answer("caption", "a pear", [red], [blue]) == "neither"
    assert judge.answer("caption", "a pear", [blue], [red]) == "right"
    assert judge.answer("realism", "a pear", [red], [red]) == "left"
    assert judge.answer("diversity", "a pear", [red, red], [red, blue]) == "right"
