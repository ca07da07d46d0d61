"""What is computed from pictures once and kept is of these pictures and these weights, or is refused."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image

from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.dalle2.decoder import ClipTextConfig
from limner.dalle2.prior_diffusion import PriorConfig
from limner.data.loader import Gallery, open_gallery
from limner.recipes import clip as clips
from limner.recipes import decoder, line, prior
from limner.recipes.codes import coded
from limner.recipes.embeddings import embedded, load_clip
from limner.recipes.pictures import fingerprint

CLIP = ClipConfig(
    vision=VisionConfig(resolution=8, patch=4, width=16, layers=1, heads=2),
    text=TextConfig(context=32, vocabulary=600, width=24, layers=1, heads=2),
    embedding=16,
    activation="quick_gelu",
)


def reader(folder: Path, *, seed: int = 0) -> Path:
    """The folder of a CLIP that was never trained."""
    torch.manual_seed(seed)
    checkpoint.save(folder, Clip(CLIP).state_dict(), CLIP)
    return folder


def painted(folder: Path, *, seed: int) -> Path:
    """Four captioned pictures, of which two are transparent."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number in range(4):
        pixels = generator.integers(0, 256, (8, 8, 4), np.uint8)
        pixels[..., 3] = 255 if number % 2 else pixels[..., 3]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return painted(tmp_path / "pictures", seed=0)


def touched_up(folder: Path) -> None:
    """One picture changed, a second later."""
    path = folder / "0.png"
    before = path.stat()
    with Image.open(path) as opened:
        turned = opened.transpose(Image.Transpose.ROTATE_180)
    turned.save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


def read_by(clip: Path, folder: Path, out: Path) -> np.ndarray:
    gallery = open_gallery([folder], size=8)
    return embedded(load_clip(clip, "cpu"), gallery, weights=checkpoint.digest(clip), out=out)


def test_embeddings_are_of_this_clip_and_of_these_pictures(tmp_path, pictures):
    one, other = reader(tmp_path / "one"), reader(tmp_path / "other", seed=1)
    twins = painted(tmp_path / "twins", seed=1)  # as many, under the same names
    out, found = tmp_path / "run" / "prior", []
    for clip, folder in ((one, pictures), (other, pictures), (one, twins)):
        found.append(read_by(clip, folder, out))
        np.testing.assert_array_equal(found[-1], read_by(clip, folder, tmp_path / "alone" / folder.name))
    touched_up(pictures)
    found.append(read_by(one, pictures, out))
    assert len({kept.tobytes() for kept in found}) == len(list(out.iterdir())) == 4
    np.testing.assert_array_equal(found[3][1:], found[0][1:])  # of the other pictures nothing has changed


def test_codes_are_of_these_weights_and_of_these_pictures(tmp_path, pictures):
    def written(folder: Path, *, weights: str = "w") -> np.ndarray:
        return coded(encode, open_gallery([folder], size=8), weights=weights, out=tmp_path / "out")

    asked: list[int] = []

    def encode(batch: torch.Tensor) -> torch.Tensor:
        asked.append(len(batch))
        return rearrange((batch.mean(dim=1) * 100 + 100).long(), "b h w -> b (h w)")

    first = np.array(written(pictures))
    there = len(asked)
    np.testing.assert_array_equal(written(pictures), first)
    assert len(asked) == there  # kept
    assert not np.array_equal(written(painted(tmp_path / "twins", seed=1)), first)
    touched_up(pictures)
    changed = written(pictures)
    assert not np.array_equal(changed[0], first[0])
    np.testing.assert_array_equal(changed[1:], first[1:])
    written(pictures, weights="v")
    assert len(list((tmp_path / "out").glob("codes_*.npy"))) == 4


def test_a_gallery_is_known_by_its_size_order_and_grounds(pictures):
    gallery = open_gallery([pictures], size=8)
    turned = replace(gallery, records=gallery.records[::-1])
    recaptioned = tuple(replace(record, captions=("another",)) for record in gallery.records)
    others: list[Gallery] = [
        open_gallery([pictures], size=4),
        turned,
        # The first caption chooses the coloured grounds under a transparent picture.
        replace(gallery, records=recaptioned),
    ]
    assert fingerprint(gallery) == fingerprint(open_gallery([pictures], size=8))
    assert len({fingerprint(each) for each in (gallery, *others)}) == 4


def tiny_prior() -> prior.PriorRecipe:
    toy = prior.toy()
    model = replace(toy.model, embedding=16, text_width=24, context=32, width=16, layers=1, heads=2)
    return replace(toy, model=model, train=replace(toy.train, steps=2, batch=4, warmup=0))


def tiny_decoder() -> decoder.DecoderRecipe:
    toy = decoder.toy()
    unet = replace(toy.model.unet, multipliers=(1,), attention=(), context_width=8, patch=2, canvas=0)
    text = ClipTextConfig(width=24, embedding=16)
    model = replace(toy.model, resolution=8, embedding=16, text=text, unet=unet)
    return replace(toy, model=model, train=replace(toy.train, steps=2, batch=4, warmup=0, sample_every=2))


def run(
    room: Callable[..., Path], recipe: object, *, pictures: Path, out: Path, clip: Path, resume: bool = False
) -> Path:
    return room(recipe, folders=[pictures], share=None, out=out, resume=resume, device="cpu", clip=clip)


