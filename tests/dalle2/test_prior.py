"""The prior reads a caption of any length, causally, and answers at its last token."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.checkpoint import load_into
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.dalle2.objective import EmbeddingsAndCaptions, clip_reader, prior_objective
from limner.dalle2.prior_diffusion import KNOTS, Prior, PriorConfig
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.errors import LimnerError
from limner.layers.trunk import TrunkConfig

CONTEXT = 7
CONFIG = PriorConfig(
    embedding=8,
    text_width=16,
    context=CONTEXT,
    width=24,
    layers=2,
    heads=3,
    scale=1.5,
    diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
)
TRUNK = replace(CONFIG, trunk=TrunkConfig(width=20, layers=2), sphered=True)
CLIP = ClipConfig(
    vision=VisionConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
    text=TextConfig(context=CONTEXT, vocabulary=30, width=16, layers=1, heads=2),
    embedding=8,
    activation="quick_gelu",
)
EMPTY = torch.tensor([28, 29, 0, 0, 0, 0, 0])


def prior(config: PriorConfig = CONFIG) -> Prior:
    torch.manual_seed(0)
    model = Prior(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def inputs(length: int, seed: int = 0) -> dict[str, Tensor]:
    """Two rows whose captions have `length` tokens, out of a context's worth."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(2, 8, generator=generator),
        "t": torch.tensor([10.0, 900.0]),
        "tokens": torch.randn(2, CONTEXT, 16, generator=generator),
        "caption": nn.functional.normalize(torch.randn(2, 8, generator=generator), dim=-1),
        "mask": (torch.arange(CONTEXT) < length).expand(2, -1),
    }


@given(length=st.integers(1, CONTEXT), seed=st.integers(0, 50))
@torch.no_grad()
def test_padding_is_not_read_and_not_needed(length, seed):
    model, given_ = prior(), inputs(length, seed)
    expected = model(**given_)
    hidden = ~given_["mask"][..., None]
    torch.testing.assert_close(model(**given_ | {"tokens": given_["tokens"] + 30 * hidden}), expected)
    short = {"tokens": given_["tokens"][:, :length], "mask": given_["mask"][:, :length]}
    torch.testing.assert_close(model(**given_ | short), expected)


@pytest.mark.parametrize("config", [CONFIG, TRUNK], ids=["plain", "trunk"])
@pytest.mark.parametrize("name", ["x", "t", "tokens", "caption"])
@torch.no_grad()
def test_everything_else_is_read(name, config):
    model, given_ = prior(config), inputs(4)
    moved = given_[name].clone()
    moved[0] += 1 + torch.rand(moved[0].shape)
    before, after = model(**given_), model(**given_ | {name: moved})
    assert (after[0] - before[0]).abs().max() > 1e-3
    assert torch.equal(after[1], before[1])


@torch.no_grad()
def test_the_sequence_is_causal_and_in_the_papers_order():
    """Of [caption, z_t, time, z_i, query], each reaches only itself and what comes after."""
    model, given_ = prior(), inputs(CONTEXT)
    seen: list[Tensor] = []
    model.transformer.register_forward_hook(lambda _module, _args, out: seen.append(out))
    model(**given_)
    places = {"caption": CONTEXT, "t": CONTEXT + 1, "x": CONTEXT + 2}
    for name, place in places.items():
        model(**given_ | {name: given_[name] + torch.rand(given_[name].shape)})
        changed = (seen[-1] - seen[0]).abs().amax(dim=(0, 2)) > 1e-5
        assert changed.tolist() == [i >= place for i in range(CONTEXT + 4)]
    for place in range(CONTEXT):
        moved = given_["tokens"].clone()
        moved[:, place] += 1
        model(**given_ | {"tokens": moved})
        changed = (seen[-1] - seen[0]).abs().amax(dim=(0, 2)) > 1e-5
        assert changed.tolist() == [i >= place for i in range(CONTEXT + 4)]


@torch.no_grad()
def test_the_answer_is_the_last_tokens():
    model, given_ = prior(), inputs(4)
    seen: list[Tensor] = []
    model.transformer.register_forward_hook(lambda _module, _args, out: seen.append(out))
    expected = model(**given_)
    torch.testing.assert_close(model.to_picture(model.norm(seen[0][:, -1])), expected)


@torch.no_grad()
def test_caption_embedding_is_brought_to_the_pictures_scale():
    given_ = inputs(4)
    plain = prior(replace(CONFIG, scale=1.0))
    torch.testing.assert_close(prior()(**given_), plain(**given_ | {"caption": 1.5 * given_["caption"]}))


@torch.no_grad()
def test_the_trunk_reads_past_the_transformer():
    """Shut to the transformer's answer, it still hears of noise, time and caption; and of nothing else."""
    model, given_ = prior(TRUNK), inputs(4)
    assert model.behind is not None
    model.behind.from_answer.weight.zero_()
    before = model(**given_)
    for name in ("x", "t", "caption"):
        assert not torch.allclose(model(**given_ | {name: given_[name] + 1}), before, atol=1e-3)
    assert torch.equal(model(**given_ | {"tokens": given_["tokens"] + 1}), before)


@torch.no_grad()
def test_a_sphered_prior_speaks_of_directions_that_vary_alike():
    model = prior(TRUNK)
    assert model.sphere is not None
    generator = torch.Generator().manual_seed(1)
    spread = torch.tensor([1, 0.5, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05])
    z = nn.functional.normalize(torch.randn(4000, 8, generator=generator) * spread + 0.5, dim=-1)
    model.sphere.fit(z, floor=1e-6)
    x = model.spoken(z)
    torch.testing.assert_close(x.T @ x / 4000, torch.eye(8), atol=0.05, rtol=0)
    torch.testing.assert_close(model.embeddings(x), z, atol=1e-4, rtol=0)


