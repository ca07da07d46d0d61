"""The other commands: what they refuse, and that each reaches the part of the house it stands for."""

import inspect
import os
from dataclasses import fields, is_dataclass
from typing import get_args

import pytest
from PIL import Image

import limner
from limner.cli import main, unboxed
from limner.cli.train import TAKES, Room, compiled, of_steps, recipe_of
from limner.data.sample import sample_dir
from limner.pipelines.dalle2_parts import PARTS, digest
from limner.training import TrainConfig


@pytest.fixture
def refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def check(*arguments):
        there = sorted(os.listdir(tmp_path))
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith("limner: ")
        assert sorted(os.listdir(tmp_path)) == there
        return said.err.removeprefix("limner: ").rstrip("\n")

    return check


TRAIN = ("--size", "toy", "--out", "run")


def test_compile_reaches_every_training_of_a_recipe():
    def trainings(recipe) -> list[TrainConfig]:
        if isinstance(recipe, TrainConfig):
            return [recipe]
        parts = [getattr(recipe, field.name) for field in fields(recipe)]
        return [found for part in parts if is_dataclass(part) for found in trainings(part)]

    for room in get_args(Room):
        recipe = recipe_of(room).small()
        assert not any(config.compile for config in trainings(recipe)), room
        assert all(config.compile for config in trainings(compiled(recipe))), room
        assert len(trainings(recipe)) == {
            "line": 7,
            "clip": 2,
            "prior": 2,
            "decoder": 2,
            "vqvae": 2,
            "vqvae2": 3,
            "glide": 6,
            "glide-base": 3,
            "glide-upsampler": 2,
        }.get(room, 1), room


