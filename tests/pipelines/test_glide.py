"""GLIDE with a tiny line of random weights: the pictures mean nothing, the rules are the real ones."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.diffusion.guidance import held
from limner.diffusion.process import Denoised, denoiser
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.glide import read_ids
from limner.pipelines import GlideSettings
from limner.pipelines.glide import Glide
from limner.pipelines.glide_parts import PARTS, digest
from limner.pipelines.known import box_mask, known_of, mask_of
from limner.pipelines.pictures import seen
from limner.pipelines.settings import Commission, commissions
from limner.pipelines.stages import Drawn, Enlarged, Read, to_images
from limner.text import CaptionTokenizer

QUICK = GlideSettings(steps=3, upsampler_steps=2)
KINDS = ("classifier-free", "clip", "both")


@pytest.fixture(scope="module")
def painter(glide_line):
    return limner.load("glide", weights=glide_line)


def noise(width, height, *, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels, mode)


def pixels(image):
    return np.asarray(image).astype(int)


def same(one, two):
    return np.abs(pixels(one) - pixels(two)).max() <= 1


# --- painting ------------------------------------------------------------------------------------


def test_a_picture_is_a_function_of_prompt_seed_and_settings(painter):
    one, two = painter.paint("a pear", count=2, seed=5, settings=QUICK)
    assert one.size == (64, 64)
    assert same(one, painter.paint("a pear", seed=5, settings=QUICK)[0])
    assert same(two, painter.paint(["two fish", "a pear"], seed=6, settings=QUICK)[1])
    assert not same(one, two)
    assert not same(one, painter.paint("two fish", seed=5, settings=QUICK)[0])
    small = painter.paint("a pear", size=16, settings=QUICK)
    assert [image.size for image in small] == [(16, 16)]


def test_stages_are_those_of_the_figure_and_ticks_count_them(painter):
    ticks = []
    stages = list(painter.paint("a pear", count=2, settings=QUICK, stages=True, on_tick=ticks.append))
    read, drawn, enlarged = stages
    assert isinstance(read, Read)
    assert isinstance(drawn, Drawn)
    assert isinstance(enlarged, Enlarged)
    assert drawn.pictures.shape == (2, 3, 16, 16)
    assert enlarged.pictures.shape == (2, 3, 64, 64)
    assert [tick.done for tick in ticks] == [2, 4, 6, 8, 10]
    assert {tick.total for tick in ticks} == {10}
    assert [tick.doing for tick in ticks] == ["drawing"] * 3 + ["enlarging"] * 2


def test_the_caption_is_read_once_whatever_the_steps(painter, monkeypatch):
    calls = []
    read = type(painter.base).read
    monkeypatch.setattr(type(painter.base), "read", lambda self, *a: calls.append(self) or read(self, *a))
    painter.paint("a pear", settings=replace(QUICK, steps=6))
    assert calls == [painter.base, painter.upsampler]


@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "heun", "ancestral"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_takes_every_guidance(painter, sampler, kind):
    settings = replace(QUICK, sampler=sampler, guidance_kind=kind)
    (image,) = painter.paint("a pear", size=16, settings=settings)
    assert image.size == (16, 16)


def test_which_scale_counts_is_what_the_kind_says(painter):
    def paint(**options):
        return painter.paint("a pear", size=16, settings=replace(QUICK, **options))[0]

    plain = paint(guidance=1.0)
    assert same(paint(guidance_kind="clip", guidance=7.0, clip_guidance=0.0), plain)
    assert same(paint(guidance_kind="both", guidance=1.0, clip_guidance=0.0), plain)
    assert same(paint(guidance_kind="classifier-free", guidance=1.0, clip_guidance=9.0), plain)
    assert not same(paint(guidance_kind="classifier-free", guidance=3.0), plain)
    assert not same(paint(guidance_kind="clip", clip_guidance=50.0), plain)


def test_without_words_the_words_do_not_matter(painter):
    settings = replace(QUICK, guidance=0.0)
    (pear,), (fish,) = (
        painter.paint(prompt, size=16, settings=settings) for prompt in ("a pear", "two fish")
    )
    assert same(pear, fish)
    # Unless it is CLIP that reads them.
    led = replace(settings, guidance_kind="both", clip_guidance=20.0)
    (pear,), (fish,) = (painter.paint(prompt, size=16, settings=led) for prompt in ("a pear", "two fish"))
    assert not same(pear, fish)


def test_guidance_leads_away_from_the_negative_prompt(painter):
    """By hand, at the noisiest level: one step returns x̂_0 as it is."""
    base, wanted = painter.base, [Commission("a pear", 3), Commission("two fish", 4)]
    spec = base.config.diffusion
    read = painter.read(wanted)
    negative = painter.read([Commission("a large green fish", 0)] * 2)
    x = Draws([mix(c.seed, "base") for c in wanted]).normal(3, 16, 16)
    t = torch.full((2,), float(spec.levels().log_snr_spaced(1).t[0]))
    with torch.inference_mode():
        given, against = (
            denoiser(
                lambda x, t, ids=ids: base.predict(x, t, caption=base.read(*read_ids(ids)), known=None),
                spec.levels(),
                spec.prediction,
                learned_variance=spec.learned_variance,
            )(x, t).x0
            for ids in (read.ids, negative.ids)
        )
    by_hand = (against + 3 * (given - against)).clamp(-1, 1)
    settings = replace(QUICK, sampler="dpm++", steps=1, guidance=3.0, negative_prompt="a large green fish")
    torch.testing.assert_close(painter.draw(read, settings).pictures, by_hand, atol=1e-4, rtol=0)


def test_no_negative_prompt_is_an_empty_one_and_another_paints_another_picture(painter):
    def paint(**more):
        return painter.paint("a pear", size=16, settings=replace(QUICK, **more))[0]

    plain = paint()
    assert same(paint(negative_prompt=""), plain)
    assert not same(paint(negative_prompt="two fish"), plain)
    told = painter.metadata(
        Commission("a pear", 0), size=16, settings=replace(QUICK, negative_prompt="two fish")
    )
    assert json.loads(told["settings"])["negative_prompt"] == "two fish"
    with pytest.raises(ValueError, match=r"^negative_prompt is '&nbsp;', without a word"):
        paint(negative_prompt="&nbsp;")


# --- mending -------------------------------------------------------------------------------------


def test_known_pixels_come_back_exactly_and_the_others_are_painted(painter):
    image = noise(64, 64)
    mask = box_mask(image.size, (10, 20, 40, 52))
    for settings in (QUICK, replace(QUICK, sampler="ancestral", upsampler_sampler="ddim")):
        one, two = painter.inpaint(image, mask, "a pear", count=2, settings=settings)
        known = np.asarray(mask) == 0
        assert (pixels(one)[known] == pixels(image)[known]).all()
        assert (pixels(two)[known] == pixels(image)[known]).all()
        assert not same(one, two)
        assert np.abs(pixels(one)[~known] - pixels(image)[~known]).max() > 10
    (small,) = painter.inpaint(image, mask, "a pear", size=16, settings=QUICK)
    expected, kept = to_images(known_of(image, mask, 64).at(16).pictures)[0], np.ones((16, 16), dtype=bool)
    kept[5:13, 2:10] = False
    assert (pixels(small)[kept] == pixels(expected)[kept]).all()


def test_what_is_to_be_painted_is_not_seen(painter):
    image, mask = noise(64, 64), box_mask((64, 64), (8, 8, 40, 40))
    other = image.copy()
    other.paste((255, 0, 0), (8, 8, 40, 40))
    (one,), (two,) = (painter.inpaint(each, mask, "a pear", settings=QUICK) for each in (image, other))
    assert same(one, two)


def test_a_picture_that_is_not_square_gets_margins_that_are_known(painter):
    image = noise(64, 32)
    kept = known_of(image, box_mask(image.size, (0, 0, 8, 32)), 64)
    mask = kept.mask[0, 0]
    assert mask[:16].all()
    assert mask[48:].all()
    assert not mask[16:48, :8].any()
    assert mask[16:48, 8:].all()
    (one,) = painter.inpaint(image, box_mask(image.size, (0, 0, 8, 32)), "a pear", settings=QUICK)
    assert (pixels(one)[:16] == 255).all()


@pytest.mark.parametrize("side", [16, 64, 100])
@pytest.mark.parametrize("size", [(128, 128), (100, 70), (30, 41), (1000, 700)])
def test_a_pixel_of_which_any_part_is_to_be_painted_is(size, side):
    width, height = size
    whole = max(size)
    mask = Image.new("L", size, 0)
    column, row = width // 7, height // 3
    mask.putpixel((column, row), 255)
    known = known_of(noise(*size), mask, side).mask[0, 0]
    column, row = column + (whole - width) // 2, row + (whole - height) // 2
    for y, x in np.ndindex(side, side):
        covers = (
            x * whole < (column + 1) * side
            and (x + 1) * whole > column * side
            and y * whole < (row + 1) * side
            and (y + 1) * whole > row * side
        )
        assert bool(known[y, x]) != covers, (x, y)


@pytest.mark.parametrize("size", [(128, 128), (100, 100), (30, 41), (1000, 700)])
def test_what_is_erased_leaves_nothing_in_its_neighbours(size):
    """A black box on white, or hidden black, taken out: what is known is white throughout."""
    width, height = size
    box = (width // 5, height // 5, width // 2, height // 2)
    black = Image.new("RGB", size, "white")
    black.paste("black", box)
    hidden = Image.new("RGBA", size, (255, 255, 255, 255))
    hidden.paste((0, 0, 0, 0), box)
    for image, mask in (
        (black, box_mask(size, box)),
        (hidden, mask_of(hidden)),
        (hidden, box_mask(size, box)),
    ):
        kept = known_of(image, mask, 64)
        known = kept.pictures[:, :, kept.mask[0, 0] > 0]
        assert known.min() > 0.99


def test_transparent_pictures_are_seen_on_white():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (16, 16, 48, 48))
    kept = known_of(image, box_mask((64, 64), (20, 20, 30, 30)), 64)
    assert (kept.pictures[0, :, :16] == 1).all()


def test_masks_are_read_from_alpha_or_black_and_white():
    half = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    half.paste((1, 2, 3, 0), (0, 0, 4, 8))
    assert (np.asarray(mask_of(half)) == np.repeat([[255] * 4 + [0] * 4], 8, axis=0)).all()
    drawn = Image.new("RGB", (8, 8), "black")
    drawn.paste("white", (4, 0, 8, 8))
    faint = drawn.convert("RGBA")
    faint.putpixel((0, 0), (0, 0, 0, 254))  # not quite opaque, but nothing that anybody cut out
    assert (np.asarray(mask_of(faint)) == np.asarray(mask_of(drawn))).all()
    assert (np.asarray(mask_of(drawn)) == np.repeat([[0] * 4 + [255] * 4], 8, axis=0)).all()


def test_held_puts_what_is_known_into_the_guess():
    known, mask = torch.randn(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    denoise = held(lambda x, _: Denoised(x0=x * 0 + 7, variance=x), known, mask)
    x0 = denoise(torch.randn(2, 3, 4, 4), torch.zeros(2)).x0
    assert torch.equal(x0[:, :, :2], known[:, :, :2])
    assert (x0[:, :, 2:] == 7).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (32, 64), 255), r"mask is 32×64 pixels and image 64×64"),
        (Image.new("L", (64, 64), 0), "mask has nothing white"),
        (Image.new("L", (64, 64), 255), "mask is white .* throughout"),
    ],
)
def test_masks_that_cannot_be(painter, mask, message):
    with pytest.raises(ValueError, match=message):
        painter.inpaint(noise(64, 64), mask, "a pear")


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 5, 4, 9), (-1, 0, 4, 4), (0, 0, 65, 4)])
def test_boxes_that_cannot_be(box):
    with pytest.raises(ValueError, match=r"mask is the box .* give LEFT,TOP,RIGHT,BOTTOM within it"):
        box_mask((64, 64), box)


def test_networks_that_do_not_mend_say_so(tiny, tmp_path):
    painter = limner.load("glide", weights=tiny.write_glide(tmp_path / "line", inpaint=False))
    assert painter.paint("a pear", size=16, settings=QUICK)
    with pytest.raises(ValueError, match="base is a network that paints and does not mend"):
        painter.inpaint(noise(64, 64), box_mask((64, 64), (0, 0, 9, 9)), "a pear")


# --- redrawing -----------------------------------------------------------------------------------


def test_of_all_strength_nothing_stays(painter):
    settings = replace(QUICK, guidance=1.0, steps=10)
    (whole,) = painter.paint("a pear", size=16, settings=settings)
    for colour in ("red", "blue"):
        image = Image.new("RGB", (64, 64), colour)
        (forgot,) = painter.redraw(image, "a pear", strength=1.0, size=16, settings=settings)
        assert np.abs(pixels(forgot) - pixels(whole)).max() <= 2
        (half,) = painter.redraw(image, "a pear", strength=0.3, size=16, settings=settings)
        assert np.abs(pixels(half) - pixels(whole)).mean() > 3


def test_where_a_redrawing_begins_is_the_noised_picture(painter, monkeypatch):
    seen_first = []
    predict = type(painter.base).predict

    def watched(self, x, t, **options):
        seen_first.append((x.clone(), t.clone()))
        return predict(self, x, t, **options)

    monkeypatch.setattr(type(painter.base), "predict", watched)
    image = noise(16, 16)
    settings = replace(QUICK, guidance=1.0, sampler="ddim", steps=4)
    painter.redraw(image, "a pear", strength=0.5, count=64, size=16, settings=settings)
    assert len(seen_first) == 4 * 2  # half of the steps for each of four handfuls
    x, t = seen_first[0]
    assert (t == 499).all()
    alpha_bar = painter.base.config.diffusion.levels().alpha_bar[499].item()
    left = (x - alpha_bar**0.5 * seen([image], 16)) / (1 - alpha_bar) ** 0.5
    assert left.mean().item() == pytest.approx(0, abs=0.05)
    assert left.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.5, float("nan")])
def test_strengths_that_cannot_be(painter, strength):
    with pytest.raises(ValueError, match=r"strength is .*: give a number above 0 and at most 1"):
        painter.redraw(noise(8, 8), "a pear", strength=strength)


# --- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0: give a whole number from 1 to 1000"),
        ({"clip_guidance": -1.0}, "clip_guidance is -1.0: give a number from 0 to 100"),
        ({"upsampler_steps": 1001}, "upsampler_steps is 1001: give a whole number from 1 to 1000"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        GlideSettings(**options)


def test_what_cannot_be_painted_is_refused_at_once(painter):
    with pytest.raises(ValueError, match="size is 128: choose 16 or 64"):
        painter.paint("a pear", size=128)
    with pytest.raises(ValueError, match="prompt is '  ', without a word"):
        painter.paint("  ")
    with pytest.raises(ValueError, match="precision is 'bf16': dalle1 has no U-Net"):
        limner.load("dalle1", precision="bf16")


def test_half_precision_paints_nearly_the_same(painter, glide_line):
    half = limner.load("glide", weights=glide_line, precision="bf16")
    one, two = (each.paint("a pear", size=16, settings=QUICK)[0] for each in (painter, half))
    assert 0 < np.abs(pixels(one) - pixels(two)).max() < 40


def test_metadata_says_how_a_picture_was_painted(painter, glide_line):
    (wanted,) = commissions("a pear", count=1, seed=3)
    told = painter.metadata(wanted, size=64, settings=QUICK)
    assert told["prompt"] == "a pear"
    assert told["seed"] == "3"
    assert told["model"] == "glide"
    assert told["weights"] == digest(glide_line)
    assert json.loads(told["settings"])["guidance_kind"] == "classifier-free"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_named(glide_line, tmp_path, part):
    folder = shutil.copytree(glide_line, tmp_path / "line")
    shutil.rmtree(folder / part)
    with pytest.raises(LimnerError, match=part):
        Glide.load(folder)


def test_words_that_are_missing_or_of_others_are_named(glide_line, tmp_path):
    folder = shutil.copytree(glide_line, tmp_path / "line")
    words = folder / "base" / "bpe.json"
    before = digest(folder)
    CaptionTokenizer.train(["ab", "ab"], 258).save(words)
    assert digest(folder) != before
    text = " ".join(chr(97 + i % 26) * (i % 7 + 1) for i in range(400))
    CaptionTokenizer.train([text, text], 400).save(words)
    with pytest.raises(LimnerError, match=r"base/bpe.json has \d+ words, and the base knows 300"):
        Glide.load(folder)
    words.unlink()
    with pytest.raises(LimnerError, match=r"cannot read the vocabulary .*base/bpe.json"):
        Glide.load(folder)


def test_parts_of_different_lines_are_refused(glide_line, tmp_path):
    folder = shutil.copytree(glide_line, tmp_path / "line")
    shutil.rmtree(folder / "base")
    shutil.copytree(folder / "upsampler", folder / "base")
    with pytest.raises(LimnerError, match="these parts do not belong together: the base's low is 16"):
        Glide.load(folder)
