"""Who is asked what: balanced, all of it covered, sides changed over, the same for the same seed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.vote.pictures import Gathered
from limner.vote.schedule import (
    APART,
    QUESTIONS,
    SOUND,
    UNSOUND,
    Design,
    comparisons,
    dealt,
    lined_up,
    schedule,
)

CAPTIONS = [f"drawing {number}" for number in range(40)]


def gathered(models, prompts, count):
    return Gathered(
        {
            f"model {model}": {
                f"prompt {prompt}": {
                    number: Path(f"{model}-{prompt}-{number}.png") for number in range(1, count + 1)
                }
                for prompt in range(prompts)
            }
            for model in range(models)
        }
    )


# What designs and studies are made of, and not they themselves: whoever checks their types as they are made
# tosses coins, which strategies may not.
designs = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "questions": st.sets(st.sampled_from(QUESTIONS), min_size=1).map(lambda some: tuple(sorted(some))),
        "pictures": st.integers(1, 3),
        "most": st.none() | st.integers(1, 60),
        "repeats": st.floats(0, 1),
        "checks": st.integers(0, 20),
    }
)
studies = st.tuples(st.integers(2, 4), st.integers(1, 12), st.integers(4, 16))


def pairs(task):
    return (task.question, task.prompt, task.number, *sorted((task.left, task.right)))


@given(designs, studies)
def test_everything_is_there_to_be_asked_once(design, study):
    design, study = Design(**design), gathered(*study)
    found = comparisons(design, study)
    assert len(set(found)) == len(found)
    models, prompts = len(study.models), len(study.prompts)
    numbers = sum(1 if question == "diversity" else design.pictures for question in design.questions)
    assert len(found) == models * (models - 1) // 2 * prompts * numbers


@given(designs, studies, st.integers(1, 12))
def test_every_comparison_is_asked_as_often_as_any_other_but_for_one(design, study, raters):
    design, study = Design(**design), gathered(*study)
    found = comparisons(design, study)
    line = lined_up(found, design.seed)
    asked = Counter(pairs(task) for rater in range(raters) for task in dealt(line, rater, design.most))
    counts = [asked[(one.question, one.prompt, one.number, one.first, one.second)] for one in found]
    assert max(counts) - min(counts) <= 1
    if design.most is None:
        assert set(counts) == {raters}


@given(designs, studies)
def test_sides_are_balanced_in_every_stretch_and_change_over_in_the_next_round(design, study):
    design, study = Design(**design), gathered(*study)
    line = lined_up(comparisons(design, study), design.seed)
    once, again = dealt(line, 0, None), dealt(line, 1, None)
    assert again == [task.swapped("asked") for task in once]
    for rater in range(3):
        mine = dealt(line, rater, design.most)
        left = Counter(
            (task.question, min(task.left, task.right), max(task.left, task.right), task.left)
            for task in mine
        )
        for question, first, second in {key[:3] for key in left}:
            # Within a round they take turns; the end of one and the beginning of the next may meet.
            apart = left[question, first, second, first] - left[question, first, second, second]
            assert abs(apart) <= 2


@given(designs, studies)
def test_a_stretch_has_its_share_of_every_question_and_pair(design, study):
    design, study = Design(**design), gathered(*study)
    found = comparisons(design, study)
    line = lined_up(found, design.seed)
    strata = Counter((one.question, one.first, one.second) for one in found)
    for stretch in (1, len(line) // 3, len(line) // 2):
        met = Counter((one.question, one.first, one.second) for one, _ in line[:stretch])
        for stratum, size in strata.items():
            assert abs(met[stratum] - stretch * size / len(line)) < 2


@given(designs, studies, st.integers(0, 20))
def test_a_raters_schedule(design, study, rater):
    design, study = Design(**design), gathered(*study)
    line = lined_up(comparisons(design, study), design.seed)
    tasks = schedule(design, line, rater, CAPTIONS)
    assert tasks == schedule(design, line, rater, CAPTIONS)
    asked = [task for task in tasks if task.kind == "asked"]
    assert Counter(asked) == Counter(dealt(line, rater, design.most))
    # One question after another.
    order = [task.question for task in tasks]
    assert (
        len([1 for place in range(1, len(order)) if order[place] != order[place - 1]]) == len(set(order)) - 1
    )
    for place, task in enumerate(tasks):
        if task.kind == "repeat":
            first = tasks.index(task.swapped("asked"))
            assert place - first >= APART
        elif task.kind == "check":
            assert {task.left, task.right} == {SOUND, UNSOUND}
            assert task.prompt == CAPTIONS[task.number]
    repeats = [task for task in tasks if task.kind == "repeat"]
    assert len(set(repeats)) == len(repeats)
    checks = [task for task in tasks if task.kind == "check"]
    assert bool(checks) == bool(design.checks)
    assert tasks[0].kind == "asked"
    sound = sum(task.left == SOUND for task in checks)
    assert abs(2 * sound - len(checks)) <= 1


@given(studies)
def test_raters_meet_the_questions_in_every_order(study):
    study = gathered(*study)
    line = lined_up(comparisons(Design(), study), 0)
    orders = {
        tuple(dict.fromkeys(task.question for task in schedule(Design(), line, rater, CAPTIONS)))
        for rater in range(6)
    }
    assert len(orders) == 6


def test_the_usual_share_of_repeats_and_checks():
    line = lined_up(comparisons(Design(), gathered(2, 60, 16)), 0)
    kinds = Counter(task.kind for task in schedule(Design(), line, 0, CAPTIONS))
    assert kinds == {"asked": 180, "repeat": 18, "check": 18}


def test_grids_need_four_pictures():
    assert [gathered(2, 3, count).grid() for count in (1, 3, 4, 8, 9, 16, 30)] == [0, 0, 2, 2, 3, 4, 4]
    few = comparisons(Design(), gathered(2, 3, 1))
    assert {one.question for one in few} == {"realism", "caption"}
    with pytest.raises(ValueError, match="diversity wants four"):
        comparisons(Design(questions=("diversity",)), gathered(2, 3, 1))
