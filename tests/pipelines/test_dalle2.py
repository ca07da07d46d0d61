"""Painting with a tiny line of random weights: the pictures mean nothing, the rules are the real ones."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch

import limner
from limner.clip import unit
from limner.dalle2.objective import clip_reader
from limner.diffusion.process import denoiser
from limner.diffusion.samplers import dpm_solver_pp_2m, last
from limner.draws import Draws, mix
from limner.pipelines import PaintSettings
from limner.pipelines.dalle2 import DRAWN_AT_ONCE, Dalle2
from limner.pipelines.settings import Commission, commissions
from limner.pipelines.stages import Drawn, Enlarged, Imagined, Understood, eight_bit, to_images
from limner.text import CutCaptionWarning

QUICK = PaintSettings(prior_steps=3, steps=3, upsampler_steps=2)
LONG = "a large green fish"


def pixels(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


def nearly(ours, theirs):
    """Equal but for the last bit of sums, which may tip a few pixels over to the next level."""
    apart = np.abs(pixels(ours) - pixels(theirs))
    return apart.max() <= 1 and (apart > 0).mean() < 0.01


@pytest.fixture(scope="module")
def read(painter):
    """Three commissions, two prompts of different lengths, as CLIP reads them."""
    return painter.understand([Commission("a pear", 5), Commission(LONG, 5), Commission("a pear", 6)])


@pytest.fixture(scope="module")
def imagined(painter, read):
    return painter.imagine(read, QUICK)


# --- the whole -----------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_bytes(painter):
    once, again = (painter.paint("a pear", seed=3, settings=QUICK)[0] for _ in range(2))
    assert once.size == (256, 256)
    assert once.mode == "RGB"
    assert once.tobytes() == again.tobytes()


def test_the_callers_own_random_numbers_change_nothing_and_are_left_alone(painter, line):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    ours = Dalle2.load(line).paint("a pear", size=64, settings=QUICK)[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert painter.paint("a pear", size=64, settings=QUICK)[0].tobytes() == ours.tobytes()


def test_picture_k_of_a_seed_is_picture_0_of_the_kth_seed_after_it(painter):
    together = painter.paint("a pear", count=3, seed=5, settings=QUICK)
    alone = [painter.paint("a pear", seed=seed, settings=QUICK)[0] for seed in (5, 6, 7)]
    assert nearly(together, alone)
    assert not nearly(together[:2], together[1:])


def test_neighbours_change_nothing(painter):
    """Neither longer prompts in the batch nor where in the batch a picture stands."""
    prompts = ["a pear", LONG]
    together = painter.paint(prompts, count=2, seed=5, size=64, settings=QUICK)
    apart = [image for p in prompts for image in painter.paint(p, count=2, seed=5, size=64, settings=QUICK)]
    assert nearly(together, apart)
    assert not nearly(together[:2], together[2:])


def test_more_than_one_batch(painter):
    settings = dataclasses.replace(QUICK, prior_steps=1, steps=1)
    count = DRAWN_AT_ONCE + 2
    stages = list(painter.paint("a pear", count=count, size=64, settings=settings, stages=True))
    assert [type(stage) for stage in stages] == [Understood, Imagined, Drawn] * 2
    assert [len(stage.commissions) for stage in stages[2::3]] == [DRAWN_AT_ONCE, 2]
    assert [c.seed for stage in stages[2::3] for c in stage.commissions] == [*range(count)]
    first = painter.paint("a pear", seed=count - 1, size=64, settings=settings)
    assert nearly(stages[-1].images()[-1:], first)


def test_ancestral_noise_belongs_to_the_picture_too(painter):
    settings = dataclasses.replace(QUICK, sampler="ancestral", prior_sampler="ancestral")
    together = painter.paint("a pear", count=2, seed=5, size=64, settings=settings)
    assert nearly(together[1:], painter.paint("a pear", seed=6, size=64, settings=settings))


def test_stages_come_in_order_and_end_in_what_paint_returns(painter):
    understood, imagined, drawn, enlarged = painter.paint(
        ["a pear", "two fish"], count=2, seed=9, settings=QUICK, stages=True
    )
    assert isinstance(understood, Understood)
    assert isinstance(imagined, Imagined)
    assert isinstance(drawn, Drawn)
    assert isinstance(enlarged, Enlarged)
    wanted = commissions(["a pear", "two fish"], count=2, seed=9)
    assert all(s.commissions == wanted for s in (understood, imagined, drawn, enlarged))
    assert understood.ids.shape == (4, 32)
    assert understood.embedding.shape == imagined.embeddings.shape == (4, 16)
    assert imagined.scores.shape == (4, 2)
    assert drawn.pictures.shape == (4, 3, 64, 64)
    assert enlarged.pictures.shape == (4, 3, 256, 256)
    assert float(drawn.pictures.abs().max()) <= 1
    painted = painter.paint(["a pear", "two fish"], count=2, seed=9, settings=QUICK)
    assert [i.tobytes() for i in painted] == [i.tobytes() for i in enlarged.images()]


def test_every_step_is_heard_of(painter):
    heard = []
    painter.paint("a pear", count=2, settings=QUICK, on_tick=heard.append)
    assert [tick.done for tick in heard] == [2 * n for n in range(1, 9)]
    assert {tick.total for tick in heard} == {16}
    assert [tick.doing for tick in heard] == ["imagining"] * 3 + ["drawing"] * 3 + ["enlarging"] * 2


def test_refusals_come_at_the_call_not_at_the_first_stage(painter):
    for arguments, message in (
        ({"prompts": ""}, "^prompt is ''"),
        ({"prompts": "a pear", "size": 128}, "^size is 128: choose 64 or 256"),
        ({"prompts": "a pear", "count": 0}, "^count is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            painter.paint(**arguments, stages=True)


def test_more_steps_than_the_weights_know_are_refused(painter):
    short = dataclasses.replace(
        painter.decoder.config, diffusion=dataclasses.replace(painter.decoder.config.diffusion, steps=10)
    )
    decoder = type(painter.decoder)(short)
    with pytest.raises(ValueError, match=r"^steps is 11: these weights know 10"):
        dataclasses.replace(painter, decoder=decoder).paint(
            "a pear", settings=dataclasses.replace(QUICK, steps=11), stages=True
        )


@pytest.mark.filterwarnings("ignore::limner.text.UnknownCharacterWarning")
def test_what_a_file_says_of_a_picture_paints_it_again(painter):
    commission = Commission("a pear, 梨 🍐", 11)
    metadata = painter.metadata(commission, size=64, settings=QUICK)
    assert metadata["model"] == "dalle2"
    assert metadata["weights"] == painter.digest
    assert metadata["limner"] == limner.__version__
    settings = json.loads(metadata["settings"])
    assert settings.pop("precision") == "fp32"
    size = settings.pop("size")
    again = painter.paint(
        metadata["prompt"], seed=int(metadata["seed"]), size=size, settings=PaintSettings(**settings)
    )
    ours = painter.paint(commission.prompt, seed=11, size=64, settings=QUICK)
    assert again[0].tobytes() == ours[0].tobytes()


def test_bfloat16_paints_the_same_picture_a_little_rougher(painter):
    ours = painter.paint("a pear", size=64, settings=QUICK)
    rough = dataclasses.replace(painter, precision="bf16").paint("a pear", size=64, settings=QUICK)
    apart = np.abs(pixels(ours) - pixels(rough))
    assert 0 < apart.mean() < 4


# --- the words -----------------------------------------------------------------------------------


def test_words_are_read_as_clip_reads_them_alone(painter, read):
    ids = painter.tokenizer(["a pear"], 32)
    alone = clip_reader(painter.clip)(ids)
    assert torch.equal(read.ids[0], ids[0])
    torch.testing.assert_close(read.embedding[0], alone.embedding[0])
    torch.testing.assert_close(read.embedding[0], read.embedding[2])
    torch.testing.assert_close(read.embedding.norm(dim=1), torch.ones(3))
    length = int(alone.mask.sum())
    torch.testing.assert_close(read.caption.tokens[0, :length], alone.tokens[0, :length])
    longest = len(painter.tokenizer.encode(LONG)) + 2
    assert read.caption.mask.sum(dim=1).tolist() == [length, longest, length]
    empty = clip_reader(painter.clip)(painter.tokenizer([""], 32))
    torch.testing.assert_close(read.empty.embedding, empty.embedding.expand(3, -1))
    assert read.empty.mask.sum(dim=1).tolist() == [2, 2, 2]


def test_a_prompt_longer_than_the_context_is_cut_with_one_warning_that_says_what_was_cut(painter):
    with pytest.warns(CutCaptionWarning, match=r"^1 of 1 texts cut to 30 tokens; the first lost 'pear'") as w:
        painter.understand([Commission("x " * 30 + "pear", seed) for seed in range(3)])
    assert len(w) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        painter.understand([Commission("a pear", 0)])


# --- the prior -----------------------------------------------------------------------------------


def test_the_better_of_the_candidates_is_kept(painter, read, imagined):
    assert imagined.candidates.shape == (3, 2, 16)
    torch.testing.assert_close(imagined.candidates.norm(dim=-1), torch.ones(3, 2))
    cosines = torch.cosine_similarity(imagined.candidates, read.embedding[:, None], dim=-1)
    torch.testing.assert_close(imagined.scores, cosines)
    assert (imagined.scores[:, 0] != imagined.scores[:, 1]).all()
    kept = (imagined.embeddings * read.embedding).sum(dim=1)
    torch.testing.assert_close(kept, cosines.amax(dim=1))
    # With enough pictures both places win sometimes, so that it is not always the first that is kept.
    many = painter.imagine(painter.understand(commissions("a pear", count=16, seed=0)), QUICK)
    assert set(many.scores.argmax(dim=1).tolist()) == {0, 1}


def test_candidates_are_drawn_apart(painter, read, imagined):
    """More candidates leave the first ones as they were; one candidate is the first."""
    one = painter.imagine(read, dataclasses.replace(QUICK, prior_candidates=1))
    four = painter.imagine(read, dataclasses.replace(QUICK, prior_candidates=4))
    torch.testing.assert_close(one.embeddings, imagined.candidates[:, 0])
    torch.testing.assert_close(four.candidates[:, :2], imagined.candidates)
    assert (four.scores.amax(dim=1) >= imagined.scores.amax(dim=1) - 1e-6).all()


def test_the_prior_is_walked_as_it_was_trained(painter, read):
    """By hand: scaled, unclipped, guided against the empty caption."""
    settings = dataclasses.replace(
        QUICK, prior_guidance=2.5, prior_sampler="dpm++", prior_candidates=1, prior_steps=4
    )
    config, levels = painter.prior.config, painter.prior.config.diffusion.levels()
    with torch.inference_mode():
        parts = [
            denoiser(
                lambda x, t, c=caption: painter.prior(
                    x, t, tokens=c.tokens, caption=c.embedding, mask=c.mask
                ),
                levels,
                "x0",
            )
            for caption in (read.caption, read.empty)
        ]

        def guided(x, t):
            given, without = (part(x, t).x0 for part in parts)
            return type(parts[0](x, t))(x0=without + 2.5 * (given - without))

        x = Draws([mix(c.seed, "prior", 0) for c in read.commissions]).normal(config.embedding)
        by_hand = unit(last(dpm_solver_pp_2m(guided, x, levels.log_snr_spaced(4))))
    torch.testing.assert_close(painter.imagine(read, settings).embeddings, by_hand, atol=1e-5, rtol=1e-4)


def test_the_ancestral_prior_draws_with_its_analytic_variance(painter, read, monkeypatch):
    """Errors that were measured make other embeddings of the same noise; to DDIM they are nothing."""
    ancestral, ddim = (dataclasses.replace(QUICK, prior_sampler=name) for name in ("ancestral", "ddim"))
    before = [painter.imagine(read, settings).embeddings for settings in (ancestral, ddim)]
    monkeypatch.setattr(painter.prior, "errors", torch.full_like(painter.prior.errors, 0.2))
    after = [painter.imagine(read, settings).embeddings for settings in (ancestral, ddim)]
    assert (after[0] - before[0]).abs().max() > 1e-3
    torch.testing.assert_close(after[1], before[1])


# --- the decoder ---------------------------------------------------------------------------------


def one_step(painter, read, imagined, guidance):
    """x̂_0 at the noisiest level, which one step returns as it is."""
    settings = dataclasses.replace(QUICK, steps=1, guidance=guidance)
    return painter.draw(read, imagined, settings).pictures


def test_guidance_one_is_the_conditional_model_and_zero_the_unconditional(painter, read, imagined):
    spec = painter.decoder.config.diffusion
    levels = spec.levels().log_snr_spaced(1)
    x = Draws([mix(c.seed, "decoder") for c in read.commissions]).normal(3, 64, 64)
    t = torch.full((3,), float(levels.t[0]))
    picture = imagined.embeddings * 16**0.5
    with torch.inference_mode():
        given, without = (
            painter.decoder(x, t, picture=picture, keep_picture=torch.full((3,), keep), caption=caption)
            for keep, caption in ((True, read.caption), (False, read.empty))
        )
    torch.testing.assert_close(one_step(painter, read, imagined, 1.0), given.clamp(-1, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        one_step(painter, read, imagined, 0.0), without.clamp(-1, 1), atol=1e-5, rtol=0
    )
    guided = (without + 3 * (given - without)).clamp(-1, 1)
    torch.testing.assert_close(one_step(painter, read, imagined, 3.0), guided, atol=1e-5, rtol=0)
    assert (guided.abs() == 1).any()
    assert (guided - given.clamp(-1, 1)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("condition", "guidance", "text_guidance", "weights"),
    [
        # Of the decoder's guesses: told both, the embedding alone, the words alone, nothing.
        ("clip", 3.0, None, (0, 3, 0, -2)),
        ("text", 3.0, None, (0, 0, 3, -2)),
        ("text", 1.0, None, (0, 0, 1, 0)),
        ("neither", 3.0, None, (0, 0, 0, 1)),
        ("both", 2.0, 2.0, (2, 0, 0, -1)),
        ("both", 3.0, 2.0, (2, 1, 0, -2)),
        ("both", 3.0, 0.0, (0, 3, 0, -2)),
        ("both", 1.0, 2.5, (2.5, -1.5, 0, 0)),
        ("both", 0.0, 2.0, (2, -2, 0, 1)),
    ],
)
def test_the_decoder_is_told_what_is_asked_each_at_its_own_guidance(
    painter, read, imagined, condition, guidance, text_guidance, weights
):
    spec = painter.decoder.config.diffusion
    x = Draws([mix(c.seed, "decoder") for c in read.commissions]).normal(3, 64, 64)
    t = torch.full((3,), float(spec.levels().log_snr_spaced(1).t[0]))
    picture = imagined.embeddings * 16**0.5
    with torch.inference_mode():
        guesses = [
            painter.decoder(x, t, picture=picture, keep_picture=torch.full((3,), keep), caption=caption)
            for keep in (True, False)
            for caption in (read.caption, read.empty)
        ]
    wanted = sum(w * guess for w, guess in zip(weights, guesses, strict=True)).clamp(-1, 1)
    settings = dataclasses.replace(
        QUICK, steps=1, condition=condition, guidance=guidance, text_guidance=text_guidance
    )
    torch.testing.assert_close(painter.draw(read, imagined, settings).pictures, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("condition", "guidance", "text_guidance", "weights"),
    [
        # Of the decoder's guesses: told what is asked for, the embedding alone, the negative prompt alone.
        ("both", 3.0, None, (3, 0, -2)),
        ("both", 3.0, 2.0, (2, 1, -2)),
        ("clip", 3.0, None, (0, 3, -2)),
        # Guidance of 1 leads away from nothing, and the prior's alone does.
        ("both", 1.0, None, (1, 0, 0)),
    ],
)
def test_what_the_decoder_is_led_away_from_is_the_negative_prompt(
    painter, read, imagined, condition, guidance, text_guidance, weights
):
    spec = painter.decoder.config.diffusion
    x = Draws([mix(c.seed, "decoder") for c in read.commissions]).normal(3, 64, 64)
    t = torch.full((3,), float(spec.levels().log_snr_spaced(1).t[0]))
    picture = imagined.embeddings * 16**0.5
    negative = painter.understand([Commission("two fish", c.seed) for c in read.commissions]).caption
    with torch.inference_mode():
        guesses = [
            painter.decoder(x, t, picture=picture, keep_picture=torch.full((3,), keep), caption=caption)
            for keep, caption in ((True, read.caption), (True, read.empty), (False, negative))
        ]
    wanted = sum(w * guess for w, guess in zip(weights, guesses, strict=True)).clamp(-1, 1)
    settings = dataclasses.replace(
        QUICK,
        steps=1,
        condition=condition,
        guidance=guidance,
        text_guidance=text_guidance,
        negative_prompt="two fish",
    )
    torch.testing.assert_close(painter.draw(read, imagined, settings).pictures, wanted, atol=2e-5, rtol=0)


def test_what_the_prior_is_led_away_from_is_the_negative_prompt(painter, read):
    settings = dataclasses.replace(
        QUICK, prior_guidance=2.5, prior_candidates=1, prior_steps=1, negative_prompt="two fish"
    )
    config, levels = painter.prior.config, painter.prior.config.diffusion.levels()
    negative = painter.understand([Commission("two fish", c.seed) for c in read.commissions]).caption
    x = Draws([mix(c.seed, "prior", 0) for c in read.commissions]).normal(config.embedding)
    t = torch.full((3,), float(levels.respace(1).t[0]))
    with torch.inference_mode():
        given, against = (
            painter.prior(x, t, tokens=c.tokens, caption=c.embedding, mask=c.mask)
            for c in (read.caption, negative)
        )
    by_hand = unit(against + 2.5 * (given - against))
    torch.testing.assert_close(painter.imagine(read, settings).embeddings, by_hand, atol=1e-5, rtol=1e-4)


def test_no_negative_prompt_is_an_empty_one_and_another_paints_another_picture(painter):
    def paint(**more):
        (image,) = painter.paint("a pear", size=64, settings=dataclasses.replace(QUICK, **more))
        return image.tobytes()

    plain = paint()
    assert paint(negative_prompt="") == plain
    assert paint(negative_prompt="two fish") != plain
    assert paint(negative_prompt="two fish") != paint(negative_prompt=LONG)


def test_a_negative_prompt_may_be_far_shorter_or_longer_than_the_prompt(painter):
    # Captions are read in lengths of 16 tokens, so these three come in two.
    long = f"{LONG} and {LONG}"
    assert 16 < len(painter.tokenizer.encode(long)) < painter.clip.config.text.context
    settings = dataclasses.replace(QUICK, guidance=2.0, prior_guidance=2.0, negative_prompt="two fish")
    together = painter.paint(["a pear", long], size=64, settings=settings)
    alone = [painter.paint(prompt, size=64, settings=settings)[0] for prompt in ("a pear", long)]
    assert nearly(together, alone)
    longer = dataclasses.replace(settings, negative_prompt=long)
    assert painter.paint("a pear", size=64, settings=longer)[0].tobytes() != alone[0].tobytes()


def test_a_picture_says_what_it_was_led_away_from(painter):
    def told(**more):
        settings = dataclasses.replace(QUICK, **more)
        return json.loads(painter.metadata(Commission("a pear", 0), size=64, settings=settings)["settings"])

    assert told(negative_prompt="two fish")["negative_prompt"] == "two fish"
    assert "negative_prompt" not in told()


def test_a_negative_prompt_of_which_cleaning_leaves_nothing_is_refused(painter):
    settings = dataclasses.replace(QUICK, negative_prompt="&nbsp;")
    with pytest.raises(ValueError, match=r"^negative_prompt is '&nbsp;', without a word"):
        painter.paint("a pear", settings=settings)


def test_nothing_is_imagined_for_a_decoder_that_is_not_told(painter, read):
    told = painter.imagine(read, dataclasses.replace(QUICK, condition="text"))
    torch.testing.assert_close(told.embeddings, read.embedding)
    assert dataclasses.replace(QUICK, condition="clip").imagining == "diffusion"


def test_without_guidance_nothing_depends_on_words_or_embedding(painter, read, imagined):
    ignorant = dataclasses.replace(QUICK, guidance=0.0)
    drawn = painter.draw(read, imagined, ignorant).pictures
    other = painter.understand([Commission("fire", c.seed) for c in read.commissions])
    elsewhere = dataclasses.replace(imagined, embeddings=-imagined.embeddings)
    torch.testing.assert_close(painter.draw(other, elsewhere, ignorant).pictures, drawn, atol=1e-5, rtol=0)
    moved = painter.draw(read, elsewhere, QUICK).pictures
    assert (moved - painter.draw(read, imagined, QUICK).pictures).abs().max() > 0.01


@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "ancestral"])
def test_every_sampler_draws_within_bounds_and_differently(painter, read, imagined, sampler):
    drawn = painter.draw(read, imagined, dataclasses.replace(QUICK, sampler=sampler, steps=4)).pictures
    assert torch.isfinite(drawn).all()
    assert float(drawn.abs().max()) <= 1
    others = {"dpm++", "ddim", "ancestral"} - {sampler}
    for other in others:
        theirs = painter.draw(read, imagined, dataclasses.replace(QUICK, sampler=other, steps=4)).pictures
        assert (drawn - theirs).abs().max() > 1e-3


# --- the upsampler -------------------------------------------------------------------------------


def test_the_upsampler_sees_what_a_file_would_hold(painter):
    """Pictures that round to the same 8-bit levels are enlarged to the same bits."""
    wanted = commissions("a pear", count=2, seed=0)
    exact = eight_bit(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    noisy = (exact + 0.4 / 127.5 * (torch.rand_like(exact) * 2 - 1)).clamp(-1, 1)
    ours = painter.enlarge(Drawn(commissions=wanted, pictures=exact), QUICK).pictures
    theirs = painter.enlarge(Drawn(commissions=wanted, pictures=noisy), QUICK).pictures
    assert torch.equal(ours, theirs)
    other = painter.enlarge(Drawn(commissions=wanted, pictures=-exact), QUICK).pictures
    assert (other - ours).abs().max() > 0.01


def test_large_pictures_in_small_batches_are_each_their_own(painter):
    wanted = commissions("a pear", count=5, seed=0)
    low = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = painter.enlarge(Drawn(commissions=wanted, pictures=low), QUICK).pictures
    for k in (0, 3, 4):
        alone = painter.enlarge(Drawn(commissions=wanted[k : k + 1], pictures=low[k : k + 1]), QUICK)
        torch.testing.assert_close(together[k], alone.pictures[0], atol=1e-4, rtol=0)


# --- to images -----------------------------------------------------------------------------------


def test_all_256_levels_survive_the_way_to_an_image():
    levels = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    picture = levels / 127.5 - 1
    assert np.array_equal(np.asarray(to_images(picture)[0])[..., 1], levels[0, 0].numpy())
    torch.testing.assert_close(eight_bit(picture), picture, atol=1e-6, rtol=0)
    beyond = torch.tensor([-3.0, 3.0]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert np.asarray(to_images(beyond)[0]).tolist() == [[[0] * 3, [255] * 3]]
