"""Three ways of telling what a picture and its caption are together, by closed form and by perturbation."""

import math

import pytest
import torch

from limner.clip import (
    ClassifierConfig,
    Clip,
    ClipConfig,
    MlpConfig,
    Pooled,
    ResNetConfig,
    TextConfig,
    TokenConfig,
    Tokens,
    VisionConfig,
    classifier,
    classifying_objective,
    unit,
    zero_shot_of_pairs,
)
from limner.clip.classifiers import pooled, spoken, token_config, tokens
from limner.clip.objective import LabelledPairs
from limner.draws import Draws
from limner.text import ClipTokenizer

LABELS = ("fits", "wrong", "nonsense")
MLP = MlpConfig(embedding=12, hidden=32, dropout=0.0)
TOKENS = TokenConfig(picture_tokens=5, picture_width=10, context=7, text_width=6, width=16, layers=2, heads=2)
TEXT = TextConfig(context=20, vocabulary=600, width=24, layers=1, heads=2)
CLIPS = {
    "transformer": ClipConfig(
        vision=VisionConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
        text=TEXT,
        embedding=12,
        activation="quick_gelu",
    ),
    "residual": ClipConfig(
        vision=ResNetConfig(resolution=16, width=4, blocks=(1, 1), heads=2),
        text=TEXT,
        embedding=12,
        activation="quick_gelu",
    ),
}


def some(rows: int, *, seed: int = 0) -> tuple[Pooled, Tokens]:
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream)

    lengths = torch.randint(2, 7, (rows, 1), generator=stream)
    return (
        Pooled(unit(normal(rows, 12)), unit(normal(rows, 12))),
        Tokens(normal(rows, 5, 10), normal(rows, 7, 6), torch.arange(7) < lengths),
    )


def head(config: MlpConfig | TokenConfig, *, decided: bool = True) -> torch.nn.Module:
    """A classifier that was not trained; `decided` gives it a last layer that is not zero."""
    torch.manual_seed(0)
    made = classifier(ClassifierConfig(labels=LABELS, head=config)).eval()
    if decided:
        torch.nn.init.normal_(made.out.weight)
    return made


# --- the sum -------------------------------------------------------------------------------------