def test_a_whitened_prior_is_not_trained_here():
    with pytest.raises(ValueError, match="whitened is True"):
        prior(replace(CONFIG, whitened=True)).spoken(torch.ones(1, 8))


def constant(config: PriorConfig, value: float) -> Prior:
    """A prior that answers `value` whatever it is asked."""
    model = Prior(config)
    nn.init.zeros_(model.to_picture.weight)
    nn.init.constant_(model.to_picture.bias, value)
    return model


def batch(rows: int = 6) -> EmbeddingsAndCaptions:
    generator = torch.Generator().manual_seed(3)
    z = nn.functional.normalize(torch.randn(rows, 8, generator=generator), dim=-1)
    ids = torch.tensor([28, 1, 2, 29, 0, 0, 0]).repeat(rows, 1)
    ids[:, 1] = torch.arange(rows)
    return EmbeddingsAndCaptions(z, ids)


def reader() -> Clip:
    torch.manual_seed(0)
    return Clip(CLIP).eval().requires_grad_(False)


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_loss_of_a_constant_prior_by_hand(value):
    objective = prior_objective(clip_reader(reader()), empty=EMPTY, drop_caption=0.1)
    given_ = batch()
    loss = objective(constant(CONFIG, value), given_, Draws(range(6)))
    z = 1.5 * given_.embeddings  # what is predicted is the clean, scaled embedding
    torch.testing.assert_close(loss.total, (value - z).square().mean())
    if value == 0:
        assert loss.total.item() == pytest.approx(1.5**2 / 8)
    else:
        mean = torch.full((6, 8), value)
        torch.testing.assert_close(loss.report["cosine"], torch.cosine_similarity(mean, z).mean())
    # A model that knows nothing predicts the mean.
    mean = z.mean(dim=0).expand(6, -1)
    torch.testing.assert_close(loss.report["cosine_of_mean"], torch.cosine_similarity(mean, z).mean())
    assert loss.baseline == pytest.approx((z - z.mean(dim=0)).square().mean().item())


def test_a_dropped_caption_is_the_empty_caption():
    read, model, given_ = clip_reader(reader()), prior(), batch()
    nothing = given_._replace(ids=EMPTY.expand(6, -1))

    def loss(drop: float, rows: EmbeddingsAndCaptions) -> float:
        objective = prior_objective(read, empty=EMPTY, drop_caption=drop)
        return objective(model, rows, Draws(range(6))).total.item()

    assert loss(1.0, given_) == pytest.approx(loss(0.0, nothing), rel=1e-6)
    assert loss(0.0, given_) != pytest.approx(loss(0.0, nothing), rel=1e-4)


def test_reader_cuts_padding_to_few_lengths():
    torch.manual_seed(0)
    clip = Clip(replace(CLIP, text=replace(CLIP.text, context=40))).eval()
    ids = torch.zeros(2, 40, dtype=torch.long)
    ids[:, 0], ids[0, 5], ids[1, 15] = 28, 29, 29
    tokens, _, mask = clip_reader(clip)(ids)
    torch.testing.assert_close(tokens, clip.encode_text(ids).tokens[:, :16])
    ids[1, 15], ids[1, 16] = 5, 29
    assert mask.shape == (2, 16)
    assert clip_reader(clip)(ids).mask.shape == (2, 32)
    ids[1, 16], ids[1, 39] = 5, 29
    assert clip_reader(clip)(ids).mask.shape == (2, 40)


def test_reader_shows_a_caption_from_start_to_end():
    clip = reader()
    ids = torch.tensor([[28, 5, 29, 0, 0, 0, 0], [28, 5, 6, 7, 29, 0, 0], [28, 29, 0, 0, 0, 0, 0]])
    tokens, embedding, mask = clip_reader(clip)(ids)
    assert mask.tolist() == [[True] * n + [False] * (7 - n) for n in (3, 5, 2)]
    torch.testing.assert_close(tokens, clip.encode_text(ids).tokens)
    torch.testing.assert_close(embedding, nn.functional.normalize(clip.encode_text(ids).pooled, dim=-1))
    assert not embedding.requires_grad


def test_a_step_of_the_prior_varies_by_what_it_does_not_know():
    """β̃ until errors are measured; then more, by the errors between the two times around each level."""
    model = prior()
    levels = CONFIG.diffusion.levels().respace(64)
    torch.testing.assert_close(model.variance(levels), levels.posterior_variance)
    model.errors.copy_(torch.linspace(0, 2, KNOTS))
    wanted = levels.posterior_variance + levels.posterior_x0.square() * levels.t / 999 * 2
    torch.testing.assert_close(model.variance(levels), wanted, rtol=1e-5, atol=1e-7)
    assert (model.times()[0], model.times()[-1], len(model.times())) == (0.0, 999.0, KNOTS)


def test_a_prior_that_nobody_has_measured_loads():
    """Weights from before there were errors: β̃ stands in, and nothing else may be missing."""
    state = prior().state_dict()
    del state["errors"]
    model = Prior(CONFIG)
    load_into(model, state)
    assert torch.equal(model.errors, torch.zeros(KNOTS))
    assert torch.equal(model.query, state["query"])
    del state["query"]
    with pytest.raises(LimnerError, match=r"missing: query$"):
        load_into(model, state)
