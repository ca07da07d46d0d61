import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner import checkpoint
from limner.data.folder import Record, read
from limner.data.sample import sample_dir
from limner.draws import Draws
from limner.errors import LimnerError
from limner.evaluation.features import Trunk
from limner.evaluation.recognition import (
    Judge,
    NamedFeatures,
    Recogniser,
    RecogniserConfig,
    load_judge,
    naming_objective,
)
from limner.recipes import recogniser
from limner.recipes.recogniser import FeatureBatches

NAMES = ("apple", "pear", "plum", "fig")


def head(**changes: object) -> Recogniser:
    config = RecogniserConfig(names=NAMES, hexcodes=("A", "B", "C", "D"), features=4, side=32, dropout=0.5)
    return Recogniser(replace(config, **changes)).eval()


def of_identity(trunk: Trunk) -> Judge:
    """A judge whose four features are its four answers."""
    model = head()
    with torch.no_grad():
        model.names.weight.copy_(torch.eye(4))
        model.names.bias.zero_()
    return Judge(trunk, model)


def known(judge: Judge) -> list[Record]:
    """The painters' drawings, which the judge has not seen, of the names it knows."""
    return [r for r in read(sample_dir()).records if r.facts["name"] in judge.names]


def test_the_toy_judge_knows_real_drawings_that_it_has_never_seen(judge: Judge):
    records = known(judge)
    names = [str(record.facts["name"]) for record in records]
    assert len(judge.names) > 80
    assert len(records) > 300
    found = judge([Image.open(record.file) for record in records], names)
    assert found.chance1 == 1 / len(judge.names)
    assert found.top1.low > 30 * found.chance1
    assert found.top5.value > found.top1.value
    # The same answers to the wrong questions are worth what guessing is.
    shuffled = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    features = judge.look((Image.open(record.file) for record in records), total=len(records))
    assert judge.of(features, names) == found
    assert judge.of(features, shuffled).top1.value < 5 * found.chance1


def test_the_judge_sees_through_a_painting_s_softness(judge: Judge):
    records = known(judge)[::4]
    soft = [Image.open(record.file).convert("RGBA").resize((32, 32)) for record in records]
    found = judge(soft, [str(record.facts["name"]) for record in records])
    assert found.top1.low > 15 * found.chance1


def test_the_judge_shares_no_picture_with_the_painters():
    styles = {record.facts["style"] for record in read(sample_dir("judge")).records}
    assert styles.isdisjoint({record.facts["style"] for record in read(sample_dir()).records})


def test_places_count_who_stands_before(trunk: Trunk):
    judge = of_identity(trunk)
    features = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.9, 0.1, 0.2, 0.3], [0.5, 0.5, 0.0, 0.0]])
    assert judge.places(features, ["apple", "pear", "apple"]).tolist() == [0, 3, 1]
    found = judge.of(features, ["apple", "fig", "apple"])
    assert found.top1.value == pytest.approx(1 / 3)
    assert found.top5.value == 1
    assert (found.chance1, found.chance5) == (0.25, 1)
    broken = judge.of(features * torch.nan, ["apple", "fig", "apple"])
    assert broken.top1.value == 0


def test_several_pictures_of_a_name_are_one_group(trunk: Trunk):
    judge = of_identity(trunk)
    features = torch.eye(4)[[0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]]
    names = [name for name in NAMES for _ in range(3)]
    by_name = judge.of(features, names)
    apart = judge.of(features, names, groups=[str(i) for i in range(12)])
    assert by_name.top1.value == apart.top1.value == 0.5
    assert by_name.top1.high - by_name.top1.low > apart.top1.high - apart.top1.low


def test_an_unknown_name_is_refused(judge: Judge):
    with pytest.raises(ValueError, match="'a nonsense'"):
        judge([Image.new("RGB", (8, 8))], ["a nonsense"])
    with pytest.raises(ValueError, match="as many of each"):
        judge([], [])


def test_features_are_standardised():
    model = head()
    features = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 5 + 3
    features[:, 3] = 7
    model.standardise(features)
    seen = (features - model.mean) / model.scale
    assert torch.allclose(seen.mean(dim=0), torch.zeros(4), atol=1e-3)
    assert torch.allclose(seen.std(dim=0)[:3], torch.ones(3), atol=1e-2)
    assert model(features).isfinite().all()


def test_the_objective_s_baseline_is_a_model_that_knows_nothing():
    model = head()
    with torch.no_grad():
        model.names.weight.zero_()
        model.names.bias.zero_()
    batch = NamedFeatures(torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))
    loss = naming_objective(0.1)(model, batch, Draws([0]))
    assert loss.total.item() == pytest.approx(loss.baseline)


def test_batches_are_a_function_of_step_and_row():
    features = np.arange(3 * 5 * 2, dtype=np.float32).reshape(3, 5, 2)
    batches = FeatureBatches(features, np.array([4, 3, 2, 1, 0]), 0)
    whole = batches(7, range(64))
    assert torch.equal(batches(7, range(16, 32)).features, whole.features[16:32])
    # Features belong to their names: the value tells the drawing.
    drawing = (whole.features[:, 0] // 2) % 5
    assert torch.equal(whole.names, 4 - drawing.long())
    assert len(whole.features.unique(dim=0)) > 10
    assert not torch.equal(batches(8, range(64)).names, whole.names)


def test_a_judge_is_a_function_of_recipe_and_pictures(tmp_path: Path, judge_folder: Path):
    toy = recogniser.toy()
    short = replace(toy, train=replace(toy.train, steps=5, save_every=5, sample_every=5))
    states = []
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        # What was looked at once is kept; other recipes of the same look take it from there.
        for kept in judge_folder.glob("features_*.npy"):
            shutil.copy(kept, place)
        folder = recogniser.run(short, folders=[sample_dir("judge")], out=place, resume=False, device="cpu")
        assert len(list(place.glob("features_*.npy"))) == 1
        states.append(checkpoint.load(folder, RecogniserConfig)[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_names_that_too_few_sets_draw_are_left_out(judge: Judge):
    sets: defaultdict[str, set[str]] = defaultdict(set)
    for record in read(sample_dir("judge")).records:
        sets[str(record.facts["hexcode"])].add(str(record.facts["style"]))
    assert set(judge.recogniser.config.hexcodes) <= set(sets)
    toy = recogniser.toy()
    gallery = recogniser.open_gallery([sample_dir("judge")], size=8, splits=recogniser.EVERY_SPLIT)
    both, rows = recogniser.known(gallery, replace(toy, least=2))
    assert set(both) == {hexcode for hexcode, styles in sets.items() if len(styles) == 2} & set(
        judge.recogniser.config.hexcodes
    )
    assert len(rows) == 2 * len(both)
    with pytest.raises(LimnerError, match="limner data fetch judge"):
        recogniser.known(gallery, replace(toy, least=3))


def test_without_a_judge_the_command_is_named(tmp_path: Path):
    with pytest.raises(LimnerError, match="limner train recogniser"):
        load_judge(tmp_path / "nowhere")
