"""Published counts, the sequence as drawn in the paper, and nobody sees the future."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from limner import checkpoint
from limner.dalle1 import NOTHING, Dalle1, Dalle1Config
from limner.dalle1.masks import mask
from limner.dalle1.model import paper


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_counts():
    with torch.device("meta"):
        model = Dalle1(paper())
    assert count(model) == 12_292_840_960
    assert count(model.transformer) == 12_095_479_808
    assert count(model.transformer) - 64 * 13 * 3968 == 12_092_178_432  # weights alone: 12·d²·L
    assert [tuple(model.head.weight.shape), tuple(model.head.bias.shape)] == [(24_576, 3968), (24_576,)]
    assert (len(model.padding), len(model.positions), len(model.rows), len(model.columns)) == (
        256,
        256,
        32,
        32,
    )


@torch.no_grad()
def test_the_sequence_through_masked_attention_is_the_model(tiny):
    """Everything by hand: figure 10's sequence, and the mask matrices instead of what skips them."""
    model, text, image = tiny.model(), tiny.captions(5, 2, 0), tiny.images(3)
    config = tiny.config
    rows = []
    for caption, codes in zip(text, image, strict=True):
        row = [model.start_of_text + model.positions[0]]
        for j, token in enumerate(caption.tolist(), start=1):
            padded = token == NOTHING
            row.append(model.padding[j] if padded else model.embed_text.weight[token] + model.positions[j])
        row.append(model.start_of_image)
        for p, token in enumerate(codes.tolist()[:-1]):
            row.append(model.embed_image.weight[token] + model.rows[p // 4] + model.columns[p % 4])
        rows.append(torch.stack(row))
    x = torch.stack(rows)
    assert x.shape[1] == config.text_context + config.image
    for block, kind in zip(model.transformer.blocks, config.pattern, strict=True):
        seen = mask(kind, text=config.text_context, grid=config.grid, kernel=config.kernel)

        def attend(q, k, v, seen=seen):
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)

        x = block(x, attend=attend)
    logits = model.head(model.norm(x))
    found = model(text, image)
    torch.testing.assert_close(found.text, logits[:, : config.caption, : config.text_vocabulary])
    torch.testing.assert_close(found.image, logits[:, config.text_context :, config.text_vocabulary :])


@pytest.mark.parametrize("kind", ["row", "column", "convolution", "dense"])
@torch.no_grad()
def test_no_logit_knows_its_token_or_a_later_one(tiny, kind):
    model, text, image = tiny.model(kind), tiny.captions(5), tiny.images(1)
    before = model(text, image)
    for p in range(tiny.config.image):
        changed = image.clone()
        changed[0, p] = (image[0, p] + 1) % tiny.config.image_vocabulary
        after = model(text, changed)
        assert torch.equal(after.text, before.text)
        assert torch.equal(after.image[:, : p + 1], before.image[:, : p + 1])
        if p + 1 < tiny.config.image:
            # Itself is in every pattern, so the next one knows; and in one layer, just who sees it.
            later = (after.image[0, p + 1 :] - before.image[0, p + 1 :]).abs().amax(-1) > 1e-9
            sees = mask(kind, text=0, grid=4, kernel=3)[p + 1 :, p + 1]
            assert torch.equal(later, sees)
    for j in range(tiny.config.caption):
        changed = text.clone()
        changed[0, j] = (text[0, j] + 1) % tiny.config.text_vocabulary
        after = model(changed, image)
        assert torch.equal(after.text[:, : j + 1], before.text[:, : j + 1])
        assert ((after.text[0, j + 1 :] - before.text[0, j + 1 :]).abs().amax(-1) > 1e-9).all()
        assert ((after.image - before.image).abs().amax(-1) > 1e-9).all()


@torch.no_grad()
def test_padding_is_seen_and_each_position_has_its_own(tiny):
    model, image = tiny.model(), tiny.images(1)
    text = tiny.captions(2)  # tokens at positions 1 and 2, padding at 3, 4 and 5
    before = model(text, image)
    for position in range(tiny.config.text_context):
        kept = model.padding[position].clone()
        model.padding[position] += torch.randn_like(kept)
        after = model(text, image)
        heard = not torch.equal(after.image, before.image)
        assert heard == (position >= 3)
        model.padding[position] = kept
    for position in range(tiny.config.text_context):
        kept = model.positions[position].clone()
        model.positions[position] += torch.randn_like(kept)
        heard = not torch.equal(model(text, image).image, before.image)
        assert heard == (position <= 2)  # padding takes the place of token and position
        model.positions[position] = kept


def test_every_parameter_learns(tiny):
    model = tiny.model()
    logits = model(tiny.captions(5, 1, 0), tiny.images(3))
    (logits.text.square().mean() + logits.image.square().mean()).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert not model.padding.grad[0].any()  # start-of-text stands there


def test_an_untrained_model_knows_nothing(tiny):
    torch.manual_seed(0)
    config = replace(tiny.config, width=96)
    logits = Dalle1(config)(tiny.captions(5, 3), tiny.images(2))
    for part in logits:
        assert part.log_softmax(-1).exp().max() < 3 / part.shape[-1]


def test_saved_and_loaded(tiny, tmp_path):
    model = tiny.model().float()
    checkpoint.save(tmp_path / "model", model.state_dict(), model.config)
    config, state = checkpoint.load(tmp_path / "model", Dalle1Config)
    again = Dalle1(config).eval()
    checkpoint.load_into(again, state)
    text, image = tiny.captions(3), tiny.images(1)
    assert torch.equal(again(text, image).image, model(text, image).image)
    assert not any("attention.row" in name or "hidden" in name for name in state)  # masks are not weights


def test_the_door(tiny):
    model = tiny.model()
    with pytest.raises(ValueError, match="text: 4 positions, but this model pads to 5"):
        model(tiny.captions(5)[:, :4], tiny.images(1))
    with pytest.raises(ValueError, match="image: 16 tokens to go on from, but there are 16"):
        model.image_rows(tiny.images(1))
    with pytest.raises(ValueError, match="kernel: 4 is even"):
        replace(tiny.config, kernel=4)
    with pytest.raises(ValueError, match="text_context: 1 leaves no room"):
        replace(tiny.config, text_context=1)
