"""DALL-E 1 with a tiny line of random weights: the pictures mean nothing, the rules are the real ones."""

import dataclasses
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner import checkpoint
from limner.autoregression import Sampling
from limner.clip import unit
from limner.dalle1 import NOTHING, cache_bytes, sample
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.pipelines import TokenSettings, rank
from limner.pipelines.dalle1 import DEVELOPED_AT_ONCE, PARTS, Dalle1, MemoryWarning, digest
from limner.pipelines.memory import SHARE, at_once, free_bytes, left_to_group
from limner.pipelines.pictures import open_picture, seen
from limner.pipelines.settings import Commission, candidates_for, commissions
from limner.pipelines.stages import Developed, Ranked, Read, Written, to_images
from limner.text import CutCaptionWarning
from limner.weights import shipped

LONG = "a large green fish"
PLAIN = TokenSettings()


@pytest.fixture(scope="module")
def painter(dalle1_line):
    return limner.load("dalle1", weights=dalle1_line)


@pytest.fixture
def copy(dalle1_line, tmp_path):
    return shutil.copytree(dalle1_line, tmp_path / "line")


def stages_of(painter, *arguments, **options):
    return list(painter.paint(*arguments, stages=True, **options))


def written(painter, prompt, **options):
    """All tokens of a prompt's candidates."""
    return stages_of(painter, prompt, **options)[1].tokens


def noise(side, *, mode="RGB", seed=0):
    channels = len(mode)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, channels), dtype=np.uint8)
    return Image.fromarray(pixels, mode)


# --- the whole -----------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_bytes(painter):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    once, again = (painter.paint("a pear", seed=3)[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert once.size == (32, 32)
    assert once.mode == "RGB"
    assert once.tobytes() == again.tobytes()


def test_stages_come_in_order_and_end_in_what_paint_returns(painter):
    settings = TokenSettings(candidates=3)
    read, wrote, developed, ranked = stages_of(
        painter, ["a pear", "two fish"], count=2, seed=9, settings=settings
    )
    assert isinstance(read, Read)
    assert isinstance(wrote, Written)
    assert isinstance(developed, Developed)
    assert isinstance(ranked, Ranked)
    wanted = commissions(["a pear", "two fish"], count=3, seed=9)
    assert all(stage.commissions == wanted for stage in (read, wrote, developed))
    assert read.ids.shape == (6, 23)
    assert wrote.tokens.shape == (6, 4, 4)
    assert developed.pictures.shape == (6, 3, 32, 32)
    assert ranked.pictures.shape == (4, 3, 32, 32)
    assert [c.prompt for c in ranked.commissions] == ["a pear"] * 2 + ["two fish"] * 2
    painted = painter.paint(["a pear", "two fish"], count=2, seed=9, settings=settings)
    assert [i.tobytes() for i in painted] == [i.tobytes() for i in ranked.images()]


def test_a_candidate_is_the_same_alone_and_among_others(painter):
    """Whatever stands beside it: more candidates, longer prompts, and however many are written at once."""
    prompts = ["a pear", LONG]
    together = written(painter, prompts, count=5, seed=7)
    # Unguided: led far enough, a model that was never trained says the same to everybody.
    plain = written(painter, prompts, count=5, seed=7, settings=TokenSettings(guidance=1.0))
    assert len({tuple(grid.flatten().tolist()) for grid in plain}) == 10
    for row, commission in enumerate(commissions(prompts, count=5, seed=7)):
        assert torch.equal(together[row], written(painter, commission.prompt, seed=commission.seed)[0])
    few = torch.cat([stage.tokens for stage in stages_of(painter, prompts, count=5, seed=7, at_once=2)[1::4]])
    assert torch.equal(few, together)
    guided = TokenSettings(guidance=3.0)
    both = written(painter, prompts, seed=7, settings=guided)
    assert torch.equal(both[1:], written(painter, LONG, seed=7, settings=guided))


