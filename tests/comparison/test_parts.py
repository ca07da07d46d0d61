"""Who paints, what is asked for, whom the panel prefers, what became of the claims; and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.cli import main
from limner.comparison.claims import ORDERS, VOTES, answers, ordered
from limner.comparison.entrants import ARTICLE, CANDIDATES, VARIANTS, entrant, entrants, placed, settings_of
from limner.comparison.kept import kept
from limner.comparison.painting import Work, said
from limner.comparison.panel import Opinion, Preference, alike, between, preferences, preferred, wins
from limner.comparison.prompts import asked, recognisable
from limner.comparison.reals import reals, shown
from limner.comparison.scores import MEASURES, Scored
from limner.errors import LimnerError
from limner.evaluation.intervals import Estimate
from limner.pipelines.settings import DfGanSettings, GlideSettings, PaintSettings, TokenSettings


def estimate(*ends: float) -> Estimate:
    value, low, high = map(float, ends)
    return Estimate(value=value, low=low, high=high, total=10)


def test_everybody_is_named_in_one_way():
    found = entrants("dalle1, dalle1:reranked,dalle2:diffusion=runs/mine/line")
    assert [one.name for one in found] == ["dalle1", "dalle1:reranked", "dalle2"]
    assert [one.folder for one in found] == ["dalle1", "dalle1-reranked", "dalle2"]
    assert found[2].weights == Path("runs/mine/line")
    assert found[1].title == "DALL-E 1 (re-ranked)"
    assert len(entrants(ARTICLE)) == 7
    assert entrant("glide") == entrant("glide:classifier-free")
    for wrong, told in (
        ("dalle3", "models holds 'dalle3': choose among dfgan, dalle1, glide, dalle2"),
        ("glide:reranked", "of glide there is classifier-free, clip, both"),
        ("dalle1,,glide", "names nobody somewhere"),
        ("dalle1,dalle1:plain", "models holds 'dalle1' twice"),
        ("dalle1=", "no path after the equals sign"),
        ("dalle1:", "of dalle1 there is plain, reranked"),
    ):
        with pytest.raises(ValueError, match="models") as raised:
            entrants(wrong)
        assert told in str(raised.value)


def test_who_has_no_weights_is_named_once_with_the_way_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Of a copy that has weights of nobody but GLIDE; what is told is enough to go on with."""
    place = tmp_path / "weights"
    (place / "glide").mkdir(parents=True)
    monkeypatch.setattr("limner.weights.resources.files", lambda _: place)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    told = refused(capsys, "--models", "dfgan,glide,dfgan:truncated,dalle2=mine", "--out", "out")
    assert told == (
        "dfgan, dfgan:truncated cannot paint: their weights are not in this copy of limner; "
        "compare the others, with --models glide,dalle2=mine, or give weights of your "
        "own, as in --models dfgan=OUT/line,dfgan:truncated=OUT/line, from `limner train dfgan --size small "
        "--data DIR --clip CLIP --out OUT`"
    )
    placed(entrants(told.split("--models ")[1].split(", or")[0]))
    # The usual list is refused in the same way, and nothing is left behind.
    assert refused(capsys, "--out", "out").startswith("dfgan, dalle1, dalle1:reranked, dalle2:auto")
    told = refused(capsys, "--models", "dfgan", "--out", "out")
    assert "copy of limner; give weights of your own, as in --models dfgan=OUT/line, " in told
    assert not (tmp_path / "out").exists()


def test_a_variant_is_a_setting():
    assert settings_of(entrant("dalle1:reranked"), TokenSettings(), count=8) == TokenSettings(
        candidates=8 * CANDIDATES
    )
    assert settings_of(entrant("dalle1"), TokenSettings(), count=8).described() == TokenSettings().described()
    assert settings_of(entrant("dfgan:truncated"), DfGanSettings(), count=1) == DfGanSettings(truncation=0.88)
    assert settings_of(entrant("glide:clip"), GlideSettings(steps=3), count=1) == GlideSettings(
        steps=3, guidance_kind="clip"
    )
    # Every variant that is offered can be painted in.
    usual = {"dfgan": DfGanSettings(), "dalle1": TokenSettings(), "glide": GlideSettings()}
    for model, variants in VARIANTS.items():
        found = [
            settings_of(entrant(f"{model}:{variant}"), usual.get(model, PaintSettings()), count=2)
            for variant in variants
        ]
        assert len(set(found)) == len(variants)


