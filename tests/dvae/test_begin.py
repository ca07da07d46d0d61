"""The first vocabulary: the nearest of real places, in a linear layer."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from limner.dvae import DVae, DVaeConfig, begin_with, drawn_in
from limner.dvae.begin import spread

CONFIG = DVaeConfig(
    resolution=16, vocabulary=24, codebook=6, widths=(8, 16), blocks=1, poolings=1, stem=3, gain=0.5, patch=2
)


def dvae() -> DVae:
    torch.manual_seed(0)
    return DVae(CONFIG)


def drawings(count: int) -> Tensor:
    """Mostly one flat ground, as drawings are, with a patch of something on it."""
    stream = torch.Generator().manual_seed(1)
    pictures = torch.ones(count, 3, 16, 16)
    pictures[:, :, 4:12, 4:12] = torch.rand(count, 3, 8, 8, generator=stream) * 2 - 1
    return pictures


def places(model: DVae, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        features = model.encoder.features(drawn_in(pictures))
    return rearrange(features, "b c h w -> (b h w) c")


def test_every_word_is_in_use_from_the_start():
    model, x = dvae(), drawings(64)
    before = len(model.tokens(x).unique())
    begin_with(model, x, sharpness=6.0, seed=0)
    assert before < 12
    assert len(model.tokens(x).unique()) == 24


def test_words_are_the_nearest_of_real_places():
    model, x = dvae(), drawings(8)
    begin_with(model, x, sharpness=6.0, seed=0)
    features = places(model, x)
    # Undo the layer: its weight is s (c − mean), so each centre must be one of the places, up to the scale.
    weight = rearrange(model.encoder.out.weight.detach(), "k c 1 1 -> k c")
    centred = features - features.mean(dim=0)
    directions = torch.nn.functional.normalize(centred, dim=1)
    cosine = torch.nn.functional.normalize(weight, dim=1) @ directions.T
    best = cosine.max(dim=1)
    torch.testing.assert_close(best.values, torch.ones(24))
    centres = features[best.indices]
    nearest = torch.cdist(features, centres).argmin(dim=1)
    tokens = rearrange(model.tokens(x), "b h w -> (b h w)")
    assert (nearest == tokens).float().mean() > 0.99  # but for ties and rounding


def test_sharpness_is_the_spread_of_the_logits():
    x = drawings(8)
    for sharpness in (2.0, 6.0):
        model = dvae()
        begin_with(model, x, sharpness=sharpness, seed=0)
        spread_found = model.logits(x).detach().std(dim=-1).mean()
        assert float(spread_found) == pytest.approx(sharpness, rel=0.05)


def test_it_is_a_function_of_the_seed():
    x, models = drawings(8), [dvae(), dvae(), dvae()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        begin_with(model, x, sharpness=6.0, seed=seed)
    first, again, other = (model.encoder.out.weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_spread_rows_are_rows_and_differ():
    rows = torch.cat([torch.zeros(50, 2), torch.arange(12.0).reshape(6, 2)])
    found = spread(rows, 6, torch.Generator().manual_seed(0))
    assert len({tuple(row.tolist()) for row in found}) == 6
    assert all((rows == row).all(dim=1).any() for row in found)


def test_fewer_different_places_than_words_will_do():
    model, x = dvae(), torch.ones(4, 3, 16, 16)
    begin_with(model, x, sharpness=6.0, seed=0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_too_few_places_are_refused():
    with pytest.raises(ValueError, match="pictures: 16 places in them, too few for 24 words"):
        begin_with(dvae(), drawings(1), sharpness=6.0, seed=0)
