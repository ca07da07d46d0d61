"""How much memory does it take to score thirty thousand pictures?

    python benchmarks/scoring.py                                       # EfficientNet looks
    python benchmarks/scoring.py --eyes projection --neighbours 6000   # in minutes

Two sets of synthetic pictures, real and painted, pass by: each picture is made when it is asked for and gone
when it has been looked at. Of them stay running moments and the features of every picture. Then: Fréchet
distance of the running moments; the Inception-style score; CMMD; near-copies; and precision and recall of the
first so many `--neighbours`, whose blocks of distances are as large as those of all. `projection` looks
through a fixed random matrix at 16 × 16 pixels, with as many features as EfficientNet has: eyes that cost
nothing. The peak is the system's count of this process's memory.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image

from limner.evaluation.cmmd import cmmd
from limner.evaluation.copying import nearest
from limner.evaluation.coverage import covered
from limner.evaluation.eyes import Eyes, efficientnet, stream
from limner.evaluation.features import WIDTH, load_trunk
from limner.evaluation.frechet import frechet_distance
from limner.evaluation.frechet_interval import frechet_estimate
from limner.evaluation.inception_score import inception_score
from limner.evaluation.moments import Moments

SIDE, SMALL, CLASSES, EMBEDDING, TOGETHER = 64, 16, 300, 256, 512


@dataclass(frozen=True)
class Options:
    pictures: int = 30_000
    eyes: Literal["efficientnet", "projection"] = "efficientnet"
    neighbours: int | None = None
    intervals: bool = False


def synthetic(pictures: int, seed: int) -> Iterator[Image.Image]:
    """Blots of colour: a few random pixels, enlarged; those of another seed are a little darker."""
    for number in range(pictures):
        stream_of_one = np.random.default_rng((seed, number))
        pixels = stream_of_one.integers(0, 256 - 24 * seed, (4, 4, 3), dtype=np.uint8)
        yield Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def projection() -> Eyes:
    matrix = torch.randn(3 * SMALL**2, WIDTH, generator=torch.Generator().manual_seed(0)) / SMALL

    def see(images: Sequence[Image.Image]) -> torch.Tensor:
        small = [np.asarray(one.resize((SMALL, SMALL), Image.Resampling.BOX)).ravel() for one in images]
        return torch.from_numpy(np.stack(small)).float() / 255 @ matrix

    return Eyes("projection", "projection", WIDTH, see)


def peak() -> float:
    told = Path("/proc/self/status").read_text()
    return int(next(line for line in told.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1e6


def main(options: Options) -> None:
    eyes = projection() if options.eyes == "projection" else efficientnet(load_trunk(), side=SIDE)
    began = time.perf_counter()
    last = began

    def tell(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{what:44} {now - last:8.1f} s   peak {peak():5.2f} GB", flush=True)
        last = now

    tell("before")
    n = options.pictures
    kept, running = [], []
    for seed in (0, 1):
        moments, features, start = Moments(eyes.width), torch.empty(n, eyes.width), 0
        for some in stream(eyes, synthetic(n, seed), total=n):
            features[start : start + len(some)] = some
            start += len(some)
            if start % TOGETHER < len(some) or start == n:
                moments.add(features[moments.count : start])
        running.append(moments.gaussian())
        kept.append(features)
        tell(f"looked at {n} pictures, set {seed}")
    real, painted = kept
    distance = frechet_distance(*running)
    tell(f"Fréchet distance {distance:.4f}")
    if options.intervals:
        found = frechet_estimate(running[0], painted, [str(row // 8) for row in range(n)], seed=0)
        tell(f"with its interval {found.written(4)}")
    heads = [
        torch.randn(WIDTH, size, generator=torch.Generator().manual_seed(1)) for size in (CLASSES, EMBEDDING)
    ]
    score = inception_score((some @ heads[0]).softmax(dim=1) for some in painted.split(1000))
    tell(f"Inception-style score {score:.3f}")
    units = [torch.nn.functional.normalize(rows @ heads[1], dim=1) for rows in (real, painted)]
    tell(f"CMMD {cmmd(*units):.4f}")
    first = options.neighbours or n
    near = nearest(painted, real[:first])[0].max()
    tell(f"nearest of {first}: {float(near):.4f}")
    share = [
        float(covered(cloud[:first], points[:first]).float().mean())
        for cloud, points in ((real, painted), (painted, real))
    ]
    tell(f"precision {share[0]:.3f}, recall {share[1]:.3f} of {first}")
    print(f"{n} pictures, {eyes.width} features: {time.perf_counter() - began:.0f} s, peak {peak():.2f} GB")


if __name__ == "__main__":
    main(tyro.cli(Options))