def test_zero_shot_is_the_cosine_of_the_sum():
    # Picture (1, 0) and caption (0, 1) make (1, 1) / √2.
    pair = Pooled(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    classes = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    root = math.sqrt(0.5)
    torch.testing.assert_close(zero_shot_of_pairs(pair, classes), torch.tensor([[root, 1.4 * root, -root]]))


def test_the_sum_does_not_know_which_of_the_two_said_what():
    pair, _ = some(6)
    classes = unit(torch.randn(4, 12, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(
        zero_shot_of_pairs(pair, classes), zero_shot_of_pairs(Pooled(*pair[::-1]), classes)
    )


# --- the heads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [MLP, TOKENS], ids=["mlp", "transformer"])
def test_a_head_that_has_learned_nothing_finds_all_labels_alike(config):
    pairs = some(4)[config is TOKENS]
    logits = head(config, decided=False)(pairs)
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((4, 3), 1 / 3))
    loss = classifying_objective()(
        head(config, decided=False), LabelledPairs(pairs, torch.tensor([0, 1, 2, 0])), Draws(range(4))
    )
    assert loss.total.item() == pytest.approx(math.log(3))
    assert loss.baseline == pytest.approx(math.log(3))


@pytest.mark.parametrize("config", [MLP, TOKENS], ids=["mlp", "transformer"])
def test_both_the_picture_and_the_caption_count(config):
    one, other = some(4)[config is TOKENS], some(4, seed=1)[config is TOKENS]
    model = head(config)
    for changed in (one._replace(pictures=other.pictures), one._replace(captions=other.captions)):
        assert (model(one) - model(changed)).abs().amax(dim=1).min() > 1e-3


def test_padding_changes_nothing():
    _, pairs = some(5)
    noise = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(2))
    changed = torch.where(pairs.spoken[..., None], pairs.captions, noise)
    model = head(TOKENS)
    torch.testing.assert_close(model(pairs._replace(captions=changed)), model(pairs))
    longest = int(pairs.spoken.sum(dim=1).max())
    shorter = Tokens(pairs.pictures, pairs.captions[:, :longest], pairs.spoken[:, :longest])
    torch.testing.assert_close(model(shorter), model(pairs))
    # What is spoken does change the answer.
    assert (model(pairs._replace(captions=noise)) - model(pairs)).abs().max() > 1e-3


def test_order_is_known_by_positions_alone():
    _, pairs = some(3)
    turned = pairs._replace(pictures=pairs.pictures.flip(1))
    model = head(TOKENS)
    assert (model(turned) - model(pairs)).abs().max() > 1e-3
    torch.nn.init.zeros_(model.places)
    torch.testing.assert_close(model(turned), model(pairs))


def test_a_row_does_not_depend_on_its_neighbours():
    _, pairs = some(4)
    model = head(TOKENS)
    alone = model(Tokens(*(part[1:2] for part in pairs)))
    torch.testing.assert_close(alone, model(pairs)[1:2])


@pytest.mark.parametrize("config", [MLP, TOKENS], ids=["mlp", "transformer"])
def test_a_head_learns_32_pairs_by_heart(config):
    pairs = some(32, seed=3)[config is TOKENS]
    labels = torch.randint(3, (32,), generator=torch.Generator().manual_seed(4))
    model = head(config, decided=False).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2 if config is MLP else 3e-3)
    objective = classifying_objective()
    for _ in range(60):
        loss = objective(model, LabelledPairs(pairs, labels), Draws(range(32)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.report["right"]) == 1
    assert loss.total.item() < 0.2


def test_parameters_are_those_that_the_sizes_say():
    count = {config: sum(p.numel() for p in head(config).parameters()) for config in (MLP, TOKENS)}
    assert count[MLP] == (24 * 32 + 32) + (32 * 3 + 3)
    ends = 16 + (2 * 10 + 10 * 16 + 16) + (2 * 6 + 6 * 16 + 16) + 16 * (2 + 5 + 7) + 2 * 16 + 16 * 3 + 3
    block = 4 * 16 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
    assert count[TOKENS] == ends + 2 * block


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"labels: \('one',\); there is nothing to tell apart"):
        classifier(ClassifierConfig(labels=("one",), head=MLP))
    _, pairs = some(1)
    longer = pairs._replace(captions=torch.zeros(1, 8, 6), spoken=torch.ones(1, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="captions: 8 tokens, this classifier reads at most 7"):
        head(TOKENS)(longer)


# --- on a CLIP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLIPS)
def test_it_reads_what_a_clip_says_and_nothing_after_the_end(kind):
    config = CLIPS[kind]
    torch.manual_seed(0)
    clip = Clip(config).eval()
    tokenizer = ClipTokenizer(600)
    side = config.vision.resolution
    seen = clip.encode_image(torch.rand(2, 3, side, side) * 2 - 1)
    captions = ["a cat", "a cat above a dog"]
    model = head(token_config(config, width=16, layers=1, heads=2))
    whole, cut = (tokenizer(captions, context)[:, :context] for context in (20, 12))
    answers = [model(tokens(seen, clip.encode_text(ids), ids)) for ids in (whole, cut)]
    torch.testing.assert_close(*answers)
    said = spoken(whole)
    assert (whole[said] > 0).all()
    assert (whole[~said] == 0).all()
    assert said.sum(dim=1).unique().numel() == 2
    both = pooled(seen, clip.encode_text(whole))
    torch.testing.assert_close(both.pictures.norm(dim=1), torch.ones(2))
    assert head(MLP)(both).shape == (2, 3)