def test_prompts_are_a_file_or_a_list(tmp_path: Path):
    file = tmp_path / "words.txt"
    file.write_text("﻿a red apple\n\n  two cats \na red apple\n")
    found = asked(str(file))
    assert found.prompts == ("a red apple", "two cats")
    assert found.requests == (None, None)
    assert found.digest == asked(str(file)).digest != asked(str(file), most=1).digest
    held = asked("held-out")
    assert len(held.prompts) == 300
    # The first few are of every group.
    assert {one.group for one in held.requests[:4] if one is not None} == {
        "pair",
        "colour",
        "relation",
        "count",
    }
    assert len(asked("emoji600").prompts) == 600
    assert len(asked("emoji600:pair", most=7).prompts) == 7
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long.txt").write_text("a" * 2000)
    for name, told in (
        ("empty.txt", "holds no prompt: write some, one a line"),
        ("binary.txt", "is no text in UTF-8"),
    ):
        with pytest.raises(LimnerError, match=told):
            asked(str(tmp_path / name))
    with pytest.raises(ValueError, match="2000 characters long"):
        asked(str(tmp_path / "long.txt"))
    with pytest.raises(ValueError, match=r"no file and no list: give a text file .* held-out, emoji600"):
        asked("coco")
    with pytest.raises(LimnerError, match="cannot read"):
        asked(str(tmp_path))
    with pytest.raises(ValueError, match="most is 0"):
        asked("emoji600", most=0)


def test_one_thing_in_a_prompt_is_asked_for():
    names, codes = ("apple", "red apple", "cat", "dog face"), ("1", "2", "3", "4")
    found = recognisable(
        ["a red apple", "A cat, flat style!", "a cat and an apple", "two caterpillars", "dog"], names, codes
    )
    assert [None if one is None else one.names for one in found] == [
        ("red apple",),
        ("cat",),
        None,
        None,
        None,
    ]
    # The fixed evaluation says itself what it asks for.
    fixed = asked("emoji600:relation", most=1)
    assert recognisable(fixed.prompts, names, codes) == [*fixed.requests]


def test_the_panel_counts_ties_as_half_and_keeps_prompts_together():
    one, other = torch.tensor([1.0, 2.0, 3.0, 3.0]), torch.tensor([0.0, 2.0, 4.0, 1.0])
    found = wins(one, other, ["a", "a", "b", "b"], seed=0)
    assert found.value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert wins(other, one, ["a", "a", "b", "b"], seed=0).value == pytest.approx(1 - found.value)
    # All of them won is not sure.
    sure = wins(one, one - 1, ["a", "a", "b", "b"], seed=0)
    assert (sure.value, sure.high) == (1, 1)
    assert sure.low < 0.5
    # Nor is one prompt, won and lost.
    lost = wins(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), ["a", "a"], seed=0)
    assert lost.low < 0.1 < 0.9 < lost.high
    assert lost.value == 0.5


def test_a_judge_is_asked_each_question_by_itself():
    """What it says of realism is not compared with what it says of the words."""
    groups = ("a", "b", "c")

    def said(realism: float, caption: float) -> list[Opinion]:
        numbers = {"realism": realism, "caption": caption}
        return [Opinion("CLIP", name, torch.full((3,), value), groups) for name, value in numbers.items()]

    found = preferences({"one": said(5.0, 0.2), "other": said(4.0, 0.3)}, seed=0)
    assert [(one.question, one.won.value) for one in found] == [("realism", 1.0), ("caption", 0.0)]


