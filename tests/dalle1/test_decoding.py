"""Decoding from caches equals recomputing; every token is guided; pictures keep to themselves."""

import itertools

import pytest
import torch
from torch import Tensor

from limner.autoregression import Sampling, choose
from limner.dalle1 import NOTHING, cache_bytes, sample, stream
from limner.dalle1.caches import ColumnCache, ConvolutionCache, RowCache, caches
from limner.dalle1.decoding import ImageReader, guided_reader
from limner.draws import Draws

PLAIN = Sampling()
PATTERNS = [("row",), ("column",), ("convolution",), ("dense",), ("row", "column", "dense", "convolution")]


def every_answer(reader, image: Tensor, given: int) -> Tensor:
    """Logits of each image token from `given` on, the tokens before them being those of `image`."""
    with torch.no_grad():
        answers = [reader.read(image[:, :given])]
        answers += [reader.read(image[:, p : p + 1]) for p in range(given, image.shape[1] - 1)]
    return torch.stack(answers, dim=1)


@pytest.mark.parametrize("given", [0, 1, 4, 7, 12, 15])
@pytest.mark.parametrize("pattern", PATTERNS, ids="+".join)
def test_cached_logits_are_the_models(tiny, pattern, given):
    model, text, image = tiny.model(*pattern), tiny.captions(5, 2, 0), tiny.images(3)
    with torch.no_grad():
        expected = model(text, image).image
    torch.testing.assert_close(every_answer(ImageReader(model, text), image, given), expected[:, given:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_the_dtype_of_the_weights(tiny, dtype):
    model, text, image = tiny.model().to(dtype), tiny.captions(5, 2), tiny.images(2)
    reader = ImageReader(model, text)
    found = every_answer(reader, image, 0)
    assert found.dtype == dtype
    with torch.no_grad():
        expected = model(text, image).image
    near = 1e-4 if dtype == torch.float32 else 0.3
    torch.testing.assert_close(found, expected, atol=near, rtol=near)
    assert {cache.near.dtype for cache in reader.stack.caches if hasattr(cache, "near")} == {dtype}


@pytest.mark.parametrize("pattern", PATTERNS, ids="+".join)
def test_causality_in_the_cached_path(tiny, pattern):
    model, text, image = tiny.model(*pattern), tiny.captions(5), tiny.images(1)
    before = every_answer(ImageReader(model, text), image, 0)
    for p in range(tiny.config.image - 1):
        changed = image.clone()
        changed[0, p] = (image[0, p] + 1) % tiny.config.image_vocabulary
        after = every_answer(ImageReader(model, text), changed, 0)
        assert torch.equal(after[:, : p + 1], before[:, : p + 1])
        assert (after[:, p + 1] - before[:, p + 1]).abs().max() > 1e-9


@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("given", [0, 8])
def test_guidance_is_the_formula_at_every_token(tiny, scale, given):
    model, text, image = tiny.model(), tiny.captions(5, 3), tiny.images(2)
    found = every_answer(guided_reader(model, text, scale), image, given)
    with torch.no_grad():
        told = model(text, image).image[:, given:]
        untold = model(torch.full_like(text, NOTHING), image).image[:, given:]
    torch.testing.assert_close(found, untold + scale * (told - untold))
    assert ((found - told).abs().amax(dim=-1) > 1e-6).all()


@pytest.mark.parametrize("pattern", PATTERNS, ids="+".join)
def test_another_caption_is_heard_at_every_token(tiny, pattern):
    """The defect that this guards against: guidance that acts on the first token only."""
    model, image = tiny.model(*pattern), tiny.images(1)
    one = every_answer(guided_reader(model, tiny.captions(4), 3.0), image, 0)
    other = every_answer(guided_reader(model, tiny.captions(4, seed=9), 3.0), image, 0)
    assert ((one - other).abs().amax(dim=-1) > 1e-6).all()
    # And it is the caption's half that hears it.
    for scale, heard in ((0.0, False), (1.0, True)):
        one = every_answer(guided_reader(model, tiny.captions(4), scale), image, 0)
        other = every_answer(guided_reader(model, tiny.captions(4, seed=9), scale), image, 0)
        assert torch.equal(one, other) != heard


def painted(
    tiny, text: Tensor, seeds: list[int], guidance: float = 2.0, prefix: Tensor | None = None
) -> Tensor:
    return sample(tiny.model(), text, draws=Draws(seeds), sampling=PLAIN, guidance=guidance, prefix=prefix)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_picture_is_the_same_alone_and_among_others(tiny, guidance):
    text, seeds = tiny.captions(5, 2, 0, 3), [11, 12, 13, 11]
    together = painted(tiny, text, seeds, guidance)
    assert together.shape == (4, 4, 4)
    for i, seed in enumerate(seeds):
        assert torch.equal(painted(tiny, text[i : i + 1], [seed], guidance)[0], together[i])
    assert not torch.equal(painted(tiny, text[:1], [14], guidance)[0], together[0])


def test_decoding_is_choosing_token_by_token_from_the_whole_model(tiny):
    model, text, sampling = tiny.model(), tiny.captions(5, 2), Sampling(temperature=0.8, top_k=9, top_p=0.9)
    found = sample(model, text, draws=Draws([1, 2]), sampling=sampling, guidance=1.0)
    draws, image = Draws([1, 2]), torch.zeros(2, 16, dtype=torch.int64)
    with torch.no_grad():
        for p in range(tiny.config.image):
            image[:, p] = choose(
                model(text, image).image[:, p], draws.gumbel(tiny.config.image_vocabulary), sampling
            )
    assert torch.equal(found.flatten(1), image)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_top_of_a_picture_is_kept_and_finished(tiny, rows):
    text = tiny.captions(5, 2)
    whole = painted(tiny, text, [1, 2])
    assert torch.equal(painted(tiny, text, [1, 2], prefix=whole[:, :rows]), whole)
    other = tiny.images(2).view(2, 4, 4)[:, :rows]
    finished = painted(tiny, text, [1, 2], prefix=other)
    assert torch.equal(finished[:, :rows], other)
    assert not torch.equal(finished[:, rows:], whole[:, rows:])


def test_tokens_stream_as_they_are_chosen(tiny):
    text = tiny.captions(5, 2)
    columns = stream(tiny.model(), text, draws=Draws([1, 2]), sampling=PLAIN, guidance=2.0)
    first = torch.stack(list(itertools.islice(columns, 5)), dim=1)
    assert torch.equal(first, painted(tiny, text, [1, 2]).flatten(1)[:, :5])


def test_a_step_reads_the_text_and_what_its_pattern_sees_and_no_more(tiny):
    row, column, _, convolution = caches(tiny.model(), 1)
    assert isinstance(row, RowCache)
    assert isinstance(column, ColumnCache)
    assert isinstance(convolution, ConvolutionCache)
    x = torch.zeros(1, 3, 6, 8, dtype=torch.float64)
    seen: dict[type, list[int]] = {}
    for cache in (row, column, convolution):
        cache.attend(x, x, x)
        place = cache.near.data_ptr()
        seen[type(cache)] = []
        for _ in range(16):
            near = cache.look(torch.zeros(1, 2, 3, 8, dtype=torch.float64))
            seen[type(cache)].append(near.shape[3] - 6)
        assert cache.near.data_ptr() == place == near.data_ptr()
        with pytest.raises(ValueError, match="all have been read"):
            cache.look(torch.zeros(1, 2, 3, 8, dtype=torch.float64))
    assert seen[RowCache] == [1, 2, 3, 4] + [5] * 12
    assert seen[ColumnCache] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert seen[ConvolutionCache] == [1, 2, 2, 3, 4] + [5] * 11


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_memory_of_a_sequence_is_known_beforehand(tiny, dtype):
    model, kept = tiny.model().to(dtype), 0
    for cache in caches(model, 2):
        storages = [t.untyped_storage() for t in vars(cache).values() if isinstance(t, Tensor)]
        kept += sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    assert 2 * cache_bytes(model.config, dtype) == kept


def test_the_door(tiny):
    model, text = tiny.model(), tiny.captions(5, 2)

    def asked(text: Tensor = text, prefix: Tensor | None = None, guidance: float = 1.0, seeds=(1, 2)):
        draws = Draws(list(seeds))
        return stream(model, text, draws=draws, sampling=PLAIN, guidance=guidance, prefix=prefix)

    with pytest.raises(ValueError, match=r"prefix: shape \(2, 1, 3\); give \(2, rows, 4\)"):
        asked(prefix=torch.zeros(2, 1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"prefix: shape \(1, 1, 4\); give \(2, rows, 4\)"):
        asked(prefix=torch.zeros(1, 1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="prefix: 4 rows of a picture of 4 leave nothing to paint"):
        asked(prefix=torch.zeros(2, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="prefix: ids 17 to 17, but this model knows 0 to 16"):
        asked(prefix=torch.full((2, 1, 4), 17))
    with pytest.raises(ValueError, match=r"text: shape \(2, 4\), but this model reads \(pictures, 5\)"):
        asked(text=text[:, :4])
    with pytest.raises(ValueError, match="text: id 13, but this model knows 13 tokens"):
        asked(text=torch.full((2, 5), 13))
    with pytest.raises(ValueError, match="guidance: nan; give a finite number"):
        asked(guidance=float("nan"))
    with pytest.raises(ValueError, match="draws: 1 streams for 2 rows"):
        asked(seeds=(1,))
    reader = ImageReader(model, text)
    reader.read(torch.zeros(2, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match="ids: 2 tokens after the first 0; go on one by one"):
        reader.read(torch.zeros(2, 2, dtype=torch.int64))
