"""Reading on from a cache equals reading everything again; every token is guided; rows keep to themselves."""

import pytest
import torch
from torch import Tensor, nn

from limner.autoregression import CachedStack, ClassifierFree, DenseCache, Sampling, choose, decode, product
from limner.draws import Draws
from limner.layers.transformer import Transformer

PLAIN = Sampling()

VOCABULARY, LENGTH, WIDTH, HEADS = 11, 12, 24, 3


class Tiny(nn.Module):
    """A token model whose condition is its first row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(1 + LENGTH, WIDTH))
        self.stack = Transformer(width=WIDTH, layers=3, heads=HEADS, activation="gelu")
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, condition: Tensor, ids: Tensor) -> Tensor:
        x = torch.cat([condition[:, None], self.embed(ids)], dim=1) + self.positions[: 1 + ids.shape[1]]
        return self.head(self.stack(x, causal=True))


class TinyReader:
    def __init__(self, model: Tiny, condition: Tensor) -> None:
        self.model, self.condition, self.past = model, condition, 0
        self.stack = CachedStack.dense(model.stack, batch=len(condition), length=LENGTH)

    def read(self, ids: Tensor) -> Tensor:
        x = self.model.embed(ids)
        if self.past == 0:
            x = torch.cat([self.condition[:, None], x], dim=1)
        x = x + self.model.positions[self.past : self.past + x.shape[1]]
        self.past += x.shape[1]
        x = self.stack.step(x[:, 0]) if x.shape[1] == 1 else self.stack.read(x)[:, -1]
        return self.model.head(x)


class Recomputing:
    """What a reader should answer, the slow way."""

    def __init__(self, model: Tiny, condition: Tensor) -> None:
        self.model, self.condition = model, condition
        self.ids = torch.zeros(len(condition), 0, dtype=torch.int64)

    def read(self, ids: Tensor) -> Tensor:
        self.ids = torch.cat([self.ids, ids], dim=1)
        return self.model(self.condition, self.ids)[:, -1]


def conditions(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def some_ids(rows: int, columns: int, seed: int = 2) -> Tensor:
    return torch.randint(VOCABULARY, (rows, columns), generator=torch.Generator().manual_seed(seed))


def nothing(rows: int) -> Tensor:
    return torch.zeros(rows, 0, dtype=torch.int64)


@pytest.mark.parametrize("parts", [[11], [4, 7], [1] * 11, [2, 1, 3, 1, 4]])
@torch.no_grad()
def test_reading_in_parts_is_reading_at_once(parts):
    model, ids, condition = Tiny().double(), some_ids(2, LENGTH - 1), conditions(2).double()
    whole = model(condition, ids)
    reader, at = TinyReader(model, condition), 0
    torch.testing.assert_close(reader.read(nothing(2)), whole[:, 0])
    for part in ids.split(parts, dim=1):
        at += part.shape[1]
        torch.testing.assert_close(reader.read(part), whole[:, at])


@torch.no_grad()
def test_a_single_step_is_the_pass_of_many():
    model, x = Tiny(), torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    whole = model.stack(x, causal=True)
    many = CachedStack.dense(model.stack, batch=3, length=LENGTH)
    one = CachedStack.dense(model.stack, batch=3, length=LENGTH)
    torch.testing.assert_close(many.read(x), whole)
    steps = torch.stack([one.step(x[:, i]) for i in range(LENGTH)], dim=1)
    torch.testing.assert_close(steps, whole)
    for a, b in zip(many.caches, one.caches, strict=True):
        torch.testing.assert_close(a.rows, b.rows)


@pytest.mark.parametrize("given_", [0, 1, 5])
def test_decoding_is_choosing_from_the_recomputed_logits(given_):
    model, condition, prefix = Tiny().double(), conditions(3).double(), some_ids(3, given_)
    sampling = Sampling(temperature=0.9, top_k=8, top_p=0.95)
    found = torch.stack(
        list(
            decode(
                TinyReader(model, condition),
                prefix=prefix,
                length=LENGTH,
                draws=Draws([4, 5, 6]),
                sampling=sampling,
            )
        ),
        dim=1,
    )
    assert found.shape == (3, LENGTH - given_)
    draws, slow, ids = Draws([4, 5, 6]), Recomputing(model, condition), prefix
    noise = [draws.gumbel(VOCABULARY) for _ in range(LENGTH)]
    with torch.no_grad():
        for column in range(given_, LENGTH):
            logits = slow.read(ids if column == given_ else ids[:, -1:])
            chosen = choose(logits, noise[column], sampling)
            ids = torch.cat([ids, chosen[:, None]], dim=1)
    assert torch.equal(found, ids[:, given_:])


def decoded(seeds: list[int], condition: Tensor, scale: float | None = None) -> Tensor:
    model = Tiny()
    reader = TinyReader(model, condition)
    columns = decode(
        reader if scale is None else ClassifierFree(reader, scale),
        prefix=nothing(len(seeds)),
        length=LENGTH,
        draws=Draws(seeds),
        sampling=PLAIN,
    )
    return torch.stack(list(columns), dim=1)


def test_a_rows_tokens_are_its_own():
    condition = conditions(4)
    together = decoded([7, 8, 9, 7], condition)
    for i, seed in enumerate([7, 8, 9, 7]):
        assert torch.equal(decoded([seed], condition[i : i + 1])[0], together[i])
    assert len({tuple(row) for row in together[:3].tolist()}) == 3
    assert torch.equal(decoded([7, 7], condition[:1].expand(2, -1))[0], together[0])


class Watched:
    """A reader that keeps every answer."""

    def __init__(self, reader) -> None:
        self.reader, self.answers = reader, []

    def read(self, ids: Tensor) -> Tensor:
        self.answers.append(self.reader.read(ids))
        return self.answers[-1]


@torch.no_grad()
def test_guidance_is_the_formula_at_every_token():
    model, ids, scale = Tiny().double(), some_ids(2, LENGTH - 1), 2.5
    told, untold = conditions(2).double(), torch.zeros(2, WIDTH, dtype=torch.float64)
    guided = ClassifierFree(TinyReader(model, torch.cat([told, untold])), scale)
    answers = [guided.read(nothing(2)), *(guided.read(ids[:, i : i + 1]) for i in range(LENGTH - 1))]
    a, b = model(told, ids), model(untold, ids)
    torch.testing.assert_close(torch.stack(answers, dim=1), b + scale * (a - b))
    assert (torch.stack(answers, dim=1) - a).abs().amax(dim=(0, 2)).min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(("scale", "half"), [(1.0, 0), (0.0, 1)])
def test_scales_one_and_zero_are_the_two_readers(scale, half):
    model, ids = Tiny(), some_ids(2, 3)
    both = torch.cat([conditions(2), conditions(2, seed=9)])
    guided = ClassifierFree(TinyReader(model, both), scale).read(ids)
    assert torch.equal(guided, TinyReader(model, both).read(ids.repeat(2, 1)).chunk(2)[half])


def test_another_condition_is_heard_at_every_token():
    """The defect that this guards against: guidance that a cache takes away after the first token."""
    model, ids = Tiny(), some_ids(1, LENGTH - 1)
    untold = torch.zeros(1, WIDTH)

    def answers(condition: Tensor) -> Tensor:
        watched = Watched(ClassifierFree(TinyReader(model, torch.cat([condition, untold])), 3.0))
        with torch.no_grad():
            watched.read(nothing(1))
            for i in range(LENGTH - 1):
                watched.read(ids[:, i : i + 1])
        return torch.stack(watched.answers, dim=1)

    change = (answers(conditions(1)) - answers(conditions(1, seed=5))).abs().amax(dim=(0, 2))
    assert change.min() > 1e-3


def test_columns_come_one_by_one():
    model = Tiny()
    watched = Watched(TinyReader(model, conditions(2)))
    columns = decode(watched, prefix=nothing(2), length=LENGTH, draws=Draws([1, 2]), sampling=PLAIN)
    assert not watched.answers
    first = next(columns)
    assert first.shape == (2,)
    assert len(watched.answers) == 1
    list(columns)
    assert len(watched.answers) == LENGTH  # the last token is chosen and never read


def test_a_prefix_is_kept_and_the_rest_draws_the_same_numbers():
    model, condition = Tiny(), conditions(1)
    free = decoded([3], condition)
    columns = decode(
        TinyReader(model, condition), prefix=free[:, :5], length=LENGTH, draws=Draws([3]), sampling=PLAIN
    )
    assert torch.equal(torch.stack(list(columns), dim=1), free[:, 5:])


def test_the_door():
    model = Tiny()
    reader = TinyReader(model, conditions(2))
    with pytest.raises(ValueError, match="prefix: 12 of 12 tokens are given"):
        decode(reader, prefix=some_ids(2, LENGTH), length=LENGTH, draws=Draws([1, 2]), sampling=PLAIN)
    with pytest.raises(ValueError, match="draws: 1 streams for 2 rows"):
        decode(reader, prefix=nothing(2), length=LENGTH, draws=Draws([1]), sampling=PLAIN)
    with pytest.raises(ValueError, match="caches: 0 for 3 blocks"):
        CachedStack(model.stack, [])
    with pytest.raises(ValueError, match="rows: 2 more after 0, but there is room for 1"):
        CachedStack.dense(model.stack, batch=1, length=1).read(torch.zeros(1, 2, WIDTH))


def test_memory_is_reserved_once_in_the_dtype_asked_for():
    cache = DenseCache(batch=2, heads=3, length=5, size=4, dtype=torch.bfloat16, device=torch.device("cpu"))
    place = cache.rows.data_ptr()
    for _ in range(5):
        cache.step(torch.randn(2, 36).bfloat16())
    assert cache.rows.data_ptr() == place == cache.keys.data_ptr()
    assert cache.rows.dtype == torch.bfloat16
    assert cache.past == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3])
def test_product_is_the_linear_layer_for_one_row_and_for_more(dtype, rows):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((rows, 96), (64, 96), (64,)))
    found = product(x, weight, bias)
    assert found.shape == (rows, 64)
    exact = x.double() @ weight.double().T + bias.double()
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-4)
