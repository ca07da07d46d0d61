"""Inside: what is shown of a picture is what happened, and what is said of it can be worked out again."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from limner.clip import unit
from limner.pipelines import PaintSettings, rank
from limner.pipelines.embedding import pictured
from limner.pipelines.settings import Commission
from limner.pipelines.stages import Drawn, Imagined
from limner.server.errors import Refused
from limner.studio import inside, lens
from limner.studio.known import Known
from limner.studio.making import odds_picture
from limner.studio.turns import Sketched, Visit

ME = "127.0.0.1"


@pytest.fixture(scope="module")
def known():
    return Known()


def test_dalle2_shows_every_step_up_to_the_picture_that_it_paints(ended, service, painters, known):
    told, made = ended(inside.made(Visit(service, ME), known, "dalle2", "a pear", 4))
    painter = painters["dalle2"]
    (picture,) = painter.paint("a pear", seed=4)
    assert made.picture.tobytes() == picture.tobytes()
    assert made.tokens == ("a", "pe", "ar") or "".join(made.tokens) == "apear"
    assert len(made.frames) == PaintSettings().steps
    assert len([event for event in told if isinstance(event, Sketched)]) == PaintSettings().steps
    stages = list(painter.paint_each((Commission("a pear", 4),)))
    (drawn,) = [stage for stage in stages if isinstance(stage, Drawn)]
    (imagined,) = [stage for stage in stages if isinstance(stage, Imagined)]
    names, images = zip(*made.frames[-1].pictures, strict=True)
    assert names == ("where it stands, xₜ", "its guess x̂₀")
    # The last step ends on clean data.
    assert images[0].tobytes() == drawn.images()[0].tobytes()
    assert images[0].tobytes() != made.frames[0].pictures[0][1].tobytes()
    assert made.imagining.candidates == tuple(imagined.scores[0].tolist())
    z = unit(imagined.embeddings)[0]
    assert made.imagining.painted == pytest.approx(float(pictured(painter.clip, [picture])[0] @ z), abs=1e-5)


def test_glide_shows_its_steps(ended, service, painters, known):
    _, made = ended(inside.made(Visit(service, ME), known, "glide", "a pear", 4))
    assert made.picture.tobytes() == painters["glide"].paint("a pear", seed=4)[0].tobytes()
    assert len(made.frames) == painters["glide"].usual.steps
    assert made.imagining is None


def test_dalle1_fills_in_its_grid_with_the_odds_of_its_tokens(ended, service, painters, known):
    _, made = ended(inside.made(Visit(service, ME), known, "dalle1", "a pear", 4))
    *_, last = painters["dalle1"].stream("a pear", seed=4)
    assert made.picture.tobytes() == last.image().tobytes()
    assert [frame.caption.split(",")[0] for frame in made.frames] == [f"row {n} of 4" for n in (1, 2, 3, 4)]
    mean, among, words = made.odds
    assert mean == pytest.approx(float(last.odds.mean()))
    assert math.log(among) == pytest.approx(-float(last.odds.log().mean()), rel=1e-4)
    assert words == painters["dalle1"].transformer.config.image_vocabulary
    # Of an unfinished picture nothing is shown below what is written.
    _, written = made.frames[0].pictures[0]
    assert (np.asarray(written)[8:] == 255).all()
    assert not (np.asarray(written)[:8] == 255).all()


def test_odds_are_the_darker_the_likelier():
    shown = np.asarray(odds_picture(torch.tensor([[0.0, 0.25, 1.0]]), 3, 1).convert("L"))[0]
    assert shown[0] == 255
    assert shown[0] > shown[1] > shown[2]


def test_neighbours_of_a_drawing_begin_with_itself(service, known):
    name, file = known.sample[7]
    with Image.open(file) as opened:
        drawing = opened.convert("RGBA")
    z = pictured(service.clip.clip, [drawing])[0]
    found = known.nearest(service.clip, z, 5)
    assert found[0].name == name
    assert found[0].cosine == pytest.approx(1, abs=1e-4)
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)


def test_likenesses_are_the_scores_of_ranking(ended, service, lines, drawings):
    _, found = ended(inside.read(Visit(service, ME), drawings[0], "a pear, a cat\na pear"))
    assert {one.words for one in found.likenesses} == {"a pear", "a cat"}
    for one in found.likenesses:
        (score,) = rank(one.words, [drawings[0]], weights=lines["dalle2"])
        assert one.cosine == pytest.approx(score, abs=1e-5)
    assert found.likenesses[0].cosine >= found.likenesses[1].cosine
    assert found.heat.size == (lens.PANEL, lens.PANEL)


def test_words_that_are_none_or_too_many_are_refused():
    with pytest.raises(ValueError, match=r"^words are missing"):
        lens.lines(" , \n")
    with pytest.raises(ValueError, match=r"^words are 25: give at most 24"):
        lens.lines(",".join(f"word{number}" for number in range(25)))


def test_without_clip_nothing_is_read(make_service, drawings):
    service = make_service("glide")
    with pytest.raises(Refused, match=r"^no CLIP is served here"):
        next(inside.read(Visit(service, ME), drawings[0], "a pear"))
    service.end()


def test_what_autoencoders_keep_is_less_than_the_picture(ended, service, known, drawings):
    _, found = ended(inside.remembered(Visit(service, ME), known, drawings[0]))
    assert {one.name for one in found} == {"vae", "vqvae", "vqvae2", "dvae"}
    for one in found:
        assert one.before.size == one.after.size
        assert 10 < one.psnr < 60
        assert one.bits < 8 * 3 * one.before.width * one.before.height
        assert bool(one.grids) == (one.name != "vae")
    assert inside.kept_html(found).count("<h2>") == 1 + len(found)


def test_the_walk_ends_at_both_reconstructions(ended, service, known, drawings):
    _, found = ended(inside.walked(Visit(service, ME), known, *drawings))
    kept = [lens.kept(known, one, lambda: None) for one in drawings]
    ends = [next(one for one in each if one.name == "vae").after for each in kept]
    assert len(found) == inside.WALK
    for image, end in zip((found[0], found[-1]), ends, strict=True):
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(end, dtype=int)).max() <= 1


def test_moved_numbers_change_the_picture(ended, service, known, drawings):
    _, rows = ended(inside.numbers(Visit(service, ME), known, drawings[0]))
    assert len(rows) == lens.MOVED
    for title, row in rows:
        assert title.startswith("number ")
        assert row[0].tobytes() != row[-1].tobytes()
