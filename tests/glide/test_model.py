"""GLIDE's networks: what they see, in which order, and what they begin as."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.glide import (
    Glide,
    GlideConfig,
    Known,
    PicturesAndCaptions,
    TextEncoderConfig,
    erased,
    filtered,
    filtered_upsampler,
    glide_objective,
    mending,
    paper,
    read_ids,
)
from limner.glide.masks import ALL
from limner.layers.corruptions import blurred
from limner.layers.patch_transformer import PatchTransformerConfig
from limner.layers.unet import UNetConfig
from limner.text import PADDING

UNET = UNetConfig(
    in_channels=3,
    out_channels=6,
    channels=32,
    depth=1,
    multipliers=(1, 2),
    attention=(2,),
    head_width=16,
    context_width=24,
    scale_shift=True,
    dropout=0.0,
    patch=1,
    canvas=0,
)
BASE = GlideConfig(
    resolution=16,
    low=None,
    inpaint=False,
    text=TextEncoderConfig(context=6, vocabulary=40, width=24, layers=1, heads=2, condition_width=128),
    backbone=UNET,
    diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=True),
)
CANVAS = replace(BASE, backbone=replace(UNET, patch=2, attention=(1, 2), canvas=3))
TRANSFORMER = replace(
    BASE,
    text=replace(BASE.text, condition_width=32),
    backbone=PatchTransformerConfig(
        resolution=16,
        in_channels=3,
        out_channels=6,
        patch=4,
        width=32,
        layers=3,
        heads=4,
        context_width=24,
    ),
)
UPSAMPLER = replace(BASE, resolution=32, low=16, backbone=replace(UNET, in_channels=6))
CONFIGS = {"base": BASE, "canvas": CANVAS, "transformer": TRANSFORMER, "upsampler": UPSAMPLER}
IDS = torch.tensor([[3, 9, 4, PADDING, PADDING, PADDING], [7, 8, PADDING, PADDING, PADDING, PADDING]])
EMPTY = torch.full_like(IDS, PADDING)


def shaken(config: GlideConfig) -> Glide:
    """With weights as training might leave them: nothing is zero any more."""
    torch.manual_seed(0)
    model = Glide(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return model


def inputs(config: GlideConfig) -> dict[str, Tensor]:
    ids, mask = read_ids(IDS)
    side = config.resolution
    given = {"x": torch.randn(2, 3, side, side), "t": torch.tensor([10.0, 900.0]), "ids": ids, "mask": mask}
    return given if config.low is None else given | {"low": torch.rand(2, 3, config.low, config.low) * 2 - 1}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@torch.no_grad()
def test_captions_matter_and_are_read_once(config):
    model, given = shaken(config), inputs(config)
    out = model(**given)
    assert out.shape == (2, 6, config.resolution, config.resolution)
    caption = model.read(given.pop("ids"), given.pop("mask"))
    assert torch.equal(model.predict(**given, caption=caption), out)
    other = model.read(*read_ids(EMPTY))
    assert (model.predict(**given, caption=other) - out).abs().max() > 1e-3
    # An empty caption is padding throughout: nothing of any id is in it.
    ids, mask = read_ids(EMPTY)
    again = model.read(ids + 5, mask)
    assert torch.equal(again.pooled, other.pooled)
    assert all(torch.equal(one, two) for one, two in zip(again.rows, other.rows, strict=True))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("patch", [1, 2])
@torch.no_grad()
def test_a_network_that_mends_begins_as_the_one_it_was(config, patch):
    config = replace(config, backbone=replace(config.backbone, patch=patch))
    base, given = shaken(config), inputs(config)
    model = mending(base).eval()
    assert model.config.inpaint
    assert model.config.backbone.in_channels == config.backbone.in_channels + 4
    known = Known(torch.rand_like(given["x"]), torch.ones_like(given["x"][:, :1]))
    torch.testing.assert_close(model(**given, known=known), base(**given), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(**given), base(**given), atol=1e-5, rtol=1e-5)
    # All of what is new, and nothing else, is zero.
    new = model.state_dict()["backbone.stem.weight"] == 0
    assert int(new.all(dim=(0, 2, 3)).sum()) == 4 * patch**2
    with pytest.raises(ValueError, match="base: this network sees what is known already"):
        mending(model)


@torch.no_grad()
def test_what_is_unknown_is_not_seen_and_what_is_known_is():
    model = mending(shaken(BASE)).eval()
    torch.nn.init.normal_(model.backbone.stem.weight, std=0.1)
    given, pictures = inputs(BASE), torch.rand(2, 3, 16, 16)
    mask = torch.ones(2, 1, 16, 16)
    mask[:, :, :8] = 0
    changed = pictures.clone()
    changed[:, :, :8] += 1
    out = model(**given, known=Known(pictures, mask))
    assert torch.equal(model(**given, known=Known(changed, mask)), out)
    assert not torch.allclose(model(**given, known=Known(changed, 1 - mask)), out, atol=1e-3)
    nothing = Known(pictures, torch.zeros_like(mask))
    assert torch.equal(model(**given, known=nothing), model(**given))


def test_published_sizes():
    with torch.device("meta"):
        for config, base, mends in (
            (filtered(), 385_030_726, 385_037_638),
            (filtered_upsampler(), 398_361_286, 398_368_198),
            (paper(), 3_554_414_086, None),
        ):
            model = Glide(config)
            assert sum(p.numel() for p in model.parameters()) == base
            if mends is not None:
                wider = replace(
                    config,
                    inpaint=True,
                    backbone=replace(config.backbone, in_channels=config.backbone.in_channels + 4),
                )
                assert sum(p.numel() for p in Glide(wider).parameters()) == mends


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"backbone.in_channels: 3, but this network sees 7"):
        replace(BASE, inpaint=True)
    with pytest.raises(ValueError, match=r"backbone.context_width: 24, where the other part has 32"):
        replace(BASE, text=replace(BASE.text, width=32))
    with pytest.raises(ValueError, match="low: an upsampler enlarges a small picture, and needs it"):
        Glide(UPSAMPLER)(**{k: v for k, v in inputs(UPSAMPLER).items() if k != "low"})
    with pytest.raises(ValueError, match="low: this network paints from noise alone"):
        Glide(BASE)(**inputs(BASE), low=torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="known: this network was not trained to mend"):
        Glide(BASE)(**inputs(BASE), known=Known(torch.zeros(2, 3, 16, 16), torch.ones(2, 1, 16, 16)))


# --- what is erased, and the loss ----------------------------------------------------------------


def test_something_is_always_erased_and_sometimes_everything():
    mask = erased(Draws(range(600)), 32)
    assert mask.shape == (600, 1, 32, 32)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    share = 1 - mask.mean(dim=(1, 2, 3))
    assert share.min() > 0
    assert (share == 1).float().mean().item() == pytest.approx(ALL, abs=0.06)
    assert 0.2 < share[share < 1].mean() < 0.6
    assert torch.equal(erased(Draws([7]), 32)[0], mask[7])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_loss_is_learned_from_and_the_variance_with_it(config):
    torch.manual_seed(0)
    model = mending(Glide(config))
    objective = glide_objective(drop_caption=0.3)
    side = config.resolution
    batch = PicturesAndCaptions(torch.rand(2, 3, side, side) * 2 - 1, IDS)
    first = objective(model, batch, Draws([1, 2]))
    assert first.total.item() == pytest.approx(1.0, abs=0.2)  # it begins by saying that there is no noise
    first.total.backward()
    noise, variance = model.backbone.head.weight.grad.chunk(2)
    assert noise.abs().max() > 0
    assert variance.abs().max() > 0
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for step in range(100):
        optimizer.zero_grad()
        loss = objective(model, batch, Draws.for_step(0, step, range(2))).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])


def test_a_dropped_caption_is_the_empty_one(monkeypatch):
    model, seen = Glide(BASE), []
    read = model.text.forward
    monkeypatch.setattr(model.text, "forward", lambda ids, mask: seen.append(mask) or read(ids, mask))
    batch = PicturesAndCaptions(torch.zeros(2, 3, 16, 16), IDS)
    for share in (0.0, 1.0):
        glide_objective(drop_caption=share)(model, batch, Draws([1, 2]))
    assert torch.equal(seen[0], IDS != PADDING)
    assert not seen[1].any()


def test_half_of_the_small_pictures_are_blurred(monkeypatch):
    torch.manual_seed(0)
    model, seen = Glide(UPSAMPLER), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, low, **k: seen.append(low) or forward(*a, low=low, **k))
    rows, side = 40, UPSAMPLER.resolution
    pictures = torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = PicturesAndCaptions(pictures, IDS[:1].expand(rows, -1))
    with torch.no_grad():
        glide_objective(drop_caption=0.2, blur=0.6)(model, batch, Draws(range(rows)))
        glide_objective(drop_caption=0.2)(model, batch, Draws(range(rows)))
    sharp = torch.nn.functional.avg_pool2d(pictures, side // UPSAMPLER.low)
    soft = blurred(sharp, 0.6)
    is_sharp, is_soft = ((seen[0] == one).flatten(1).all(dim=1) for one in (sharp, soft))
    assert (is_sharp ^ is_soft).all()
    assert 10 <= is_soft.sum() <= 30
    assert torch.equal(seen[1], sharp)