def test_prompts_are_written_together_and_few_at_a_time_where_that_is_asked_for(painter):
    stages = stages_of(painter, ["a pear", "two fish", "a pear"], count=2, at_once=4)
    assert [type(stage) for stage in stages] == [Read, Written, Developed, Ranked] * 2
    assert [len(stage.commissions) for stage in stages[::4]] == [4, 2]
    # The same prompt twice is ranked twice, not mixed.
    assert torch.equal(stages[3].pictures[:2], stages[7].pictures)


def test_every_row_of_tokens_is_heard_of(painter):
    heard = []
    count = DEVELOPED_AT_ONCE + 1
    painter.paint("a pear", count=count, on_tick=heard.append)
    assert [tick.doing for tick in heard] == ["writing"] * 4 + ["developing"] * 2 + ["ranking"]
    assert {tick.total for tick in heard} == {6 * count}
    assert [tick.done for tick in heard[:4]] == [count * n for n in (1, 2, 3, 4)]
    assert heard[-1].done == heard[-1].total


def test_refusals_come_at_the_call_not_at_the_first_stage(painter):
    for arguments, message in (
        ({"prompts": ""}, "^prompt is ''"),
        ({"prompts": "a pear", "size": 64}, r"^size is 64: choose 32 \(pixels a side\)"),
        ({"prompts": "a pear", "count": 0}, "^count is 0"),
        (
            {"prompts": "a pear", "count": 4, "settings": TokenSettings(candidates=3)},
            "^candidates is 3, fewer than the 4 pictures wanted: give at least 4",
        ),
        ({"prompts": "a pear", "at_once": 0}, "^at_once is 0: give at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            painter.paint(**arguments, stages=True)


@pytest.mark.filterwarnings("ignore::limner.text.UnknownCharacterWarning")
def test_what_a_file_says_of_a_picture_paints_it_again(painter):
    settings = TokenSettings(candidates=8, temperature=0.9, top_k=30, top_p=0.95, guidance=2.0)
    ranked = stages_of(painter, "a pear, 梨", count=2, seed=20, settings=settings)[-1]
    for commission, image, score in zip(
        ranked.commissions, ranked.images(), ranked.scores.tolist(), strict=True
    ):
        metadata = painter.metadata(commission, settings=settings, score=score)
        assert metadata["model"] == "dalle1"
        assert metadata["weights"] == painter.digest
        assert metadata["limner"] == limner.__version__
        assert float(metadata["score"]) == pytest.approx(score, abs=1e-4)
        told = json.loads(metadata["settings"])
        assert told.pop("size") == 32
        again = painter.paint(metadata["prompt"], seed=int(metadata["seed"]), settings=TokenSettings(**told))
        assert again[0].tobytes() == image.tobytes()


# --- the words -----------------------------------------------------------------------------------


def test_words_become_ids_and_nothing_behind_their_end(painter):
    ids = painter.read(commissions(["a pear", LONG], count=1, seed=0)).ids
    for row, prompt in zip(ids.tolist(), ["a pear", LONG], strict=True):
        own = painter.tokenizer.encode(prompt)
        assert row == own + [NOTHING] * (23 - len(own))


def test_a_prompt_longer_than_the_context_is_cut_with_one_warning_that_says_what_was_cut(painter):
    with pytest.warns(CutCaptionWarning, match="pear") as heard:
        painter.read([Commission("x " * 30 + "pear", seed) for seed in range(3)])
    assert len(heard) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        painter.read([Commission("a pear", 0)])


# --- the tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.7, top_k=5), Sampling(temperature=1.3, top_p=0.6)]
)
def test_tokens_are_those_of_the_transformer_with_these_settings(painter, guidance, sampling):
    settings = TokenSettings(
        guidance=guidance, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p
    )
    read = painter.read(commissions(["a pear", LONG], count=2, seed=5))
    by_hand = sample(
        painter.transformer,
        read.ids,
        draws=Draws([mix(c.seed, "dalle1") for c in read.commissions]),
        sampling=sampling,
        guidance=guidance,
    )
    assert torch.equal(painter.write(read, settings).tokens, by_hand)


def test_guidance_changes_the_picture_and_without_any_the_words_do_not(painter):
    def tokens(prompt, guidance):
        return written(painter, prompt, count=4, settings=TokenSettings(guidance=guidance))

    assert not torch.equal(tokens("a pear", 1.0), tokens("a pear", 4.0))
    assert not torch.equal(tokens("a pear", 1.0), tokens(LONG, 1.0))
    assert torch.equal(tokens("a pear", 0.0), tokens(LONG, 0.0))


def test_pictures_are_those_of_the_dvae_whatever_their_number(painter):
    count = DEVELOPED_AT_ONCE + 3
    developed = stages_of(painter, "a pear", count=count)[2]
    together = painter.dvae.decode(developed.tokens)
    torch.testing.assert_close(developed.pictures, together, atol=1e-5, rtol=0)
    assert float(developed.pictures.abs().max()) <= 1
    assert float(developed.pictures.std(dim=0).mean()) > 0.01


# --- the ranking ---------------------------------------------------------------------------------


def test_the_highest_scores_are_kept_best_first(painter):
    settings = TokenSettings(candidates=9)
    _, _, developed, ranked = stages_of(painter, ["a pear", LONG], count=3, seed=2, settings=settings)
    clip, tokenizer = painter.ranker, painter.ranker_tokenizer
    pictures = seen(developed.images(), 16)
    with torch.inference_mode():
        images = unit(clip.encode_image(pictures).pooled)
        words = unit(clip.encode_text(tokenizer(["a pear", LONG], 32)).pooled)
    by_hand = torch.stack([images[:9] @ words[0], images[9:] @ words[1]])
    assert by_hand.std(dim=1).min() > 1e-3
    best = by_hand.topk(3, dim=1)
    torch.testing.assert_close(ranked.scores, best.values.flatten(), atol=1e-5, rtol=0)
    rows = [row for prompt, row in enumerate(best.indices.tolist()) for row in [r + 9 * prompt for r in row]]
    assert ranked.commissions == tuple(developed.commissions[row] for row in rows)
    assert torch.equal(ranked.tokens, developed.tokens[rows])
    assert torch.equal(ranked.pictures, developed.pictures[rows])
    assert (best.indices[:, 0] != 0).any()


def test_more_candidates_are_never_worse(painter):
    best = [
        stages_of(painter, "a pear", settings=TokenSettings(candidates=n))[-1].scores.item()
        for n in (1, 4, 16)
    ]
    assert best == sorted(best)
    assert best[0] < best[-1]


def test_a_picture_in_a_file_has_the_score_it_was_kept_for(painter, dalle1_line, tmp_path):
    ranked = stages_of(painter, "a pear", count=3)[-1]
    for number, image in enumerate(ranked.images()):
        image.save(tmp_path / f"{number}.png")
    files = [open_picture(tmp_path / f"{number}.png") for number in range(3)]
    assert rank("a pear", files, weights=dalle1_line) == pytest.approx(ranked.scores.tolist(), abs=1e-5)
    # A CLIP's own folder does as well as a line's.
    assert rank("a pear", files, weights=dalle1_line / "clip") == rank("a pear", files, weights=dalle1_line)


def test_ranking_takes_any_picture_and_refuses_none(dalle1_line):
    many = [noise(20, seed=k) for k in range(70)]
    wide, clear = noise(40).crop((0, 0, 40, 10)), Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    scores = rank("a pear", [*many, wide, clear, Image.new("L", (16, 16), 255)], weights=dalle1_line)
    assert scores[:2] == pytest.approx(rank("a pear", many[:2], weights=dalle1_line), abs=1e-5)
    assert scores[-2] == pytest.approx(scores[-1], abs=1e-6)
    with pytest.raises(ValueError, match=r"^images is empty: give at least one picture"):
        rank("a pear", [], weights=dalle1_line)
    with pytest.raises(ValueError, match=r"^prompt is '  '"):
        rank("  ", many, weights=dalle1_line)


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "words.png").write_text("a pear")
    noise(32).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    with pytest.raises(LimnerError, match=r"^no picture at .*/none\.png: give the path of a PNG"):
        open_picture(tmp_path / "none.png")
    for name in ("words.png", "cut.png"):
        with pytest.raises(LimnerError, match=rf"^cannot read .*/{name} as a picture \(.*\): give"):
            open_picture(tmp_path / name)


