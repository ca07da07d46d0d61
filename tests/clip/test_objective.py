"""The contrastive loss in closed form, and large batches in pieces with the gradient of the whole."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.clip import (
    Clip,
    ClipConfig,
    TextConfig,
    VisionConfig,
    contrastive_loss,
    contrastive_objective,
    unit,
)
from limner.clip.objective import (
    CaptionedPictures,
    SeenAndCaptioned,
    caption_groups,
    forgotten,
    locked_objective,
)
from limner.draws import Draws

CONFIG = ClipConfig(
    vision=VisionConfig(resolution=8, patch=4, width=16, layers=2, heads=2),
    text=TextConfig(context=7, vocabulary=30, width=16, layers=2, heads=2),
    embedding=8,
    activation="quick_gelu",
)


def clip() -> Clip:
    torch.manual_seed(0)
    return Clip(CONFIG)


def batch(rows: int = 8) -> CaptionedPictures:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 28, (rows, 5), generator=generator)
    ids[:, 0], ids[:, -1] = 28, 29
    return CaptionedPictures(torch.rand(rows, 3, 8, 8, generator=generator) * 2 - 1, ids)


def embeddings(rows: int, width: int, seed: int) -> Tensor:
    return unit(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_a_model_that_knows_nothing_scores_ln_n(rows):
    same = unit(torch.ones(rows, 4))
    assert contrastive_loss(same, same, torch.tensor(100.0)).item() == pytest.approx(math.log(rows), abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_a_model_that_knows_everything(scale):
    right = torch.eye(6)
    expected = math.log(1 + 5 * math.exp(-scale))
    assert contrastive_loss(right, right, torch.tensor(scale)).item() == pytest.approx(expected, abs=1e-6)
    wrong = contrastive_loss(right, right.roll(1, 0), torch.tensor(scale))
    assert wrong.item() == pytest.approx(scale + expected, abs=1e-4)


@given(
    groups=st.lists(st.integers(0, 3), min_size=2, max_size=7),
    scale=st.floats(0.1, 50),
    seed=st.integers(0, 100),
)
def test_twins_are_not_each_others_negatives(groups, scale, seed):
    rows = len(groups)
    images, texts = embeddings(rows, 5, seed), embeddings(rows, 5, seed + 1)
    total = 0.0
    for i in range(rows):
        rivals = [j for j in range(rows) if j == i or groups[j] != groups[i]]
        for mine, theirs in ((images, texts), (texts, images)):
            logits = scale * theirs[rivals] @ mine[i]
            total += (torch.logsumexp(logits, 0) - logits[rivals.index(i)]).item()
    loss = contrastive_loss(images, texts, torch.tensor(scale, dtype=torch.float64), torch.tensor(groups))
    assert loss.item() == pytest.approx(total / (2 * rows), abs=1e-9)


def test_nothing_but_twins_is_nothing_to_learn():
    images, texts = embeddings(4, 5, 0).requires_grad_(), embeddings(4, 5, 1).requires_grad_()
    loss = contrastive_loss(images, texts, torch.tensor(10.0).double(), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not images.grad.any()
    assert torch.isfinite(texts.grad).all()


@given(seed=st.integers(0, 50))
def test_pictures_and_captions_play_the_same_part(seed):
    images, texts, scale = embeddings(5, 4, seed), embeddings(5, 4, seed + 1), torch.tensor(7.0).double()
    torch.testing.assert_close(contrastive_loss(images, texts, scale), contrastive_loss(texts, images, scale))


def test_captions_that_are_equal_share_a_number():
    ids = torch.tensor([[3, 1, 0], [3, 2, 0], [3, 1, 0], [3, 0, 0]])
    groups = caption_groups(ids.float())
    assert groups[0] == groups[2]
    assert len(groups.unique()) == 3


def test_autocast_leaves_the_logits_alone():
    """In bfloat16 a hundredfold cosine is off by a quarter, which is more than most of the loss."""
    images, texts = embeddings(16, 32, 0).float(), embeddings(16, 32, 1).float()
    texts = unit(images + 0.3 * texts)
    exact = contrastive_loss(images, texts, torch.tensor(100.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive_loss(images, texts, torch.tensor(100.0)), exact)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 8, 100])
def test_gradient_in_chunks_is_the_gradient_of_the_whole(chunk):
    model = clip().double()
    full = batch()
    full = replace(full, pictures=full.pictures.double())

    def loss(size: int | None) -> Tensor:
        pair = model(full.pictures, full.ids, chunk=size)
        value = contrastive_loss(pair.images, pair.texts, pair.scale)
        value.backward()
        return value

    whole, expected = loss(None), gradients(model)
    assert set(expected) == {name for name, _ in model.named_parameters()}
    assert loss(chunk).item() == pytest.approx(whole.item(), abs=1e-12)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


def test_a_chunk_is_computed_anew_on_the_way_back():
    """That is what spares the memory: forward 3 pieces, and the 3 pieces once more."""
    model, sizes = clip(), []
    model.vision.register_forward_pre_hook(lambda _module, args: sizes.append(len(args[0])))
    full = batch()
    pair = model(full.pictures, full.ids, chunk=3)
    assert sizes == [3, 3, 2]
    pair.images.sum().backward()
    assert sorted(sizes[3:]) == [2, 3, 3]


def test_objective_reports_and_clamps():
    model = clip()
    with torch.no_grad():
        model.log_scale.fill_(7.0)
    loss = contrastive_objective()(model, batch(), Draws(range(8)))
    assert model.log_scale.item() == pytest.approx(math.log(100))  # the parameter itself, or it would drift
    assert loss.baseline == pytest.approx(math.log(8))
    assert loss.report["scale"].item() == pytest.approx(100, rel=1e-5)
    loss.total.backward()
    assert model.vision.projection.grad.any()
    with torch.no_grad():
        model.log_scale.fill_(-2.0)
        contrastive_objective()(model, batch(), Draws(range(8)))
        assert model.log_scale.item() == 0


def test_objective_is_the_loss_of_the_pair_whatever_the_chunk_or_the_padding():
    model, full = clip(), batch()
    full.ids[3] = full.ids[5]
    pair = model(full.pictures, full.ids)
    expected = contrastive_loss(pair.images, pair.texts, pair.scale, torch.tensor([0, 1, 2, 3, 4, 3, 6, 7]))
    padded = replace(full, ids=nn.functional.pad(full.ids, (0, 2)))
    for chunk in (None, 3):
        for rows in (full, padded):
            found = contrastive_objective(chunk)(model, rows, Draws(range(8))).total
            torch.testing.assert_close(found, expected)


def test_before_a_finished_picture_tower_it_is_the_loss_of_the_pair_and_the_captions_gradient():
    model, full = clip(), batch()
    full.ids[3] = full.ids[5]
    whole = contrastive_objective()(model, full, Draws(range(8)))
    whole.total.backward()
    expected = {name: value.grad for name, value in model.text.named_parameters()}
    model.zero_grad(set_to_none=True)
    seen = unit(model.encode_image(full.pictures).pooled.detach())
    found = locked_objective(model.scale.item())(
        model.text, SeenAndCaptioned(seen, nn.functional.pad(full.ids, (0, 2))), Draws(range(8))
    )
    torch.testing.assert_close(found.total, whole.total)
    assert found.report["retrieval"] == whole.report["retrieval"]
    found.total.backward()
    for name, value in model.text.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], msg=name)
    assert all(value.grad is None for value in model.vision.parameters())


def test_retrieval_is_the_share_that_finds_its_partner():
    model, full = clip(), batch()
    with torch.no_grad():
        pair = model(full.pictures, full.ids)
        expected = ((pair.images @ pair.texts.T).argmax(dim=1) == torch.arange(8)).float().mean()
        found = contrastive_objective()(model, full, Draws(range(8))).report["retrieval"]
    assert found == expected


def test_forgetting_is_measured_in_shares_of_variance():
    pictures = batch(16).pictures
    small = nn.functional.avg_pool2d(pictures, 2)
    assert forgotten(small, pictures).item() == pytest.approx(0.0, abs=1e-10)
    mean = small.mean(dim=0, keepdim=True).expand_as(small)
    assert forgotten(mean, pictures).item() == pytest.approx(1.0, abs=1e-5)
    half = (small + mean) / 2
    assert forgotten(half, pictures).item() == pytest.approx(0.25, abs=1e-5)


def test_recalling_adds_its_share_to_the_loss_and_reaches_the_picture_tower_alone():
    torch.manual_seed(0)
    model, given = Clip(replace(CONFIG, thumbnail=4)), batch()
    loss = {
        weight: contrastive_objective(recall_weight=weight)(model, given, Draws.for_step(0, 0, range(8)))
        for weight in (0.0, 2.0)
    }
    missed = loss[0.0].report["forgotten"].item()
    assert (loss[2.0].total - loss[0.0].total).item() == pytest.approx(2 * missed, rel=1e-4)
    assert loss[2.0].baseline == pytest.approx(math.log(8) + 2)
    forgotten(model(given.pictures, given.ids).thumbnails, given.pictures).backward()
    assert model.vision.patches.weight.grad.abs().max() > 1e-6
    assert model.text.embed.weight.grad is None
    assert "forgotten" not in contrastive_objective()(clip(), given, Draws.for_step(0, 0, range(8))).report


def test_a_clip_without_the_head_recalls_nothing():
    with pytest.raises(ValueError, match="thumbnail: this CLIP was trained without a head"):
        clip().recalled(torch.zeros(1, 8))
