"""Does a stranger recognise what the toy line paints, minutes after it knew nothing?

    python benchmarks/toy_line.py --out runs/toy

Trains CLIP, prior, decoder and upsampler on the shipped sample, and a judge on drawings and with eyes that
the line has never had, paints every name that the judge knows, and says how often it answers that name: in
times of what guessing reaches. OUT/toy_line.json holds the figures. With --resume, what is trained already is
only painted from.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

import limner
from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.data.words import named
from limner.evaluation.recognition import load_judge
from limner.recipes import line, recogniser

# The two of the sample's four styles that are drawn in plain shapes, as 32 pixels can show them.
STYLES = ("Twemoji", "flat")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Train the toy line and have it judged."""

    out: Path
    """Where the runs go."""
    count: int = 2
    """Pictures of each name in each style."""
    resume: bool = False
    """Go on with what is in OUT."""


def main(asked: Benchmark) -> None:
    """Train, paint, judge, print."""
    console = Console()
    began = time.perf_counter()
    trained = line.run(
        line.toy(), folders=[sample_dir()], share=None, out=asked.out, resume=asked.resume, device="cpu"
    )
    seconds = time.perf_counter() - began
    console.print(f"the line was trained in {seconds:.0f} s")
    recogniser.run(
        recogniser.toy(),
        folders=[sample_dir("judge")],
        out=asked.out / "judge",
        resume=asked.resume,
        device="cpu",
    )
    judge, painter = load_judge(asked.out / "judge", device="cpu"), limner.load("dalle2", weights=trained)
    drawn = {str(record.facts["name"]) for record in read(sample_dir()).records}
    names = [name for name in judge.names if name in drawn]
    prompts = [f"{named(name)}, {style} style" for style in STYLES for name in names]
    times_chance: dict[int, float] = {}
    for size in painter.sizes:
        pictures = painter.paint(prompts, count=asked.count, size=size, seed=0)
        found = judge(pictures, [name for _ in STYLES for name in names for _ in range(asked.count)])
        times_chance[size] = found.top1.value / found.chance1
        console.print(
            f"{size} pixels: {found.top1.value:.1%} of {len(pictures)} recognised among {len(judge.names)} "
            f"names, {times_chance[size]:.1f} times chance"
        )
    measured = {"seconds": seconds, "times_chance": times_chance}
    (asked.out / "toy_line.json").write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
