"""DF-GAN from words to pictures: each seed is its own, words matter, and what a file says paints it again."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import limner
from limner import checkpoint
from limner.clip import unit
from limner.dfgan import DfGanConfig, Generator
from limner.errors import LimnerError
from limner.pipelines import DfGan, DfGanSettings
from limner.pipelines.folders import model_of
from limner.pipelines.settings import Commission, commissions
from limner.pipelines.stages import Drawn, Heard
from limner.text import UnknownCharacterWarning

PROMPTS = ["a red apple", "two blue fish in a bowl on a table", "a red apple"]


@pytest.fixture(scope="module")
def dfgan(dfgan_line):
    return limner.load("dfgan", weights=dfgan_line)


def drawn(stages):
    return torch.cat([stage.pictures for stage in stages if isinstance(stage, Drawn)])


def test_it_paints_count_pictures_of_each_prompt(dfgan):
    pictures = dfgan.paint(PROMPTS[:2], count=3, seed=4)
    assert [picture.size for picture in pictures] == [(32, 32)] * 6
    stages = list(dfgan.paint(PROMPTS[:2], count=3, seed=4, stages=True))
    assert [type(stage) for stage in stages] == [Heard, Drawn]
    assert stages[1].commissions == commissions(PROMPTS[:2], count=3, seed=4)
    assert [image.tobytes() for image in stages[1].images()] == [p.tobytes() for p in pictures]
    assert stages[1].pictures.abs().max() <= 1


def test_a_seed_paints_the_same_alone_and_among_neighbours(dfgan):
    together = drawn(dfgan.paint(PROMPTS, count=2, seed=7, stages=True))
    for start, prompt in enumerate(PROMPTS):
        for number in range(2):
            alone = drawn(dfgan.paint(prompt, seed=7 + number, stages=True))[0]
            torch.testing.assert_close(together[2 * start + number], alone, atol=1e-5, rtol=0)
    few = drawn(dfgan.paint(PROMPTS, count=2, seed=7, at_once=1, stages=True))
    torch.testing.assert_close(few, together, atol=1e-5, rtol=0)


def test_seeds_words_and_truncation_each_change_the_picture(dfgan):
    apple, next_, fish, again = (
        drawn(dfgan.paint(prompt, seed=seed, stages=True))
        for prompt, seed in ((PROMPTS[0], 0), (PROMPTS[0], 1), (PROMPTS[1], 0), (PROMPTS[2], 0))
    )
    assert torch.equal(apple, again)
    for other in (next_, fish):
        assert (apple - other).abs().mean() > 1e-3
    cut, none = (
        drawn(dfgan.paint(PROMPTS[0], count=2, settings=DfGanSettings(truncation=x), stages=True))
        for x in (0.88, 0.0)
    )
    assert (cut[:1] - apple).abs().mean() > 1e-3
    # Without noise there is one picture of a sentence.
    torch.testing.assert_close(none[0], none[1], atol=1e-6, rtol=0)


def test_a_sentence_is_the_unit_embedding_evenly_spread(dfgan):
    heard = dfgan.hear(commissions(PROMPTS[0], count=1, seed=0))
    read = unit(dfgan.text.encode_text(heard.ids).pooled)
    torch.testing.assert_close(heard.sentences, dfgan.generator.said(read), atol=1e-5, rtol=1e-5)


def test_every_picture_is_counted(dfgan):
    ticks = []
    dfgan.paint(PROMPTS, at_once=2, on_tick=ticks.append)
    assert [(tick.doing, tick.done, tick.total) for tick in ticks] == [("drawing", 2, 3), ("drawing", 3, 3)]


def test_the_file_says_what_paints_it_again(dfgan, dfgan_line):
    told = dfgan.metadata(Commission("a cat", 9), size=32, settings=DfGanSettings(truncation=0.5))
    assert told == {
        "prompt": "a cat",
        "seed": "9",
        "model": "dfgan",
        "weights": dfgan.digest,
        "settings": json.dumps({"size": 32, "truncation": 0.5}),
        "limner": limner.__version__,
    }
    assert len(dfgan.digest) == 12
    assert limner.load("dfgan", weights=dfgan_line).digest == dfgan.digest


def test_its_folder_is_known_by_what_lies_there(dfgan_line):
    assert model_of(dfgan_line) == "dfgan"
    assert isinstance(limner.load(dfgan_line), DfGan)


def test_what_cannot_be_painted_is_refused_before_any_work(dfgan):
    with pytest.raises(ValueError, match=r"size is 64: choose 32 \(pixels a side\)"):
        dfgan.paint("a cat", size=64)
    with pytest.raises(ValueError, match="prompt is '', without a word"):
        dfgan.paint("")
    with pytest.raises(ValueError, match="at_once is 0: give at least 1"):
        dfgan.paint("a cat", at_once=0)
    for truncation in (-0.1, 2.5, float("nan")):
        with pytest.raises(ValueError, match=r"truncation is .*: give a number from 0 to 2"):
            DfGanSettings(truncation=truncation)
    for given, said in (
        ({"precision": "bf16"}, "precision is 'bf16'"),
        ({"compile": True}, "compile is for"),
    ):
        with pytest.raises(ValueError, match=f"{said}.*(dfgan has no U-Net|dfgan has none)"):
            limner.load("dfgan", **given)
    with pytest.warns(UnknownCharacterWarning):
        dfgan.paint("a cat ꙮ")


def test_weights_that_are_not_there_say_how_to_train_them(tmp_path):
    with pytest.raises(LimnerError, match=r"no weights at .*: give a folder that holds generator and text"):
        DfGan.load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LimnerError, match=r"no checkpoint at .*text"):
        DfGan.load(tmp_path / "empty")


def test_parts_of_different_trainings_are_refused(dfgan_line, tmp_path):
    line = shutil.copytree(dfgan_line, tmp_path / "line")
    config, _ = checkpoint.load(line / "generator", DfGanConfig)
    other = replace(config, sentence=24)
    checkpoint.save(line / "generator", Generator(other).state_dict(), other)
    with pytest.raises(LimnerError, match="text's embedding has 16 numbers where 24 are needed"):
        DfGan.load(line)
