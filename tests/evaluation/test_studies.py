"""GLIDE's studies: the measures by their definitions, and each study by its command, on a tiny line."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from limner import checkpoint
from limner.cli import main
from limner.dalle2.decoder import Decoder, DecoderConfig
from limner.dalle2.prior_autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.data.sample import sample_dir
from limner.draws import Draws
from limner.errors import LimnerError
from limner.evaluation import (
    diversity,
    edits,
    enlarging,
    guidance,
    inpainting,
    likelihood_table,
    priors,
    solvers,
)
from limner.evaluation.coverage import covered, spread
from limner.glow import Glow, GlowConfig
from limner.glow.objective import Pictures as GlowPictures
from limner.glow.objective import glow_objective
from limner.pipelines import Generator, load
from limner.pipelines.settings import PRIOR_GUIDANCE, PRIOR_SAMPLER, PRIOR_STEPS
from limner.vae import Vae, VaeConfig, vae_objective
from limner.vae.objective import Pictures as VaePictures

SIDE = 16


# --- the measures --------------------------------------------------------------------------------


def test_a_point_is_covered_where_it_lies_in_a_ball():
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    # To the second neighbour it is 2, 1, 2 and 9.
    points = torch.tensor([[-2.0], [-2.1], [4.0], [19.0], [19.1]])
    assert covered(line, points, k=2).tolist() == [True, False, True, True, False]
    with pytest.raises(ValueError, match="cloud: 3 points, and their neighbour number 3"):
        covered(line[:3], points)


def test_a_cloud_covers_itself_and_nothing_far():
    cloud = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    assert covered(cloud, cloud).all()
    assert not covered(cloud, cloud + 100).any()


def test_spread_is_the_mean_cosine_distance_within_a_group():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [5.0, 5.0], [1.0, 1.0]])
    assert spread(rows, ["a", "a", "a", "b", "b"]) == pytest.approx([2 / 3, 0.0], abs=1e-6)
    assert spread(rows, ["a", "b", "c", "d", "e"]) == []


def test_a_hole_is_never_everything_and_is_the_same_every_time():
    for number in range(40):
        mask = np.asarray(inpainting.hole(3, number, 32))
        assert 0 < (mask == 255).mean() < 1
        assert (mask == np.asarray(inpainting.hole(3, number, 32))).all()
    assert (np.asarray(inpainting.hole(4, 0, 32)) != np.asarray(inpainting.hole(3, 0, 32))).any()


def test_ways_of_heun_count_what_they_ask_for():
    ways = {(way.line, way.place): way.settings.steps for way in solvers.ways()}
    assert ways[("heun", 19)] == 10
    assert ways[("ddim", 20)] == 20
    assert ways[("ancestral", 250)] == 250


# --- bits ----------------------------------------------------------------------------------------


def little_vae() -> Vae:
    torch.manual_seed(0)
    return Vae(VaeConfig(resolution=SIDE, widths=(8, 8), blocks=0, hidden=16, latent=4, sigma=0.3)).eval()


def little_glow(bits: int = 8) -> Glow:
    torch.manual_seed(0)
    config = GlowConfig(
        resolution=SIDE, levels=2, steps=1, width=8, coupling="affine", bits=bits, lu=True, condition=None
    )
    model = Glow(config).eval()
    model.initialise(torch.rand(16, 3, SIDE, SIDE) * 2 - 1, Draws(range(16)))
    return model


def test_bits_are_those_that_training_reports():
    pictures = (torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 255).round()
    pictures = pictures / 127.5 - 1
    vae, glow = little_vae(), little_glow()
    reported = vae_objective(beta=1.0)(vae, VaePictures(pictures), Draws(range(6))).report["bits"]
    found = likelihood_table.vae_bits(vae, pictures, Draws(range(6)))
    assert found.mean().item() == pytest.approx(float(reported), abs=0.05)
    reported = glow_objective()(glow, GlowPictures(pictures), Draws(range(6))).report["bits"]
    found = likelihood_table.glow_bits(glow, pictures, Draws(range(6)))
    assert found.mean().item() == pytest.approx(float(reported), abs=0.05)
    with pytest.raises(ValueError, match="glow has 5 bits, and pictures 8"):
        likelihood_table.glow_bits(little_glow(5), pictures, Draws(range(6)))


def test_files_count_their_bytes():
    noise = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255).round() / 127.5 - 1
    for kind in ("PNG", "WEBP"):
        flat, wild = (float(likelihood_table.coded(x, kind)) for x in (torch.ones(1, 3, 64, 64), noise))
        assert flat < 0.2
        assert 8 <= wild < 8.5  # noise is not to be had for less


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


# --- whole ---------------------------------------------------------------------------------------


def study(name: str, line: Path, judge: Path, out: Path, *options: object) -> dict:
    arguments = ("evaluate", "--study", name, "--model", "glide", "--data", sample_dir(), "--judge", judge)
    arguments += ("--out", out, "--weights", line, "--device", "cpu", *options)
    assert main([str(argument) for argument in arguments]) == 0
    return json.loads((out / f"{name}.json").read_text())


def test_solvers(glide_line, blind, tmp_path, monkeypatch):
    monkeypatch.setattr(solvers, "EVALUATIONS", (2, 3))
    monkeypatch.setattr(solvers, "LONG", 5)
    found = study("solvers", glide_line, blind, tmp_path, "--names", 2)
    assert found["weights"] == load("glide", weights=glide_line).digest
    lines = [(trial["line"], trial["place"]) for trial in found["trials"]]
    assert lines[:2] == [("dpm++", 2), ("dpm++", 3)]
    assert lines[-1] == ("ancestral", 5)
    assert len(lines) == 9
    said = (tmp_path / "solvers.md").read_text()
    assert "+0.0 (+0.0 to +0.0)" in said.splitlines()[-3]  # the last is compared with itself
    for name in ("solvers.png", "solvers_sheet.png"):
        assert width(tmp_path / name) > 50


def test_guidance(glide_line, blind, tmp_path, monkeypatch):
    monkeypatch.setattr(guidance, "CLASSIFIER_FREE", (1.0, 3.0))
    monkeypatch.setattr(guidance, "CLIP", (2.0,))
    found = study("guidance", glide_line, blind, tmp_path, "--names", 2)
    assert [one["trial"]["line"] for one in found["guided"]] == ["classifier-free"] * 2 + ["CLIP"]
    for one in found["guided"]:
        assert one["trial"]["recognised"]["top1"]["total"] == 2 * guidance.COUNT
        assert -1 <= one["score"]["value"] <= 1
        assert one["variety"]["spread"]["value"] > 0
    assert width(tmp_path / "guidance.png") > 100


def test_inpainting(glide_line, blind, tmp_path, monkeypatch):
    monkeypatch.setattr(inpainting, "PICTURES", 5)
    found = study("inpainting", glide_line, blind, tmp_path)
    assert found["changed"] == 0
    assert found["pictures"] == 5
    assert 0 < found["erased"] < 1
    assert "changed by at most 0 of 255" in (tmp_path / "inpainting.md").read_text()
    assert width(tmp_path / "inpainting_sheet.png") > 100


def test_likelihood(glide_line, tmp_path, monkeypatch):
    monkeypatch.setattr(likelihood_table, "PICTURES", 3)
    generators = [
        Generator(name=name, digest=name, network=network, priors=())
        for name, network in (("vae", little_vae()), ("glow", little_glow()))
    ]
    painter = load("glide", weights=glide_line)
    likelihood_table.run(generators, painter, sample_dir(), tmp_path)
    rows = json.loads((tmp_path / "likelihood.json").read_text())["rows"]
    assert [row["model"] for row in rows] == [
        *("PNG", "WebP", "vae", "glow"),
        *("diffusion with captions", "its flow with captions", "diffusion without", "its flow without"),
    ]
    assert all(row["bits"]["value"] > 0 for row in rows)
    assert rows[4]["evaluations"] == 1000
    assert rows[4]["seconds"] > rows[5]["seconds"] > 0
    small = Vae(VaeConfig(resolution=8, widths=(8,), blocks=0, hidden=16, latent=4, sigma=0.3))
    other = Generator(name="vae", digest="", network=small, priors=())
    with pytest.raises(LimnerError, match="vae is of 8 pixels and GLIDE's base of 16"):
        likelihood_table.run([other], painter, sample_dir(), tmp_path)


def test_enlarging(untrained, blind, tmp_path, monkeypatch):
    """A second upsampler that has learned nothing paints grey: everybody else is better, and that is said."""
    monkeypatch.setattr(enlarging, "CROP", 32)
    line = Path(shutil.copytree(untrained, tmp_path / "line"))
    spec, first = checkpoint.load(line / "upsampler", UpsamplerConfig)
    second = dataclasses.replace(spec, low=64, high=256)
    checkpoint.save(line / "upsampler_1024", first, second)
    drawings = tmp_path / "drawings"
    drawings.mkdir()
    rows = []
    for number, split in enumerate(("concept", "concept", "train")):
        picture = Image.new("RGB", (256, 256), "white")
        ImageDraw.Draw(picture).ellipse((40, 30 + 40 * number, 200, 150 + 40 * number), fill="red")
        picture.save(drawings / f"{number}.png")
        facts = {"name": f"thing {number}", "hexcode": f"1F3{number}", "split": split, "skin_tone": None}
        rows.append({"file": f"{number}.png", "caption": f"a thing {number}", **facts})
    (drawings / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("evaluate", "--study", "enlarging", "--data", drawings, "--judge", blind, "--out", tmp_path)
    assert main([str(one) for one in (*arguments, "--weights", line, "--device", "cpu")]) == 0
    found = json.loads((tmp_path / "enlarging.json").read_text())
    assert found["drawings"] == 2
    by = {(one["start"], one["way"]): one for one in found["grown"]}
    assert len(by) == 6
    for start in ("clean", "degraded"):
        assert by[start, "bicubic"]["psnr"]["value"] > by[start, "the upsampler"]["psnr"]["value"] + 3
        assert by[start, "bicubic"]["frechet"] < by[start, "the upsampler"]["frechet"]
    assert by["clean", "Lanczos"]["psnr"]["value"] > 25
    assert 0.2 < by["clean", "bicubic"]["sharpness"]["value"] < 1
    assert width(tmp_path / "enlarging_sheet.png") > 7 * 32
    with pytest.raises(LimnerError, match="no second upsampler"):
        enlarging.run(load("dalle2", weights=untrained), drawings, blind, tmp_path)
    with pytest.raises(LimnerError, match="holds out no drawing of 256 pixels"):
        enlarging.run(load("dalle2", weights=line), sample_dir(), blind, tmp_path)


def dalle2_study(name: str, line: Path, judge: Path, out: Path, *options: object) -> dict:
    arguments = ("evaluate", "--study", name, "--data", sample_dir(), "--judge", judge, "--out", out)
    arguments += ("--weights", line, "--device", "cpu", *options)
    assert main([str(argument) for argument in arguments]) == 0
    return json.loads((out / f"{name}.json").read_text())


def test_priors(untrained, blind, tmp_path, monkeypatch):
    """Untrained priors imagine nothing; what is counted of them follows from their sizes."""
    for name, value in (("REPEATS", 1), ("TIMED", 2), ("ANALYTIC_STEPS", 5)):
        monkeypatch.setattr(priors, name, value)
    with pytest.raises(LimnerError, match="no autoregressive prior"):
        priors.run(load("dalle2", weights=untrained), sample_dir(), blind, tmp_path)
    line = Path(shutil.copytree(untrained, tmp_path / "line"))
    config = AutoregressivePriorConfig(
        embedding=16, text_width=32, context=32, components=4, buckets=8, dots=4, width=32, layers=1, heads=2
    )
    torch.manual_seed(0)
    checkpoint.save(line / "prior_autoregressive", AutoregressivePrior(config).state_dict(), config)
    found = dalle2_study("priors", line, blind, tmp_path, "--names", 2)
    rows = {(one["line"], one["guidance"]): one for one in found["imagined"]}
    diffusion, analytic = f"diffusion, {PRIOR_SAMPLER} {PRIOR_STEPS}", "diffusion, analytic 5"
    assert next(iter(rows)) == (diffusion, PRIOR_GUIDANCE)
    assert list(rows)[-1] == ("none", 1.0)
    assert len(rows) == 7
    for one in found["imagined"]:
        assert -1 <= one["cosine"]["concept"]["value"] <= 1
        assert one["held"]["top1"]["total"] == found["held"]
        assert one["seconds"] > 0
    assert rows[diffusion, PRIOR_GUIDANCE]["above"]["value"] == 0

    def steps(line: str, guidance: float) -> float:
        return rows[line, guidance]["operations"] - rows["none", 1.0]["operations"]

    # Twice the evaluations for two sides, and 5 for those of the usual way; without a prior only CLIP reads.
    assert steps(diffusion, PRIOR_GUIDANCE) == pytest.approx(2 * steps(diffusion, 1.0))
    assert steps(analytic, 1.0) == pytest.approx(steps(diffusion, 1.0) * 5 / PRIOR_STEPS)
    assert rows["none", 1.0]["operations"] > 0
    parameters = {one["line"]: one["parameters"] for one in found["training"]}
    assert parameters["autoregressive"] == sum(p.numel() for p in AutoregressivePrior(config).parameters())
    # Forward and backward are three times forward, of which an evaluation is one row of the two candidates.
    by_training = {one["line"]: one["operations"] for one in found["training"]}
    assert by_training["diffusion"] > 3 * steps(diffusion, 1.0) / (2 * PRIOR_STEPS)
    assert width(tmp_path / "priors_sheet.png") > 32


def test_diversity(untrained, glide_line, blind, tmp_path, monkeypatch):
    monkeypatch.setattr(diversity, "SCALES", (1.0, 6.0))
    dalle2, glide = load("dalle2", weights=untrained), load("glide", weights=glide_line)
    with pytest.raises(LimnerError, match="dalle2 paints 32 pixels at first and glide 16"):
        diversity.run(dalle2, glide, sample_dir(), blind, tmp_path)
    line = Path(shutil.copytree(untrained, tmp_path / "line"))
    for part, config_type, kind, sides in (
        ("decoder", DecoderConfig, Decoder, {"resolution": 16}),
        ("upsampler", UpsamplerConfig, Upsampler, {"low": 16}),
    ):
        config = dataclasses.replace(checkpoint.load(line / part, config_type)[0], **sides)
        torch.manual_seed(0)
        model = kind(config)
        torch.nn.init.normal_(model.unet.head.weight)  # it begins with zeros, and would paint all grey
        checkpoint.save(line / part, model.state_dict(), config)
    diversity.run(load("dalle2", weights=line), glide, sample_dir(), blind, tmp_path, names=2)
    found = json.loads((tmp_path / "diversity.json").read_text())
    lines = [(one["trial"]["line"], one["trial"]["place"]) for one in found["guided"]]
    assert lines == [("unCLIP", 1.0), ("unCLIP", 6.0), ("GLIDE", 1.0), ("GLIDE", 6.0)]
    for number, painter in enumerate(("unCLIP", "GLIDE")):
        first, last = (found["guided"][2 * number + i]["variety"]["spread"]["value"] for i in (0, 1))
        assert first > 0
        assert found["left"][painter]["value"] == pytest.approx(last / first)
    assert width(tmp_path / "diversity.png") > 100


def test_steepness_is_of_edges_alone():
    plain, edge = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    assert enlarging.steepness(plain) == 0
    # One of seven differences across is 1, all down are 0.
    assert enlarging.steepness(edge) == pytest.approx((1 / 7) ** 0.5)


def test_edits(untrained, blind, tmp_path, monkeypatch):
    for name, value in (("PICTURES", 2), ("EDITS", 4), ("STEPS", (3, 12)), ("STRENGTHS", (0.0, 1.0))):
        monkeypatch.setattr(edits, name, value)
    arguments = ("evaluate", "--study", "edits", "--data", sample_dir(), "--judge", blind, "--out", tmp_path)
    assert main([str(one) for one in (*arguments, "--weights", untrained, "--device", "cpu")]) == 0
    found = json.loads((tmp_path / "edits.json").read_text())
    assert found["back"]["12"]["value"] > 30
    by = {(one["kind"], one["strength"]): one for one in found["edits"]}
    # An edit of no strength gives the picture back: its edges are where they were, its colour is no other.
    assert by["thing", 0.0]["stays"]["value"] > 0.95
    assert by["colour", 0.0]["arrived"]["value"] == 0
    assert width(tmp_path / "edits_sheet.png") > 128


def test_the_colour_of_a_picture_is_that_of_its_ink():
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).rectangle((10, 10, 30, 30), fill=(40, 90, 220))
    ImageDraw.Draw(picture).rectangle((40, 40, 50, 50), fill=(220, 20, 30))
    assert edits.colour_of(picture) == "blue"
    assert edits.colour_of(Image.new("RGB", (8, 8), "white")) == "white"


def test_edges_are_alike_whatever_their_colour():
    def square(left: int, colour: tuple[int, int, int]) -> Image.Image:
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).rectangle((left, 10, left + 20, 30), fill=colour)
        return picture

    red, blue, moved = square(10, (220, 20, 30)), square(10, (40, 90, 220)), square(40, (220, 20, 30))
    assert edits.alike(red, red) == pytest.approx(1)
    assert edits.alike(red, blue) > 0.95
    assert edits.alike(red, moved) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--study", "enlarging", "--model", "glide"),
            "study is 'enlarging', of what dalle2 paints: add --model dalle2",
        ),
        (("--study", "solvers"), "study is 'solvers', of what glide paints: add --model glide"),
        (("--study", "solvers", "--model", "glide"), "study is 'solvers': give --data, --judge and --out"),
        (("--study", "likelihood", "--model", "glide"), "likelihood needs --data and --out: give both"),
        (
            ("--study", "likelihood", "--model", "glide", "--judge", "x"),
            "judge is 'x': nobody is asked here, so leave it out",
        ),
        (
            ("--study", "guidance", "--model", "glide", "--count", "2"),
            "a study paints no --sheet and sets --count itself: leave them out",
        ),
    ],
)
def test_studies_that_cannot_be(options, message, capsys):
    assert main(["evaluate", *options]) == 2
    assert capsys.readouterr().err == f"limner: {message}\n"
