"""CLIP's two trainings: both towers, then the captions' alone."""

from dataclasses import replace
from pathlib import Path

import torch

from limner import checkpoint
from limner.clip import ClipConfig
from limner.data.sample import sample_dir
from limner.recipes import clip


def trained(recipe: clip.ClipRecipe, out: Path, *, resume: bool = False) -> dict[str, torch.Tensor]:
    given = {"folders": [sample_dir()], "share": None, "out": out, "resume": resume, "device": "cpu"}
    return dict(checkpoint.load(clip.run(recipe, **given), ClipConfig)[1])


def test_captions_read_on_and_pictures_stay_where_they_are(tmp_path):
    toy = clip.toy()
    short = replace(toy.train, steps=2, batch=4, warmup=1, save_every=1, sample_every=2, rule="adamw")
    both = trained(replace(toy, train=short), tmp_path / "both")
    then = replace(toy, train=short, captions=replace(short, steps=3))
    after = trained(then, tmp_path / "after")
    for name, value in both.items():
        assert name.startswith("text.") or torch.equal(after[name], value), name
    assert any(not torch.equal(after[name], value) for name, value in both.items())
    assert len((tmp_path / "after" / "text" / "log.jsonl").read_text().splitlines()) == 3
    # What the pictures' tower saw is not looked at again by what comes next.
    digest = checkpoint.digest(tmp_path / "after" / "model")
    assert [path.name.split("_")[1] for path in (tmp_path / "after").glob("*.npy")] == [digest]
    # Killed before the captions' own training, and resumed.
    trained(replace(toy, train=short), tmp_path / "killed")
    again = trained(then, tmp_path / "killed", resume=True)
    for name, value in after.items():
        assert torch.equal(again[name], value), name
    # Resumed when all is done.
    once_more = trained(then, tmp_path / "killed", resume=True)
    for name, value in after.items():
        assert torch.equal(once_more[name], value), name