def test_known_preferences_are_recovered():
    stream = torch.Generator().manual_seed(0)
    held = 0
    for seed in range(60):
        edge = 0.5 * torch.randn(80, generator=stream).repeat_interleave(4) + torch.randn(
            320, generator=stream
        )
        # P(N(0, 1.25) > -0.7) = 0.7344.
        found = wins(edge + 0.7, torch.zeros(320), [str(row // 4) for row in range(320)], seed=seed)
        held += found.low <= 0.7344 <= found.high
    assert held >= 53


def preference(first: str, second: str, won: Estimate) -> Preference:
    return Preference(first=first, second=second, question="diversity", judge="feature distance", won=won)


def scored(name: str, **numbers: Estimate) -> Scored:
    blurred = {0.0: numbers, 1.0: {"frechet": estimate(5, 4, 6)}}
    return Scored(name, name, 10, numbers, blurred)


def test_claims_are_answered_from_whichever_side_they_were_asked():
    # 30 % for GLIDE is 70 % for DALL-E 2.
    liked = [preference("glide", "dalle2", estimate(0.3, 0.25, 0.35))]
    assert between(liked, "dalle2", "glide", "diversity")[0].won == estimate(0.7, 0.65, 0.75)
    everybody = [
        scored("glide", frechet=estimate(20, 19, 21)),
        scored("dalle2", frechet=estimate(30, 28, 32)),
    ]
    found = {one.claim: one for one in answers(liked, everybody, prompts=40)}
    assert found["DALL-E 2 is more diverse than GLIDE"].verdict == "held"
    assert "70.0 %" in found["DALL-E 2 is more diverse than GLIDE"].found
    assert found["DALL-E 2 is more diverse than GLIDE"].published == "70.5 ± 2.8 %"
    assert found["DALL-E 2 is nearer to real pictures than GLIDE"].verdict == "did not hold"
    assert {one.verdict for one in answers(liked, everybody, prompts=20)} == {"not settled"}
    # Nobody is asked about who has not painted.
    assert not any("DF-GAN" in claim for claim in found)


def test_verdicts():
    assert [preferred(estimate(*ends)) for ends in ((0.6, 0.51, 0.7), (0.6, 0.45, 0.7), (0.3, 0.2, 0.4))] == [
        "held",
        "not settled",
        "did not hold",
    ]
    assert [alike(estimate(*ends)) for ends in ((0.5, 0.45, 0.55), (0.5, 0.3, 0.7), (0.4, 0.35, 0.45))] == [
        "held",
        "not settled",
        "did not hold",
    ]
    small, large, wide = estimate(5, 4, 6), estimate(9, 8, 10), estimate(6, 3, 9)
    assert ordered(small, large, more=False) == ordered(large, small, more=True) == "held"
    assert ordered(large, small, more=False) == "did not hold"
    assert ordered(small, wide, more=False) == "not settled"


def test_every_claim_is_of_somebody_who_can_paint_and_of_a_measure_there_is():
    sides = [(one.first, one.second) for one in VOTES] + [(one.better, one.worse) for one in ORDERS]
    for name in {name for pair in sides for side in pair for name in side}:
        assert entrant(name).name == name
    more = {one.key: one.more for one in MEASURES}
    assert all(more[one.key] == one.more for one in ORDERS)


def test_features_are_kept_for_what_they_are_of(tmp_path: Path):
    made = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.full((2, 3), float(len(made)))

    assert torch.equal(kept(tmp_path, "x", ["a"], make), kept(tmp_path, "x", ["a"], make))
    assert len(made) == 1
    assert kept(tmp_path, "x", ["b"], make)[0, 0] == 2
    file = tmp_path / "features" / "x.npz"
    for broken in (b"", file.read_bytes()[:60]):
        file.write_bytes(broken)
        kept(tmp_path, "x", ["b"], make)
    assert len(made) == 4
    assert not [*tmp_path.rglob("*.part")]


def test_a_damaged_picture_is_none(tmp_path: Path):
    work = Work(entrant("glide"), ("a", "b"), 2, 8, 0, tmp_path)
    assert [file.name for file in work.every_file()] == [
        "00000-01.png",
        "00000-02.png",
        "00001-01.png",
        "00001-02.png",
    ]
    file = work.file(0, 1)
    assert said(file) is None
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file)
    assert said(file) is not None
    file.write_bytes(file.read_bytes()[:500])
    assert said(file) is None


def test_real_pictures_leave_out_what_is_asked_for(drawings: Path):
    every = reals(drawings, [], most=None)
    request = next(
        one
        for one in asked("emoji600").requests
        if one is not None and one.group == "name" and (one.styles[0], one.hexcodes[0]) in every.drawings
    )
    without = reals(drawings, [request], most=None)
    gone = set(every.cloud) - set(without.cloud)
    assert gone == {every.drawings[request.styles[0], request.hexcodes[0]]}
    answer = without.answers([request], 32)
    assert answer is not None
    assert answer[0].size == (32, 32)
    assert without.answers([request, None], 32) is None
    # Where no style is said, the thing is left out in every style.
    anyhow = reals(drawings, [replace(request, styles=())], most=None)
    assert gone < set(every.cloud) - set(anyhow.cloud)
    few = reals(drawings, [], most=6)
    assert len(few.cloud) == 6
    assert set(few.cloud) <= set(every.cloud)
    assert few.digest == reals(drawings, [], most=6).digest != every.digest
    assert not set(every.trained) & set(every.held_out)
    assert every.trained
    assert every.held_out
    # How large the cloud is says nothing of what a near-copy is.
    assert (few.trained, few.held_out) == (every.trained, every.held_out)
    assert [one.size for one in shown(few.cloud[:2], 32)] == [(32, 32)] * 2


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.removeprefix("limner: ").rstrip("\n")


def test_what_cannot_be_compared_is_refused_before_anything_is_painted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("a cat\n")
    Path("empty.txt").write_text("\n")
    ours = ("--models", "dalle1", "--prompts", "words.txt")
    for arguments, told in (
        (("--models", "dalle3"), "models holds 'dalle3': choose among dfgan"),
        (("--models", "dalle1:best"), "models holds 'dalle1:best': of dalle1 there is plain, reranked"),
        (("--models", "dalle1=nowhere"), "models holds 'dalle1=nowhere', where no folder is"),
        (("--models", "dalle1", "--prompts", "empty.txt"), "empty.txt holds no prompt: write some"),
        (("--models", "dalle1", "--prompts", "none.txt"), "prompts is 'none.txt', no file and no list"),
        ((*ours, "--count", "0"), "count is 0: give a whole number from 1 to 64"),
        ((*ours, "--most", "0"), "most is 0: give a whole number from 1"),
        ((*ours, "--data", "none"), "data is 'none', which is no folder: give one with captioned pictures"),
        (
            (*ours, "--judge", "none"),
            "judge is 'none', which is no folder: give OUT of `limner train recogniser",
        ),
        ((*ours, "--most-real", "9"), "most_real is 9, and there is no --data: leave it out"),
        ((*ours, "--blur", "-1"), "blur holds -1.0: give radii from 0 to 64"),
        ((*ours, "--page", "page.html"), "page is 'page.html': give a name that ends in .md"),
        ((*ours, "--out", "words.txt/out"), "cannot write into words.txt/out"),
        ((*ours, "--seed", "-1"), "seed is -1"),
    ):
        assert told in refused(capsys, *arguments), arguments
    Path("empty").mkdir()
    assert "empty holds no pictures" in refused(capsys, *ours, "--data", "empty")
    assert "no judge at empty" in refused(capsys, *ours, "--judge", "empty")
    assert not Path("comparison").exists()


def test_nobody_is_compared_at_different_sizes(lines: dict[str, Path], tmp_path: Path, capsys):
    (tmp_path / "words.txt").write_text("a cat\n")
    models = f"dfgan={lines['dfgan']},glide={lines['glide']}"
    call = ("--models", models, "--prompts", str(tmp_path / "words.txt"), "--out", str(tmp_path / "out"))
    assert "no size is common to all: dfgan 32; glide 16, 64" in refused(capsys, *call)
    told = refused(capsys, *call[2:], "--models", f"glide={lines['glide']}", "--size", "128")
    assert told.startswith("size is 128, which not all of them paint (glide 16, 64)")
    assert not (tmp_path / "out" / "pictures").exists()