# --- partial pictures ----------------------------------------------------------------------------


def test_a_picture_grows_row_by_row_into_the_one_that_is_painted(painter):
    settings = TokenSettings(guidance=2.0, temperature=0.8)
    _, wrote, developed, _ = stages_of(painter, "a pear", seed=4, settings=settings)
    partials = list(painter.stream("a pear", seed=4, settings=settings))
    assert [partial.rows for partial in partials] == [1, 2, 3, 4]
    for partial in partials:
        assert torch.equal(partial.tokens, wrote.tokens[0, : partial.rows])
        assert partial.commission == Commission("a pear", 4)
        assert partial.picture.shape == (3, 32, 32)
        finished = painter.dvae.decode(partial.tokens[None])[0]
        torch.testing.assert_close(partial.picture[:, : 8 * partial.rows], finished)
        assert (partial.picture[:, 8 * partial.rows :] == 1).all()
    assert partials[-1].image().tobytes() == developed.images()[0].tobytes()


def test_odds_are_those_that_the_whole_model_gives_each_token(painter):
    settings = TokenSettings(guidance=2.0, temperature=0.8, top_k=3)
    *_, last = painter.stream("a pear", seed=4, settings=settings)
    ids, tokens = painter.read(commissions("a pear", count=1, seed=4)).ids, last.tokens.flatten()[None]
    with torch.no_grad():
        told = painter.transformer(ids, tokens).image
        untold = painter.transformer(torch.full_like(ids, NOTHING), tokens).image
    shares = ((untold + 2 * (told - untold)) / 0.8).softmax(dim=-1)
    torch.testing.assert_close(last.odds.flatten(), shares[0].gather(1, tokens[0][:, None])[:, 0])
    likeliest = list(painter.stream("a pear", settings=TokenSettings(temperature=0.0)))[-1]
    assert (likeliest.odds == 1).all()


