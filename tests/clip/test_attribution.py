"""Integrated gradients: completeness, nothing for nothing, the integral itself, and sides of a picture."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig, integrated_gradients, unit
from limner.data.sample import sample_dir

SHALLOW = VisionConfig(resolution=12, patch=4, width=16, layers=2, heads=2)


def tower(vision: VisionConfig) -> Clip:
    torch.manual_seed(0)
    config = ClipConfig(
        vision=vision,
        text=TextConfig(context=9, vocabulary=40, width=8, layers=1, heads=2),
        embedding=8,
        activation="quick_gelu",
    )
    return Clip(config).double().eval().requires_grad_(False)


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    picture = torch.rand(3, 12, 12, dtype=torch.float64) * 2 - 1
    return picture, torch.ones_like(picture), unit(torch.randn(8, dtype=torch.float64))


@pytest.mark.parametrize("vision", [SHALLOW, replace(SHALLOW, layout=3)], ids=["plain", "layout"])
def test_all_patches_together_are_what_the_picture_has_over_the_blank(vision):
    clip, (picture, blank, words) = tower(vision), drawn()
    found = integrated_gradients(clip, picture, words, blank=blank)
    assert found.patches.shape == (3, 3)
    for pixels, score in ((picture, found.score), (blank, found.blank)):
        assert float(unit(clip.encode_image(pixels[None]).pooled)[0] @ words) == pytest.approx(score)
    assert abs(found.score - found.blank) > 0.01
    assert float(found.patches.sum()) == pytest.approx(found.score - found.blank, abs=1e-6)


def test_patches_that_are_as_in_the_blank_have_no_part_in_it():
    clip, (picture, blank, words) = tower(SHALLOW), drawn()
    picture[:, 4:8, 8:] = blank[:, 4:8, 8:]
    found = integrated_gradients(clip, picture, words, blank=blank).patches
    assert found[1, 2] == 0
    assert (found != 0).sum() == 8


def test_the_integral_is_that_of_a_thousand_small_steps():
    clip, (picture, blank, words) = tower(replace(SHALLOW, layout=3)), drawn()
    found = integrated_gradients(clip, picture, words, blank=blank).patches
    way = (torch.arange(1000, dtype=torch.float64) + 0.5).view(-1, 1, 1, 1) / 1000
    points = (blank + way * (picture - blank)).requires_grad_()
    (unit(clip.encode_image(points).pooled) @ words).sum().backward()
    shares = (points.grad.mean(dim=0) * (picture - blank)).sum(dim=0)
    expected = torch.stack(
        [shares[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].sum() for r in range(3) for c in range(3)]
    )
    torch.testing.assert_close(found, expected.view(3, 3), atol=1e-5, rtol=0)


def test_a_caller_that_keeps_no_gradients_gets_the_same():
    clip, (picture, blank, words) = tower(SHALLOW), drawn()
    with torch.no_grad():
        there = integrated_gradients(clip, picture, words, blank=blank)
    assert torch.equal(there.patches, integrated_gradients(clip, picture, words, blank=blank).patches)


@pytest.mark.parametrize(
    ("left", "right"), [("red apple", "cat"), ("sun", "red heart"), ("rocket", "dog face")]
)
def test_the_shipped_clip_looks_where_the_thing_is(left, right):
    from limner.data.words import named
    from limner.pipelines import explain
    from limner.pipelines.pictures import open_picture

    rows = map(json.loads, (sample_dir() / "captions.jsonl").read_text().splitlines())
    files = {row["name"]: sample_dir() / row["file"] for row in rows if row["style"] == "twemoji"}
    scene = Image.new("RGBA", (128, 128), "white")
    for place, name in enumerate((left, right)):
        thing = open_picture(files[name])
        scene.paste(thing, (64 * place, 32), thing)
    for place, name in enumerate((left, right)):
        found = explain(named(name), scene)
        halves = found.patches[:, :4].sum(), found.patches[:, 4:].sum()
        assert halves[place] > max(0, halves[1 - place]), name
        assert found.patches.sum() == pytest.approx(found.score - found.blank, abs=1e-4)
