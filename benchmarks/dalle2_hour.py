"""limner's own DALL-E 2 from nothing in about as many minutes as `peer_dalle2.py` gives to DALLE2-pytorch.

    python benchmarks/dalle2_hour.py --out runs/hour
    limner evaluate --suite emoji600 --weights runs/hour/line --data data/emoji --judge runs/judge

The `small` recipes of prior and decoder with fewer steps, one thread, and the shipped CLIP and upsampler: the
same pictures, captions and embeddings of them as the peer has. The decoder is told nothing that was imagined,
which would take half an hour to imagine. Minutes are of processor time; those of reading pictures by CLIP are
not counted, as with the peer, those of reading captions are; those before a `--resume` were told then.
"""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from limner.recipes import decoder, prior
from limner.weights import shipped


@dataclass(frozen=True, kw_only=True)
class Hour:
    """How the minutes are spent."""

    out: Path
    """Where runs and the finished line go."""
    data: tuple[Path, ...] = (Path("data/emoji"), Path("data/colours"), Path("data/scenes"))
    """Folders of captioned pictures."""
    share: tuple[float, ...] = (60, 25, 15)
    """How much of every batch each folder gets."""
    by_heart: int = 11_000
    """Steps of the prior's trunk alone."""
    whole: int = 100
    """Steps of the whole prior."""
    sketch: int = 10_000
    """Steps of the decoder's sketch."""
    steps: int = 2000
    """Steps of the decoder's U-Net."""
    resume: bool = False
    """Go on where it was stopped."""


def main(asked: Hour) -> None:
    """Prior, then decoder; each says what it took."""
    torch.set_num_threads(1)
    clip = shipped("dalle2") / "clip"
    imagining, painting = prior.small(), decoder.small()
    assert imagining.by_heart is not None
    assert painting.sketch is not None
    # As it was when it ran beside the peer: a smaller trunk, and below a sketch that reads no captions and
    # makes a piece by a linear map of 64 numbers, so that a step is cheaper.
    assert imagining.model.trunk is not None
    imagining = replace(
        imagining,
        model=replace(imagining.model, trunk=replace(imagining.model.trunk, layers=3)),
        by_heart=replace(imagining.by_heart, steps=asked.by_heart),
        train=replace(imagining.train, steps=asked.whole, warmup=asked.whole // 5),
    )
    assert painting.model.sketch is not None
    plain = replace(painting.model.sketch, numbers=64, hidden=0, captioned=False)
    painting = replace(
        painting,
        model=replace(painting.model, sketch=plain),
        imagined=0.0,
        drop_caption=0.5,
        sketch=replace(painting.sketch, steps=asked.sketch),
        train=replace(painting.train, steps=asked.steps),
    )
    line = asked.out / "line"
    began = time.process_time()
    made = prior.run(
        imagining,
        folders=asked.data,
        share=asked.share,
        out=asked.out / "prior",
        resume=asked.resume,
        device="cpu",
        clip=clip,
    )
    shutil.copytree(made, line / "prior", dirs_exist_ok=True)
    print(f"prior: {(time.process_time() - began) / 60:.1f} min", flush=True)
    began = time.process_time()
    made = decoder.run(
        painting,
        folders=asked.data,
        share=asked.share,
        out=asked.out / "decoder",
        resume=asked.resume,
        device="cpu",
        clip=clip,
    )
    print(f"decoder: {(time.process_time() - began) / 60:.1f} min", flush=True)
    shutil.copytree(made, line / "decoder", dirs_exist_ok=True)
    for name in ("clip", "upsampler"):
        shutil.copytree(shipped("dalle2") / name, line / name, dirs_exist_ok=True)


if __name__ == "__main__":
    main(tyro.cli(Hour, description=__doc__))