def test_a_stream_can_be_left_and_is_refused_at_the_call(painter):
    first = next(painter.stream("a pear"))
    assert first.rows == 1
    with pytest.raises(ValueError, match=r"^prompt is ''"):
        painter.stream("")
    with pytest.raises(ValueError, match=r"^candidates is 2: a stream is of one picture"):
        painter.stream("a pear", settings=TokenSettings(candidates=2))


# --- completing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "rows"), [(0.25, 1), (0.5, 2), (0.7, 3)])
def test_exactly_the_top_rows_are_kept(painter, keep, rows):
    image = noise(32)
    tokens = painter.dvae.tokens(seen([image], 32))[0]
    heard = []
    finished = painter.complete(
        image, "a pear", keep=keep, count=6, settings=TokenSettings(guidance=2.0), on_tick=heard.append
    )
    assert finished.tokens.shape == (6, 4, 4)
    assert torch.equal(finished.tokens[:, :rows], tokens[:rows].expand(6, rows, 4))
    below = {tuple(grid[rows:].flatten().tolist()) for grid in finished.tokens}
    assert len(below) > 1
    assert heard[-1].done == heard[-1].total == 6 * (4 - rows + 2)


def test_what_is_completed_is_ranked_and_each_is_the_same_alone(painter):
    image = noise(32, seed=1)
    best = painter.complete(image, LONG, keep=0.5, count=2, seed=3, settings=TokenSettings(candidates=6))
    every = painter.complete(image, LONG, keep=0.5, count=6, seed=3)
    assert torch.equal(best.tokens, every.tokens[:2])
    assert every.scores.tolist() == sorted(every.scores.tolist(), reverse=True)
    alone = painter.complete(image, LONG, keep=0.5, seed=best.commissions[0].seed)
    assert torch.equal(alone.tokens, best.tokens[:1])
    by_hand = sample(
        painter.transformer,
        painter.read([Commission(LONG, 3)]).ids,
        draws=Draws([mix(3, "dalle1")]),
        sampling=Sampling(),
        guidance=TokenSettings().guidance,
        prefix=painter.top(image, 0.5)[None],
    )
    rows = [c.seed for c in every.commissions]
    assert torch.equal(every.tokens[rows.index(3)], by_hand[0])


