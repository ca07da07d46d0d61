import math
from pathlib import Path

import pytest
import torch

from limner.clip import Clip, unit
from limner.data.folder import read as read_folder
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.retrieval import Matched, clip_retrieval, galleries, places, recall
from limner.text import ClipTokenizer


def random_units(seed: int, rows: int, width: int = 32) -> torch.Tensor:
    return unit(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


def gallery(pictures: torch.Tensor, captions: torch.Tensor) -> Matched:
    return Matched(pictures, captions, tuple(str(row) for row in range(len(pictures))))


def test_a_perfect_model_finds_everything():
    z = random_units(0, 50)
    found = recall([gallery(z, z), gallery(z[:20], z[:20])], seed=0)
    assert found.to_caption.value == found.to_picture.value == found.to_caption5.value == 1
    assert found.to_caption.total == 70
    assert found.chance == pytest.approx((50 / 50 + 20 / 20) / 70)
    assert found.chance5 == pytest.approx(10 / 70)


def test_a_random_model_finds_what_chance_finds():
    sets = [gallery(random_units(2 * i, 40), random_units(2 * i + 1, 40)) for i in range(50)]
    found = recall(sets, seed=0)
    for value, chance in ((found.to_caption, found.chance), (found.to_picture5, found.chance5)):
        deviation = math.sqrt(chance * (1 - chance) / 2000)
        assert abs(value.value - chance) < 4 * deviation
    assert (found.chance, found.chance5) == (pytest.approx(1 / 40), pytest.approx(5 / 40))


def test_one_way_is_not_the_other():
    # Every picture's own caption is its nearest, yet the last caption's nearest picture is another's.
    pictures = torch.eye(3)
    captions = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.6, 0, 0.5]])
    found = recall([gallery(pictures, captions)], seed=0)
    assert found.to_caption.value == 1
    assert found.to_picture.value == pytest.approx(2 / 3)
    assert found.to_picture5.value == 1


def test_places_count_who_stands_before():
    queries, answers = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    others = torch.tensor([[0.9, 0.0], [0.7, 0.0], [0.1, 0.0]])
    many = torch.cat([answers, others])
    assert places(queries.expand(4, -1), many)[0] == 2


def test_one_answer_for_everything_is_worth_nothing():
    same = torch.ones(10, 4)
    assert recall([gallery(random_units(0, 10, 4), same)], seed=0).to_caption5.value == 0
    assert recall([gallery(same * math.nan, same)], seed=0).to_caption5.value == 0


def test_a_gallery_of_one_is_no_question():
    with pytest.raises(ValueError, match="at least two"):
        recall([gallery(torch.ones(1, 2), torch.ones(1, 2))], seed=0)
    with pytest.raises(ValueError, match="at least one"):
        recall([], seed=0)


def test_galleries_hold_only_what_is_held_out_and_no_caption_twice(clip: Clip):
    held_out = {
        str(record.facts["hexcode"])
        for record in read_folder(sample_dir()).records
        if record.facts["split"] == "concept"
    }
    found = list(galleries(clip, ClipTokenizer(600), sample_dir()))
    assert len(found) > 1
    assert {concept for shown in found for concept in shown.concepts} == held_out
    for shown in found:
        assert len(set(shown.concepts)) == len(shown.concepts) == len(shown.captions.unique(dim=0))
        assert torch.allclose(shown.pictures.norm(dim=1), torch.ones(len(shown.concepts)))


def test_the_same_model_gets_the_same_numbers(clip: Clip):
    first, second = (clip_retrieval(clip, ClipTokenizer(600), sample_dir()) for _ in range(2))
    assert first == second


def test_a_folder_that_holds_nothing_out(clip: Clip, tmp_path: Path):
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "captions": ["a"], "split": "train"}\n')
    source = read_folder(sample_dir()).records[0].file
    (tmp_path / "a.png").write_bytes(source.read_bytes())
    with pytest.raises(LimnerError, match="concept"):
        clip_retrieval(clip, ClipTokenizer(600), tmp_path)