def test_compiling_without_a_compiler_is_refused(refuses, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    said = refuses("train", "clip", *TRAIN, "--data", str(sample_dir()), "--compile")
    assert said.startswith("compile wants a C++ compiler, and there is none here: install g++")


def test_other_numbers_of_steps_bring_their_schedules_along():
    from limner.recipes import dvae

    recipe = dvae.small()
    shorter = of_steps(recipe, 300)
    assert (shorter.train.steps, shorter.train.warmup) == (300, 30)
    assert shorter.temperature.steps == recipe.temperature.steps // 10
    assert shorter.temperature(299) == recipe.temperature.end
    longer = of_steps(recipe, 2 * recipe.train.steps)
    assert longer.train.warmup == recipe.train.warmup
    assert longer.model == recipe.model


def test_training_that_cannot_be_is_refused(refuses, tmp_path):
    sample = str(sample_dir())
    clip = ("train", "clip", *TRAIN)
    assert refuses(*clip, "--data", "none").startswith("data is 'none', which is no folder")
    assert "--data" in refuses(*clip)
    assert refuses(*clip, "--data", sample, "--share", "1", "2") == (
        "share is 2 numbers for 1 folders: give one for each"
    )
    for share in (["0"], ["-1"], ["nan"], ["inf"]):
        assert refuses(*clip, "--data", sample, "--share", *share).startswith("share is (")
    assert "'cip'" in refuses("train", "cip", *TRAIN, "--data", sample)
    assert "'huge'" in refuses("train", "clip", "--size", "huge", "--data", sample, "--out", "run")
    assert refuses(*clip, "--data", sample, "--clip", sample).endswith("clip needs none, so leave it out")
    for room, name, title in (
        ("prior", "clip", "CLIP"),
        ("decoder", "clip", "CLIP"),
        ("dfgan", "clip", "CLIP"),
        ("dalle1", "dvae", "dVAE"),
    ):
        assert refuses("train", room, *TRAIN, "--data", sample) == (
            f"{name} is missing: {room} stands on a trained {title}, so give its folder"
        )
    for room, name in (
        ("vae", "clip"),
        ("dvae", "clip"),
        ("dalle1", "clip"),
        ("vqvae", "dvae"),
        ("line", "dvae"),
    ):
        stand = ("--dvae", "runs") if room == "dalle1" else ()
        said = refuses("train", room, *TRAIN, "--data", sample, f"--{name}", "runs", *stand)
        assert said == f"{name} is 'runs': {room} needs none, so leave it out"
    for room, name in (("vqvae", "clip"), ("vqvae2", "clip"), ("dalle1", "dvae")):
        assert refuses("train", room, *TRAIN, "--data", sample, f"--{name}", "runs") == (
            f"{name} is 'runs', which holds no trained model: give OUT/model of `limner train {name}`"
        )
    for room in ("line", "vqvae"):
        for option in (("--init-from", "runs"), ("--steps", "5"), ("--learning-rate", "0.1")):
            said = refuses("train", room, *TRAIN, "--data", sample, *option)
            assert said.endswith(f"`limner train {room}` does not take it, so leave it out")
    assert refuses(*clip, "--data", sample, "--init-from", "runs").startswith(
        "init_from is 'runs', which holds no trained model: give OUT/model of `limner train clip`"
    )
    assert refuses(*clip, "--data", sample, "--steps", "0").startswith("steps is 0")
    for rate in ("0", "-1", "inf", "nan"):
        assert refuses(*clip, "--data", sample, "--learning-rate", rate).startswith("learning_rate is")
    judge = ("train", "recogniser", "--data", sample, "--out", "run")
    assert refuses(*judge, "--size", "paper").startswith("size is 'paper'")
    assert refuses(*judge, "--size", "toy", "--share", "1").startswith("share is (1.0,)")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text("{}")
    tells = ("train", "classifier", *TRAIN, "--data", sample)
    assert refuses(*tells, "--kind", "mlp").startswith("clip is missing: classifier stands on a trained CLIP")
    assert refuses(*tells, "--clip", "clip") == (
        "kind is missing: give mlp, for embeddings, or transformer, for tokens"
    )
    assert "'forest'" in refuses(*tells, "--clip", "clip", "--kind", "forest")
    assert refuses(*tells, "--clip", "clip", "--kind", "mlp", "--share", "1").startswith("share is (1.0,)")
    assert refuses(*clip, "--data", sample, "--kind", "mlp").startswith("kind is 'mlp', which a classifier")
    (tmp_path / "file").touch()
    assert refuses("train", "clip", "--size", "toy", "--data", sample, "--out", "file/run").startswith(
        "cannot write into file/run"
    )


@pytest.mark.parametrize(("room", "name"), [("prior", "clip"), ("dalle1", "dvae")])
def test_what_a_room_stands_on_is_refused_by_its_recipe(refuses, tmp_path, room, name):
    """The command reaches the recipe, which finds a config of no such model and leaves nothing behind."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    sample = str(sample_dir())
    said = refuses("train", room, *TRAIN, "--data", sample, f"--{name}", "model", "--device", "cpu")
    assert said.startswith("model/config.json has no")


def test_every_room_has_a_recipe_that_takes_what_the_command_gives_it():
    """By signature, since not each can be trained here: a function for each size, and `run`."""
    always = {"recipe", "folders", "out", "resume", "device"}
    assert set(TAKES) == set(get_args(Room))
    for room, takes in TAKES.items():
        recipe = recipe_of(room)
        run = inspect.signature(recipe.run).parameters
        assert set(run) == always | set(takes)
        assert (
            type(recipe.toy()).__name__ == type(recipe.small()).__name__ == run["recipe"].annotation.__name__
        )
        assert hasattr(recipe, "paper") or room == "recogniser"


def test_a_run_is_not_overwritten(refuses, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("{}\n")
    for room in ("clip", "vae", "dvae"):
        said = refuses("train", room, *TRAIN, "--data", str(sample_dir()), "--device", "cpu")
        assert said.startswith("run already holds a run: add --resume")


def test_evaluation_that_cannot_be_is_refused(refuses, tmp_path):
    assert refuses("evaluate") == "nothing is asked for: give --sheet PNG, or --data, --judge and --out"
    assert refuses("evaluate", "--data", ".").startswith("data, judge and out belong together")
    three = ("--data", "none", "--judge", ".", "--out", "out")
    assert refuses("evaluate", *three) == (
        "data is 'none', which is no folder: give one with captioned pictures, such as `limner data fetch "
        "emoji --out DIR` leaves"
    )
    assert refuses("evaluate", "--data", ".", "--judge", "none", "--out", "out").startswith(
        "judge is 'none', which is no folder: give OUT of `limner train recogniser"
    )
    assert "`limner data fetch emoji --out DIR`" in refuses(
        "evaluate", "--study", "likelihood", "--model", "glide", "--data", "none", "--out", "out"
    )
    assert refuses("evaluate", *three, "--names", "0").startswith("names is 0")
    assert refuses("evaluate", "--sheet", "sheet.jpg").startswith("sheet is 'sheet.jpg'")
    for of in ((), ("--model", "glide", "--sheet", "sheet.png")):
        assert refuses("evaluate", "--full-size", *of).startswith(
            "full_size is for the sheet that dalle2 paints"
        )
    assert refuses("evaluate", "--reconstructions").startswith("nothing is asked for")
    three = ("--data", ".", "--judge", ".", "--out", "out")
    for asked in (("--sheet", "sheet.png"), ("--sheet", "sheet.png", *three)):
        assert refuses("evaluate", "--reconstructions", *asked).startswith("reconstructions needs --data")
    assert refuses("evaluate", "--reconstructions", *three, "--weights", "none") == (
        "no autoencoder in none: give a folder that holds vae, vqvae, vqvae2, dvae, or some of them"
    )
    (tmp_path / "file").touch()
    assert refuses("evaluate", "--sheet", "file/sheet.png").startswith("cannot write into file")


def test_classifiers_that_cannot_be_compared_are_refused(refuses):
    study = ("evaluate", "--study", "classifiers")
    assert refuses(*study, "--data", ".").startswith("classifiers needs --data, --weights and --out")
    for more in (("--model", "glide"), ("--judge", ".")):
        assert refuses(*study, *more) == "study is 'classifiers', of no painter and no judge: leave both out"
    assert refuses(*study, "--data", ".", "--weights", "none", "--out", "out") == (
        "weights is 'none', which is no folder: give one that holds mlp and transformer, each OUT of `limner "
        "train classifier`"
    )
    assert refuses(*study, "--data", "none", "--weights", ".", "--out", "out").endswith(
        "give what `limner data pairs --out DIR` leaves"
    )
    assert refuses(*study, "--data", ".", "--weights", ".", "--out", "out").startswith(
        "mlp holds no model: give OUT of `limner train classifier`"
    )


def test_painters_that_cannot_be_measured_so_are_refused(refuses):
    dalle1, sheet = ("evaluate", "--model", "dalle1"), ("--sheet", "sheet.png")
    three = ("--data", ".", "--judge", ".", "--out", "out")
    assert "dalle3" in refuses("evaluate", "--model", "dalle3", *sheet)
    assert refuses("evaluate", "--candidates", "4", *sheet) == (
        "candidates is 4, of which only dalle1 knows: leave it out, or add --model dalle1"
    )
    assert refuses(*dalle1, "--candidates", "0", *sheet).startswith("candidates is 0: give a whole number")
    assert refuses(*dalle1, "--candidates", "2", "--count", "3", *three) == (
        "candidates is 2, fewer than the 3 pictures wanted: give at least 3"
    )
    assert refuses(*dalle1, "--count", "65", *three).startswith("count is 65: give a whole number from 1 to")
    assert refuses("evaluate", "--seed", "-1", *sheet).startswith("seed is -1: give a whole number from 0")
    assert refuses(*dalle1) == "nothing is asked for: give --sheet PNG, or --data, --judge and --out"
    assert refuses(*dalle1, "--weights", "none", *sheet).startswith("no weights at none")
    assert refuses("evaluate", "--reconstructions", "--model", "dalle1", *three) == (
        "model is 'dalle1': reconstructions are of no painter, so leave it out"
    )


def test_a_report_without_a_judge_is_refused(refuses, dalle1_line):
    three = ("--data", ".", "--judge", ".", "--out", "out")
    options = ("--model", "dalle1", "--weights", str(dalle1_line), "--device", "cpu")
    for asked in (options, ("--reranking", *options)):
        assert refuses("evaluate", *asked, *three).startswith("no judge at .: train one with")


def test_reranking_that_cannot_be_is_refused(refuses):
    dalle1 = ("evaluate", "--reranking", "--model", "dalle1")
    three = ("--data", ".", "--judge", ".", "--out", "out")
    assert refuses("evaluate", "--reranking", *three) == (
        "reranking is of what dalle1 paints: add --model dalle1"
    )
    assert refuses(*dalle1).startswith("nothing is asked for")
    for asked in (("--sheet", "sheet.png"), ("--sheet", "sheet.png", *three)):
        assert refuses(*dalle1, *asked).startswith("reranking needs --data, --judge and --out")
    for name, given in (("count", "2"), ("candidates", "64")):
        said = refuses(*dalle1, *three, f"--{name}", given)
        assert said == f"{name} is {given}: reranking sets it itself, so leave it out"
    assert refuses(*dalle1, "--reconstructions", *three) == (
        "reconstructions and reranking are reports of their own: ask for one of them"
    )
    assert refuses(*dalle1, *three, "--weights", "none").startswith("no weights at none")


@pytest.mark.filterwarnings("ignore::limner.text.CutCaptionWarning")
def test_the_sheet_is_what_dalle1_paints_of_the_prompts(dalle1_line, tmp_path, capsys):
    from limner.evaluation.sheet import PROMPTS, contact_sheet
    from limner.pipelines import TokenSettings, load

    painter, settings = load("dalle1", weights=dalle1_line), TokenSettings(candidates=2)
    path = tmp_path / "sheet.png"
    options = ("--candidates", "2", "--seed", "4", "--weights", str(dalle1_line), "--device", "cpu")
    assert main(["evaluate", "--model", "dalle1", "--sheet", str(path), *options]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    paintings = painter.paint(PROMPTS, seed=4, settings=settings)
    ours = contact_sheet(lambda _: paintings, tmp_path / "ours.png")
    assert path.read_bytes() == ours.read_bytes()


def test_a_folder_of_which_nothing_can_be_used_is_reported_and_status_2(tmp_path, capsys):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert main(["data", "check", str(tmp_path), "--all"]) == 2
    said = capsys.readouterr()
    assert "it has no caption" in said.out
    assert said.err.startswith(f"limner: no picture in {tmp_path} has a caption: put a .txt")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--size", "abc"), "Error parsing --size: 'abc' is not a whole number"),
        (("--guidance", "x"), "Error parsing --guidance: 'x' is not a number"),
    ],
)
def test_an_option_that_is_no_number_is_told_so_in_words(refuses, option, said):
    assert refuses("paint", "a pear", *option).startswith(said)


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"limner {limner.__version__}\n"


def test_data_that_cannot_be_is_refused(refuses):
    assert "none" in refuses("data", "check", "none")
    assert refuses("data", "check", ".", "--sheet", "no/sheet.png").endswith("there is no folder no")
    assert "'fruit'" in refuses("data", "fetch", "fruit", "--out", "data")
    assert refuses("data", "fetch", "emoji", "--out", "data", "--pixels", "3").startswith(
        "size must be from 16"
    )
    assert refuses("data", "scenes", "--sprites", ".", "--out", "x", "--count", "0").startswith("count is 0")
    assert "none" in refuses("data", "scenes", "--sprites", "none", "--out", "x", "--count", "3")


def test_a_folder_is_checked_and_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    sheet = tmp_path / "sheet.png"
    assert main(["data", "check", str(sample_dir("judge")), "--sheet", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "pictures that can be used" in said
    assert sheet.exists()


def test_info_says_what_is_here(capsys, monkeypatch):
    import torch

    import limner

    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert limner.__version__ in said
    assert torch.__version__ in said
    assert "dalle2" in said


def test_the_table_of_weights_counts_what_is_stored(line):
    from limner.cli.info import parameters, weights_table
    from limner.pipelines import load

    painter = load("dalle2", weights=line)
    for part in PARTS:
        stored = getattr(painter, part).state_dict().values()
        assert parameters(line / part) == sum(tensor.numel() for tensor in stored)
    table = weights_table("dalle2", line)
    assert table.title == f"dalle2 {digest(line)}"
    assert table.row_count == 4


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ("╭─ Title ─╮\n│ one     │\n│ two.    │\n╰─────────╯\n", "one two"),
        ("╭─ T ─╮\n│ one │\n│ ─── │\n│ For │\n│ all │\n╰─────╯\n", "one; For all"),
        (
            "╭─ T ─╮\n│ one │\n│ ─── │\n│ Perhaps: │\n│     --a │\n│         help │\n╰─────╯\n",
            "one; Perhaps: --a",
        ),
        ("╭─ T ─╮\n│ one │\n│ ─── │\n│ Argument helptext: x │\n│ ─── │\n│ two │\n╰─────╯\n", "one; two"),
        (" T\n ---\n  one\n  ---\n  two\n\n", "one; two"),
    ],
)
def test_a_box_becomes_a_line(box, words):
    assert unboxed(box) == words


def test_what_cannot_be_served_is_refused(refuses, monkeypatch):
    monkeypatch.delenv("LIMNER_API_KEY", raising=False)
    assert refuses("serve", "--host", "0.0.0.0").startswith("host is '0.0.0.0', where other machines get in")
    assert refuses("serve", "--host", "0.0.0.0", "--api-key", "short").startswith("api_key has 5 characters")
    assert refuses("serve", "--api-key", "").startswith("api_key is empty")
    assert refuses("serve", "--api-key", "long-enough", "--no-key").startswith("no_key is given beside a key")
    assert refuses("serve", "--models", "dalle9").startswith(
        "model is 'dalle9': choose dalle1, dalle2, dfgan or glide"
    )
    assert refuses("serve", "--models", "dalle2,dalle2").startswith("models has 'dalle2' more than once")
    assert refuses("serve", "--models", "dalle2,,glide").startswith(
        "models is 'dalle2,,glide': give painters"
    )
    assert "give one without /, such as mine=dalle2" in refuses("serve", "--models", "a/b=dalle2")
    assert refuses("serve", "--port", "65536").startswith("port is 65536")
    assert refuses("serve", "--queue", "0").startswith("queue is 0")
    assert refuses("serve", "--lifetime", "0").startswith("lifetime is 0")
    assert refuses("serve", "--url", "paint.example").startswith("url is 'paint.example'")
    assert refuses("serve", "--allow-origin", "*").startswith("allow_origin is '*'")
    assert refuses("serve", "--proxy", "*").startswith("proxy is '*': give the address")
    assert refuses("serve", "--proxy", ",").startswith("proxy is empty")
    monkeypatch.setenv("LIMNER_API_KEY", "short")
    assert refuses("serve").startswith("api_key has 5 characters")


def test_a_studio_refuses_what_a_server_does(refuses, monkeypatch):
    monkeypatch.delenv("LIMNER_API_KEY", raising=False)
    assert refuses("studio", "--host", "0.0.0.0").startswith("host is '0.0.0.0', where other machines get in")
    assert refuses("studio", "--models", "dalle9").startswith("model is 'dalle9': choose")
    assert refuses("studio", "--port", "65536").startswith("port is 65536")
