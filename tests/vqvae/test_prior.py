"""The priors: no code sees itself or what follows, the cache changes nothing, conditions reach every code."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.autoregression import ClassifierFree, Sampling
from limner.draws import Draws
from limner.quantize import CodebookConfig
from limner.vqvae import (
    Above,
    CodePrior,
    CodePriorConfig,
    CodesAndCondition,
    PriorReader,
    VqVae,
    VqVae2,
    VqVae2Config,
    VqVaeConfig,
    draw_codes,
    paint,
    paint_two_levels,
    prior_objective,
)

CODES = 11
PLAIN = CodePriorConfig(codes=CODES, side=4, width=16, layers=2, heads=2, condition=None, above=None)
TOLD = replace(PLAIN, condition=5)
FINE = replace(PLAIN, condition=5, above=Above(codes=7, side=2, layers=1))
ROWS = 3


def made(config: CodePriorConfig) -> CodePrior:
    torch.manual_seed(0)
    prior = CodePrior(config).eval()
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.3)  # far from where training starts, so that everything shows
    return prior


def codes(rows: int = ROWS, side: int = 4, high: int = CODES, seed: int = 1) -> Tensor:
    return torch.randint(high, (rows, side, side), generator=torch.Generator().manual_seed(seed))


def condition(rows: int = ROWS, seed: int = 2) -> Tensor:
    drawn = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


def inputs(config: CodePriorConfig, rows: int = ROWS) -> dict[str, Tensor]:
    given = {} if config.condition is None else {"condition": condition(rows)}
    return given if config.above is None else given | {"above": codes(rows, 2, 7)}


every = pytest.mark.parametrize("config", [PLAIN, TOLD, FINE], ids=["plain", "told", "fine"])


@every
@given(place=st.integers(0, 15), other=st.integers(1, CODES - 1))
@settings(max_examples=12)
def test_no_code_sees_itself_or_what_follows(config, place, other):
    prior, ids = made(config), codes()
    logits = prior(ids, **inputs(config)).flatten(1, 2)
    changed = ids.flatten(1).clone()
    changed[:, place] = (changed[:, place] + other) % CODES
    again = prior(changed.reshape(ids.shape), **inputs(config)).flatten(1, 2)
    assert torch.equal(again[:, : place + 1], logits[:, : place + 1])
    for later in range(place + 1, 16):
        assert (again[:, later] - logits[:, later]).abs().max() > 1e-5


@every
def test_reading_on_equals_reading_anew(config):
    """Code by code from the cache, or several at first, against the whole grid in one pass."""
    prior, ids = made(config), codes()
    whole = prior(ids, **inputs(config)).flatten(1, 2)
    flat = ids.flatten(1)
    given = {"condition": None, "above": None} | inputs(config)
    told = prior.told(ROWS, keep=None, **given)
    for first in (0, 1, 5):
        reader = PriorReader(prior, told)
        with torch.no_grad():
            found = [reader.read(flat[:, :first])]
            found += [reader.read(flat[:, i : i + 1]) for i in range(first, 15)]
        assert torch.allclose(torch.stack(found, 1), whole[:, first:], atol=1e-4)


@pytest.mark.parametrize("config", [TOLD, FINE], ids=["told", "fine"])
def test_the_condition_reaches_every_code(config):
    prior, ids, given = made(config), codes(), inputs(config)
    logits = prior(ids, **given)
    again = prior(ids, **(given | {"condition": condition(seed=9)}))
    assert ((again - logits).abs().amax(dim=(0, 3)) > 1e-4).all()


def test_each_fine_code_knows_what_covers_it():
    """With nothing but the codes above to go by, the change stays where it was made, at first."""
    prior = made(replace(FINE, above=Above(codes=7, side=2, layers=0)))
    above = codes(1, 2, 7)
    told = prior.told(1, condition=None, keep=None, above=above)
    above[0, 1, 0] = (above[0, 1, 0] + 1) % 7
    again = prior.told(1, condition=None, keep=None, above=above)
    moved = (again - told).abs().amax(dim=(0, 2)).reshape(4, 4) > 0
    assert moved.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    whole = made(FINE)
    told = whole.told(1, condition=None, keep=None, above=above)
    above[0, 1, 0] = (above[0, 1, 0] + 1) % 7
    again = whole.told(1, condition=None, keep=None, above=above)
    assert ((again - told).abs().amax(dim=(0, 2)) > 1e-5).all()  # read together, all is known everywhere


def test_rows_without_their_condition_are_as_if_there_were_none():
    prior, ids = made(TOLD), codes()
    keep = torch.tensor([True, False, True])
    mixed = prior(ids, condition=condition(), keep=keep)
    assert torch.allclose(mixed[keep], prior(ids, condition=condition())[keep], atol=1e-5)
    assert torch.allclose(mixed[~keep], prior(ids)[~keep], atol=1e-5)
    assert not torch.allclose(mixed[~keep], prior(ids, condition=condition())[~keep], atol=1e-2)


def test_guidance_acts_on_every_code():
    """Logits are u + s (c - u) at each place, not at the first alone."""
    prior, ids = made(FINE), codes()
    above = inputs(FINE)["above"]
    with_, without = prior(ids, condition=condition(), above=above), prior(ids, above=above)
    known = prior.told(ROWS, condition=condition(), keep=None, above=above)
    free = prior.told(ROWS, condition=None, keep=None, above=above)
    reader = ClassifierFree(PriorReader(prior, torch.cat([known, free])), 3.0)
    flat = ids.flatten(1)
    with torch.no_grad():
        found = [reader.read(flat[:, :0])] + [reader.read(flat[:, i : i + 1]) for i in range(15)]
    expected = (without + 3 * (with_ - without)).flatten(1, 2)
    assert torch.allclose(torch.stack(found, 1), expected, atol=1e-3)
    assert ((expected - with_.flatten(1, 2)).abs().amax(dim=(0, 2)) > 1e-3).all()


def test_a_grid_depends_on_its_own_stream_alone():
    prior = made(PLAIN)
    among = draw_codes(prior, Draws([1, 2, 3, 4]), sampling=Sampling())
    assert torch.equal(draw_codes(prior, Draws([3]), sampling=Sampling())[0], among[2])
    assert not torch.equal(among[0], among[1])
    assert among.shape == (4, 4, 4)


def test_cold_draws_take_the_likeliest_all_along():
    prior = made(PLAIN)
    grid = draw_codes(prior, Draws([1]), sampling=Sampling(temperature=0.0))
    assert torch.equal(prior(grid).argmax(-1), grid)


def test_a_rule_is_learnt_and_kept_when_drawing():
    """Code i is i plus the first, and the condition says which is first: one bit of freedom without it."""
    config = replace(PLAIN, codes=8, side=3, width=32, condition=2)
    torch.manual_seed(0)
    prior, objective = CodePrior(config), prior_objective(drop_condition=0.3)
    optimizer = torch.optim.Adam(prior.parameters(), lr=5e-3)
    places = torch.arange(9).reshape(3, 3)
    for step in range(300):
        first = torch.arange(8) % 2 * 4
        given = CodesAndCondition((first[:, None, None] + places) % 8, torch.eye(2)[first // 4], None)
        loss = objective(prior, given, Draws.for_step(0, step, range(8)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    prior.eval()
    asked = torch.tensor([0, 1, 1, 0])
    drawn = draw_codes(
        prior, Draws([1, 2, 3, 4]), condition=torch.eye(2)[asked], scale=2.0, sampling=Sampling()
    )
    assert torch.equal(drawn, (4 * asked[:, None, None] + places) % 8)
    free = draw_codes(prior, Draws(list(range(40))), sampling=Sampling())
    firsts = free[:, 0, 0]
    assert set(firsts.tolist()) == {0, 4}
    assert torch.equal(free, (firsts[:, None, None] + places) % 8)


BOOK = CodebookConfig(codes=CODES, width=4, beta=0.25, average=None)


def test_new_pictures():
    torch.manual_seed(0)
    model = VqVae(VqVaeConfig(channels=8, hidden=4, blocks=1, halvings=2, codebook=BOOK))
    prior = made(TOLD)
    painted = paint(model, prior, Draws([1, 2]), condition=condition(2), scale=2.0, sampling=Sampling())
    assert painted.shape == (2, 3, 16, 16)
    ids = draw_codes(prior, Draws([1, 2]), condition=condition(2), scale=2.0, sampling=Sampling())
    assert torch.equal(painted, model.decode(ids))


def test_new_pictures_of_two_levels():
    torch.manual_seed(0)
    model = VqVae2(VqVae2Config(channels=8, hidden=4, blocks=1, codebook=BOOK))
    top, bottom = made(replace(TOLD, side=2)), made(replace(FINE, above=Above(codes=CODES, side=2, layers=1)))

    def painted(draws: Draws, **options) -> Tensor:
        return paint_two_levels(model, top, bottom, draws, sampling=Sampling(), **options)

    whole = painted(Draws([1, 2]), condition=condition(2))
    assert whole.shape == (2, 3, 16, 16)
    assert torch.allclose(painted(Draws([2]), condition=condition(2)[1:])[0], whole[1], atol=1e-5)
    # One stream serves both levels, but never with the same numbers.
    draws = Draws([1, 2])
    coarse = draw_codes(top, draws, condition=condition(2), sampling=Sampling())
    fine = draw_codes(bottom, draws, condition=condition(2), above=coarse, sampling=Sampling())
    assert torch.equal(whole, model.decode(type(model.encode(whole))(coarse, fine)))
    # Only the top was made to take a condition: it is enough.
    free = made(replace(bottom.config, condition=None))
    again = paint_two_levels(
        model, top, free, Draws([1, 2]), condition=condition(2), scale=2.0, sampling=Sampling()
    )
    assert again.shape == whole.shape
    alone = made(replace(top.config, condition=None))
    with pytest.raises(ValueError, match="condition: neither prior was made to take one"):
        paint_two_levels(model, alone, free, Draws([1]), condition=condition(1), sampling=Sampling())


def test_what_a_prior_cannot_read_is_refused():
    plain, fine = made(PLAIN), made(FINE)
    with pytest.raises(ValueError, match=r"ids: a grid \(2, 2\), but this prior writes 4×4"):
        plain(codes(side=2))
    with pytest.raises(ValueError, match=r"above: a grid \(4, 4\), but this prior reads 2×2"):
        fine(codes(), above=codes())
    with pytest.raises(ValueError, match="above: given to a prior that reads none, or missing"):
        fine(codes())
    with pytest.raises(ValueError, match="above: given to a prior that reads none, or missing"):
        plain(codes(), above=codes(side=2))
    with pytest.raises(ValueError, match="condition: given to a prior that was made without"):
        plain(codes(), condition=condition())
    with pytest.raises(ValueError, match=r"scale: 2\.0, but without a condition"):
        draw_codes(plain, Draws([1]), scale=2.0, sampling=Sampling())
    with pytest.raises(ValueError, match="side: 4 is not a multiple of the 3 codes above"):
        replace(PLAIN, above=Above(codes=7, side=3, layers=1))
