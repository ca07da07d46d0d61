"""What each tower may see, and where it is read off."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig, unit
from limner.clip.model import TextTower, VisionTower
from limner.clip.tower import PIXEL_MEAN, PIXEL_STD

CONTEXT, VOCABULARY = 9, 40
END = VOCABULARY - 1
CONFIG = ClipConfig(
    vision=VisionConfig(resolution=12, patch=4, width=16, layers=2, heads=2),
    text=TextConfig(context=CONTEXT, vocabulary=VOCABULARY, width=24, layers=2, heads=3),
    embedding=8,
    activation="quick_gelu",
)


def clip() -> Clip:
    torch.manual_seed(0)
    return Clip(CONFIG).eval()


@st.composite
def captions(draw: st.DrawFn) -> Tensor:
    """[start, words, end, zeros], as the tokenizer lays them out."""
    words = draw(st.lists(st.integers(1, END - 2), max_size=CONTEXT - 2))
    row = [END - 1, *words, END]
    return torch.tensor([row + [0] * (CONTEXT - len(row))])


@given(ids=captions(), data=st.data())
@torch.no_grad()
def test_text_tower_is_causal(ids, data):
    model = clip()
    changed = data.draw(st.integers(1, CONTEXT - 1))
    other = ids.clone()
    other[0, changed] = (ids[0, changed] + 1) % (END - 1)
    before, after = model.encode_text(ids).tokens, model.encode_text(other).tokens
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.isclose(before[0, changed:], after[0, changed:]).all(dim=-1).any()


@given(ids=captions(), data=st.data())
@torch.no_grad()
def test_what_follows_the_end_is_nothing(ids, data):
    model, end = clip(), int(ids.argmax())
    embedding = model.encode_text(ids).pooled
    noise = data.draw(st.lists(st.integers(0, END - 1), min_size=CONTEXT, max_size=CONTEXT))
    other = torch.where(torch.arange(CONTEXT) > end, torch.tensor([noise]), ids)
    assert torch.equal(model.encode_text(other).pooled, embedding)
    # Nor is it needed: a caption without its padding is the same caption.
    torch.testing.assert_close(model.encode_text(ids[:, : end + 1]).pooled, embedding)


@given(ids=captions())
@torch.no_grad()
def test_a_caption_is_read_at_its_end(ids):
    model, end = clip(), int(ids.argmax())
    pooled, tokens = model.encode_text(ids)
    torch.testing.assert_close(pooled, tokens[:, end] @ model.text.projection)
    # The tokens are normed, so that other networks can read them.
    plain = (tokens - model.text.norm_out.bias) / model.text.norm_out.weight
    torch.testing.assert_close(plain.mean(dim=-1), torch.zeros(1, CONTEXT), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.square().mean(dim=-1), torch.ones(1, CONTEXT), atol=1e-3, rtol=0)


@torch.no_grad()
def test_rows_of_different_length_do_not_disturb_each_other():
    model = clip()
    ids = torch.tensor([[38, 5, 39, 0, 0, 0, 0, 0, 0], [38, 1, 2, 3, 4, 5, 6, 7, 39]])
    together = model.encode_text(ids).pooled
    alone = torch.cat([model.encode_text(row[None]).pooled for row in ids])
    torch.testing.assert_close(together, alone)


@torch.no_grad()
def test_picture_tower_sees_every_patch_from_everywhere():
    model = clip()
    picture = torch.rand(1, 3, 12, 12) * 2 - 1
    before = model.encode_image(picture)
    assert before.tokens.shape == (1, 1 + 9, 16)
    for row in range(3):
        for column in range(3):
            other = picture.clone()
            other[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] *= -1
            after = model.encode_image(other)
            changes = (after.tokens - before.tokens).abs().amax(dim=-1)[0]
            assert changes.min() > 1e-5  # the class token and all patches, earlier ones too
            assert not torch.allclose(after.pooled, before.pooled)


@torch.no_grad()
def test_picture_is_read_at_the_class_token():
    model = clip()
    pooled, tokens = model.encode_image(torch.rand(2, 3, 12, 12))
    expected = model.vision.norm_out(tokens[:, 0]) @ model.vision.projection
    torch.testing.assert_close(pooled, expected)


@torch.no_grad()
def test_pictures_are_given_in_minus_one_to_one():
    """The published mean becomes nought and a standard deviation above it becomes one."""
    model, seen = clip(), []
    model.vision.patches.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    for number, colour in enumerate((mean, mean + std)):
        model.encode_image((2 * colour - 1)[None, :, None, None].expand(1, 3, 12, 12))
        expected = torch.full((1, 3, 12, 12), float(number))
        torch.testing.assert_close(seen[number], expected, atol=1e-6, rtol=0)


def test_temperature_begins_published_and_ends_at_a_hundredth():
    model = clip()
    assert model.log_scale.item() == pytest.approx(2.6592600369, abs=1e-6)
    assert model.scale.item() == pytest.approx(1 / 0.07, rel=1e-6)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert model.scale.item() == pytest.approx(100.0, rel=1e-5)


@torch.no_grad()
def test_forward_gives_unit_embeddings():
    model = clip()
    pair = model(torch.rand(2, 3, 12, 12), torch.tensor([[38, 1, 39], [38, 2, 39]]))
    for side in (pair.images, pair.texts):
        torch.testing.assert_close(side.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(unit(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
    assert pair.scale == model.scale


def test_activation_is_the_configs():
    torch.manual_seed(0)
    exact = Clip(replace(CONFIG, activation="gelu")).eval()
    exact.load_state_dict(clip().state_dict())
    picture = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        assert not torch.allclose(exact.encode_image(picture).pooled, clip().encode_image(picture).pooled)


def test_refusals():
    model = clip()
    with pytest.raises(ValueError, match=r"pictures: \(12, 16\) pixels, this tower reads 12×12"):
        model.encode_image(torch.zeros(1, 3, 12, 16))
    with pytest.raises(ValueError, match="ids: 10 tokens, this tower reads at most 9"):
        model.encode_text(torch.zeros(1, 10, dtype=torch.int64))
    with pytest.raises(ValueError, match="patch: 5 does not divide the resolution 12"):
        VisionTower(replace(CONFIG.vision, patch=5), embedding=8, activation="gelu")


def test_initialised_as_published():
    torch.manual_seed(0)
    text = TextTower(
        TextConfig(context=77, vocabulary=2000, width=256, layers=1, heads=4),
        embedding=256,
        activation="gelu",
    )
    assert text.embed.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert text.positions.std().item() == pytest.approx(0.01, rel=0.02)
    assert text.projection.std().item() == pytest.approx(1 / math.sqrt(256), rel=0.02)
    vision = VisionTower(
        VisionConfig(resolution=64, patch=4, width=256, layers=1, heads=4), embedding=256, activation="gelu"
    )
    for parameter in (vision.positions, vision.projection):
        assert parameter.std().item() == pytest.approx(1 / math.sqrt(256), rel=0.02)
    assert vision.patches.bias is None


@torch.no_grad()
def test_with_a_layout_every_place_has_a_line_of_its_own_to_the_embedding():
    tower = Clip(replace(CONFIG, vision=replace(CONFIG.vision, layout=3))).eval().vision
    plain, tokens = VisionTower(CONFIG.vision, embedding=8, activation="quick_gelu"), torch.randn(1, 9, 16)
    assert tower.layout is not None
    assert plain.layout is None
    before = tower.layout(tokens)
    moved = []
    for place in range(9):
        other = tokens.clone()
        other[0, place] += 1.0
        moved.append((tower.layout(other) - before)[0])
    # Nine places, three numbers each, eight directions: as many independent ones as there is room for.
    assert torch.linalg.matrix_rank(torch.stack(moved)) == 8
    added = sum(p.numel() for p in tower.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == (16 + 1) * 3 + 9 * 3 * 8
