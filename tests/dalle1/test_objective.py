"""The loss in closed form: 1/8 and 7/8 of means over tokens."""

import math

import pytest
import torch

from limner.dalle1 import NOTHING, CaptionedTokens, token_objective
from limner.dalle1.model import Logits
from limner.dalle1.objective import cross_entropies, uniform_loss
from limner.draws import Draws


def test_uniform_loss_as_published():
    assert uniform_loss(16_384, 8192) == pytest.approx(9.0975567448)


def silent(tiny):
    """A model to which all tokens are alike."""
    model = tiny.model()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    return model


def test_a_model_that_knows_nothing_scores_the_baseline(tiny):
    loss = token_objective(drop_caption=0.0)(
        silent(tiny), CaptionedTokens(tiny.captions(5, 2), tiny.images(2)), Draws([1, 2])
    )
    assert loss.total.item() == pytest.approx(math.log(13) / 8 + 7 * math.log(17) / 8)
    assert loss.baseline == pytest.approx(loss.total.item())
    assert float(loss.report["text bits"]) == pytest.approx(math.log2(13))
    assert float(loss.report["image bits"]) == pytest.approx(math.log2(17))


def test_a_baseline_that_has_counted(tiny):
    batch = CaptionedTokens(tiny.captions(5), tiny.images(1))
    loss = token_objective(drop_caption=0.0, baseline=1.25)(tiny.model(), batch, Draws([1]))
    assert loss.baseline == 1.25


def test_means_are_over_tokens_not_over_captions_or_positions(tiny):
    text, image = tiny.captions(5, 1, 0), tiny.images(3)
    generator = torch.Generator().manual_seed(0)
    logits = Logits(torch.randn(3, 5, 13, generator=generator), torch.randn(3, 16, 17, generator=generator))
    in_text, in_image = cross_entropies(logits, text, image)
    shares = logits.text.log_softmax(-1)
    by_hand = [-shares[0, j, text[0, j]] for j in range(5)] + [-shares[1, 0, text[1, 0]]]
    torch.testing.assert_close(in_text, torch.stack(by_hand).mean())
    picked = logits.image.log_softmax(-1).gather(2, image[..., None])
    torch.testing.assert_close(in_image, -picked.mean())


def test_the_total_is_one_eighth_and_seven_eighths(tiny):
    model, batch = tiny.model(), CaptionedTokens(tiny.captions(5, 2), tiny.images(2))
    loss = token_objective(drop_caption=0.0)(model, batch, Draws([1, 2]))
    text, image = cross_entropies(model(batch.text, batch.image), batch.text, batch.image)
    torch.testing.assert_close(loss.total, text / 8 + 7 * image / 8)


def test_dropped_captions_are_padding_and_the_batch_stays_as_it_was(tiny):
    """The defect that this guards against: dropping that overwrites the caller's captions."""
    model, batch = tiny.model(), CaptionedTokens(tiny.captions(5, 2), tiny.images(2))
    kept = batch.text.clone()
    loss = token_objective(drop_caption=1.0)(model, batch, Draws([1, 2]))
    assert torch.equal(batch.text, kept)
    nothing = torch.full_like(batch.text, NOTHING)
    _, image = cross_entropies(model(nothing, batch.image), nothing, batch.image)
    torch.testing.assert_close(loss.total, 7 * image / 8)
    assert float(loss.report["text bits"]) == 0


def test_dropped_by_chance_as_often_as_asked(tiny):
    model, count = tiny.model("row"), 64
    seen = []
    model.register_forward_pre_hook(lambda _module, args: seen.append((args[0] == NOTHING).all(dim=1)))
    batch = CaptionedTokens(tiny.captions(*[5] * count), tiny.images(count))
    with torch.no_grad():
        for step in range(8):
            token_objective(drop_caption=0.25)(model, batch, Draws.for_step(0, step, range(count)))
    share = torch.cat(seen).double().mean()
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / (8 * count))


def test_learning_beats_the_baseline(tiny):
    """Two captions, two pictures: which is which is all there is to know."""
    model = tiny.model().float()
    batch = CaptionedTokens(tiny.captions(5, 3), tiny.images(2))
    objective = token_objective(drop_caption=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(60):
        loss = objective(model, batch, Draws.for_step(0, step, range(2)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.total.item() < 0.1 * loss.baseline