def test_square_pictures_of_other_sizes_are_brought_to_size(painter):
    image = noise(32)
    large = image.resize((64, 64), Image.Resampling.NEAREST)
    assert torch.equal(painter.top(large, 0.5), painter.top(image, 0.5))
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert torch.equal(painter.top(clear, 0.5), painter.top(Image.new("RGB", (32, 32), "white"), 0.5))


def test_what_cannot_be_completed_is_refused(painter):
    with pytest.raises(ValueError, match=r"^image is 32×16 pixels: give a square picture, such as 32×32"):
        painter.complete(noise(32).crop((0, 0, 32, 16)), "a pear", keep=0.5)
    for keep, message in (
        (0.1, r"^keep is 0\.1: of 4 rows of tokens none is kept; give 0\.25 to 0\.75"),
        (0.9, r"^keep is 0\.9: of 4 rows of tokens nothing is left to paint; give 0\.25 to 0\.75"),
        (0.0, r"^keep is 0\.0: give a share of the picture above 0 and below 1"),
        (1.0, r"^keep is 1\.0"),
        (float("nan"), r"^keep is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            painter.complete(noise(32), "a pear", keep=keep)
    with pytest.raises(ValueError, match=r"^candidates is 1, fewer than the 2"):
        painter.complete(noise(32), "a pear", keep=0.5, count=2, settings=TokenSettings(candidates=1))


# --- memory --------------------------------------------------------------------------------------


def test_more_at_once_than_fits_is_refused_with_how_many_do(painter):
    with pytest.raises(ValueError, match=r"^at_once is 10{12}, but (\d+) fit into memory: give at most \1"):
        painter.paint("a pear", at_once=10**12, stages=True)
    assert free_bytes(torch.device("cpu")) > 2**20


def test_a_container_may_have_less_than_its_machine(tmp_path):
    assert left_to_group(tmp_path) == []
    (tmp_path / "memory.current").write_text("700\n")
    for limit, left in (("max", []), ("1000", [300]), ("600", [0])):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert left_to_group(tmp_path) == left


def test_too_many_for_memory_are_written_in_turns_and_that_is_said(painter, monkeypatch):
    settings = TokenSettings(candidates=5)
    whole = painter.paint("a pear", count=2, settings=settings)
    each = painter.bytes_each(settings)
    monkeypatch.setattr("limner.pipelines.dalle1.free_bytes", lambda _: int(2.5 * each / SHARE))
    with pytest.warns(MemoryWarning, match="^of 5 pictures 2 fit into memory at once, so they are"):
        turns = painter.paint("a pear", count=2, settings=settings)
    assert [image.tobytes() for image in turns] == [image.tobytes() for image in whole]


def test_as_many_at_once_as_fit_into_four_fifths_of_what_is_free():
    assert at_once(None, most=32, each=100, free=1000) == 8
    assert at_once(None, most=4, each=100, free=1000) == 4
    assert at_once(8, most=4, each=100, free=1000) == 8
    with pytest.raises(ValueError, match=r"^at_once is 9, but 8 fit into memory: give at most 8"):
        at_once(9, most=4, each=100, free=1000)
    with pytest.raises(LimnerError, match=r"^0 pictures fit into memory: one takes 2\.0 GB .* 1\.0 GB free"):
        at_once(None, most=4, each=2 * 10**9, free=10**9)


def test_a_picture_takes_its_caches_and_guidance_takes_twice_that(painter):
    ignorant, alone, guided = (painter.bytes_each(TokenSettings(guidance=g)) for g in (0.0, 1.0, 3.0))
    assert ignorant == alone > cache_bytes(painter.transformer.config, torch.float32)
    assert guided == 2 * alone


# --- loading -------------------------------------------------------------------------------------


def test_weights_come_as_float32_ready_to_paint(painter, dalle1_line):
    assert isinstance(painter, Dalle1)
    assert painter.digest == digest(dalle1_line)
    assert len(painter.digest) == 12
    for network in (painter.transformer, painter.dvae, painter.ranker):
        assert not network.training
        for parameter in network.parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad


def test_the_digest_is_of_all_parts_and_the_words(copy, dalle1_line):
    assert digest(copy) == digest(dalle1_line)
    words = copy / "transformer" / "bpe.json"
    words.write_text(words.read_text() + "\n")
    assert digest(copy) != digest(dalle1_line)


def test_without_a_clip_of_its_own_the_one_that_ships_ranks(copy):
    try:
        theirs = shipped("dalle2") / "clip"
    except LimnerError:
        pytest.skip("this copy ships no weights")
    shutil.rmtree(copy / "clip")
    painter = Dalle1.load(copy)
    config, state = checkpoint.load(theirs, type(painter.ranker.config))
    assert painter.ranker.config == config
    assert torch.equal(painter.ranker.log_scale, state["log_scale"].float())


@pytest.mark.parametrize("part", [part for part in PARTS if part != "clip"])
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(LimnerError, match=f"line/{part}"):
        Dalle1.load(copy)


def test_missing_words_are_named(copy):
    (copy / "transformer" / "bpe.json").unlink()
    with pytest.raises(LimnerError, match=r"line/transformer/bpe\.json"):
        Dalle1.load(copy)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(LimnerError, match=r"no weights at .*/none: give a folder that holds transformer"):
        limner.load("dalle1", weights=tmp_path / "none")


def test_where_none_ship_the_command_that_trains_them_is_named():
    try:
        folder = shipped("dalle1")
    except LimnerError as error:
        said = str(error)
    else:
        pytest.skip(f"they ship in {folder}")
    assert "limner train dalle1 --size small --data DIR --dvae DVAE --out OUT" in said


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_part_is_named(copy, part):
    weights = copy / part / checkpoint.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(LimnerError, match=f"line/{part}/.*damaged"):
        Dalle1.load(copy)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"resolution": 64}, "the dvae's grid is 8 where 4 is needed"),
        ({"vocabulary": 48}, "the dvae's vocabulary is 48 where 32 is needed"),
    ],
)
def test_parts_of_different_families_are_refused(copy, painter, changed, message):
    config = dataclasses.replace(painter.dvae.config, **changed)
    checkpoint.save(copy / "dvae", type(painter.dvae)(config).state_dict(), config)
    with pytest.raises(LimnerError, match=message):
        Dalle1.load(copy)


def test_a_tokenizer_with_more_words_than_the_transformer_knows_is_refused(copy, painter):
    config = dataclasses.replace(painter.transformer.config, text_vocabulary=200)
    checkpoint.save(copy / "transformer", type(painter.transformer)(config).state_dict(), config)
    with pytest.raises(LimnerError, match=r"the tokenizer's vocab_size is \d+ where 200 is needed"):
        Dalle1.load(copy)


# --- to images -----------------------------------------------------------------------------------


def test_an_image_is_seen_as_it_was_saved():
    levels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(seen(to_images(levels), 16), levels, atol=1 / 255 + 1e-6, rtol=0)


def test_candidates_count_through_seeds_and_are_at_least_as_many_as_are_wanted():
    assert candidates_for("a pear", count=2, seed=5, of=3) == commissions("a pear", count=3, seed=5)
    assert candidates_for("a pear", count=2, seed=5, of=None) == commissions("a pear", count=2, seed=5)
    assert len(candidates_for(["a pear", "two fish"], count=1, seed=0, of=512)) == 1024