def test_a_decoder_takes_the_embeddings_of_the_prior_beside_it(tmp_path, pictures, monkeypatch, capsys):
    clip, runs = reader(tmp_path / "clip"), tmp_path / "runs"
    run(prior.run, tiny_prior(), pictures=pictures, out=runs / "prior", clip=clip)
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"too early to say: loss \S+ against .*, cosine \S+ against 0\.\d+ for the mean", said)
    rows = [json.loads(row) for row in (runs / "prior" / "log.jsonl").read_text().splitlines()]
    assert all({"cosine", "cosine_of_mean"} <= set(row) for row in rows)

    def looked(*_: object) -> None:
        raise AssertionError("looked at once more")

    with monkeypatch.context() as patched:
        patched.setattr(Clip, "encode_image", looked)
        run(decoder.run, tiny_decoder(), pictures=pictures, out=runs / "decoder", clip=clip)
        # Nor when a run goes on, wherever it is called from.
        patched.chdir(runs / "prior")
        run(prior.run, tiny_prior(), pictures=pictures, out=Path("."), clip=clip, resume=True)
    assert sorted(path.name for path in runs.iterdir()) == ["decoder", "prior"]
    assert len(list(runs.rglob("embeddings*"))) == 1
    # Alone, a run keeps them to itself, and nothing outside of it.
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir())
    run(decoder.run, tiny_decoder(), pictures=pictures, out=Path("r3"), clip=clip)
    assert set(os.listdir()) - before == {"r3"}
    assert len(list(Path("r3").glob("embeddings_*.npy"))) == 1


PRIOR = {"embedding": 32, "text_width": 32, "context": 31}
DECODER = {"embedding": 32, "text": ClipTextConfig(width=32, embedding=16)}


@pytest.mark.parametrize(
    ("room", "recipe", "changed"),
    [(prior, tiny_prior, {name: value}) for name, value in PRIOR.items()]
    + [(decoder, tiny_decoder, {name: value}) for name, value in DECODER.items()]
    + [(decoder, tiny_decoder, {"text": ClipTextConfig(width=24, embedding=32)})],
)
def test_a_clip_of_another_size_is_refused_before_anything_is_read(tmp_path, room, recipe, changed):
    clip, made = reader(tmp_path / "clip"), recipe()
    made = replace(made, model=replace(made.model, **changed))
    with pytest.raises(
        ValueError, match=rf"clip is '{clip}': its embeddings have 16 numbers, .* at the same --size"
    ):
        run(room.run, made, pictures=tmp_path / "none", out=tmp_path / "out", clip=clip)
    assert os.listdir(tmp_path) == ["clip"]


def test_a_decoder_that_reads_by_itself_is_refused(tmp_path):
    clip = reader(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"this decoder reads captions by itself, .* ClipTextConfig"):
        run(decoder.run, decoder.paper(), pictures=tmp_path / "none", out=tmp_path / "out", clip=clip)
    assert os.listdir(tmp_path) == ["clip"]


def test_a_prior_may_have_room_for_longer_captions(tmp_path, pictures):
    """As in the paper: its prior has 256 places, and its CLIP reads 77 tokens."""
    clip, made = reader(tmp_path / "clip"), tiny_prior()
    longer = replace(made, model=replace(made.model, context=40))
    assert run(prior.run, longer, pictures=pictures, out=tmp_path / "out", clip=clip).is_dir()


def test_training_goes_on_from_the_weights_that_are_given(tmp_path, pictures):
    clip, made = reader(tmp_path / "clip"), tiny_prior()
    still = replace(made, train=replace(made.train, steps=1, learning_rate=1e-30))
    first = run(prior.run, made, pictures=pictures, out=tmp_path / "first", clip=clip)
    again = prior.run(
        still,
        folders=[pictures],
        share=None,
        out=tmp_path / "again",
        resume=False,
        device="cpu",
        clip=clip,
        init_from=first,
    )
    (_, before), (_, after) = (checkpoint.load(folder, PriorConfig) for folder in (first, again))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
    other = replace(made, model=replace(made.model, scale=made.model.scale + 1))
    with pytest.raises(ValueError, match=rf"init_from is '{first}', of another network .*\(scale is "):
        prior.run(
            other,
            folders=[pictures],
            share=None,
            out=tmp_path / "other",
            resume=False,
            device="cpu",
            clip=clip,
            init_from=first,
        )


@pytest.mark.parametrize("size", ["toy", "small", "paper"])
def test_sizes_fit_the_clip_of_the_same_size(size):
    clip, model = getattr(clips, size)().model, getattr(prior, size)().model
    assert (clip.embedding, clip.text.width) == (model.embedding, model.text_width)
    assert clip.text.context <= model.context
    painter = getattr(decoder, size)().model
    assert clip.embedding == painter.embedding
    if size != "paper":
        assert painter.text == ClipTextConfig(width=clip.text.width, embedding=clip.embedding)


def test_one_process_alone_gathers_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("limner.distributed.dist.is_initialized", lambda: True)
    monkeypatch.setattr("limner.distributed.dist.get_rank", lambda: 1)
    assert line.assemble(tmp_path, tmp_path / "line") == tmp_path / "line"
    assert os.listdir(tmp_path) == []
