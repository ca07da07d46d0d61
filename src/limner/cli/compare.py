"""`limner compare`: the same words to every painter, the same measures of all, one report."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from limner.cli.places import DRAWINGS, JUDGE, try_folder, try_writing
from limner.comparison.entrants import ARTICLE, Entrant, entrants, placed
from limner.comparison.prompts import HELD_OUT, checked
from limner.pipelines.settings import MOST_PICTURES, Precision, checked_seed, checked_whole

HELP = """Paint the same words with several painters and measure all of them alike, as one HTML report.
  limner compare --models dalle1,glide,dalle2 --prompts prompts.txt --count 4 --out comparison
  limner compare --data emoji --judge runs/judge --out comparison
  limner compare --models dalle1,dalle1:reranked,dalle2:autoregressive --most 20 --count 2 --out comparison
  limner compare --models dfgan=runs/dfgan/line,glide --prompts emoji600:pair --data emoji --out comparison"""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """The options of `limner compare`."""

    models: Annotated[str, arg(metavar="A,B", help_behavior_hint="(default: the article's)")] = ARTICLE
    """Who paints, with commas between: dfgan, dalle1, glide and dalle2, a variant after a colon
    (dfgan:truncated, dalle1:reranked, glide:clip, glide:both, dalle2:autoregressive, dalle2:none), and
    weights of your own after an equals sign, as in dalle2:autoregressive=runs/mine/line."""
    prompts: Annotated[str, arg(metavar="FILE")] = HELD_OUT
    """A text file with a prompt a line, or a list that is built in: held-out, what training has seen in no
    picture; emoji600, the fixed evaluation; or a group of it, such as emoji600:pair."""
    count: Annotated[int, arg(metavar="N")] = 8
    """Pictures of each prompt."""
    most: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """Only the first so many prompts; of a built-in list, of its groups in turn."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("comparison")
    """Where pictures and report go. The same call again goes on where it was."""
    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Real pictures: the folder that was trained on. Without it nothing is measured beside real ones."""
    judge: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """A trained recogniser. Without it nothing is recognised, and the score is of ImageNet's names."""
    clip: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: what ships)")] = None
    """A CLIP to score with, limner's own or as others released it; the one that ships also paints."""
    inception: bool = False
    """Measure Inception's features as well, by torch-fidelity, which fetches their weights."""
    blur: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Radii at which blurred pictures are measured, in pixels of a picture of 256; 0 for none."""
    most_real: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """How many real pictures of --data to compare with, chosen by hash; near-copies are of all of them."""
    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the largest of all)")] = (
        None
    )
    """Pixels a side; by default the most that everybody paints."""
    seed: int = 0
    """All chance comes from it."""
    page: Annotated[Path | None, arg(metavar="MD", help_behavior_hint="(default: none)")] = None
    """A Markdown file to write the report to as well, with its pictures in a folder of its name beside it."""
    precision: Precision = "fp32"
    """glide and dalle2: bf16 multiplies in half precision, which is faster where the processor can."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Refuse what cannot be compared, paint, measure, print where the report is."""
        everybody = self._checked()
        from limner.comparison.prompts import asked
        from limner.comparison.run import Plan, run
        from limner.pipelines.devices import device_named

        plan = Plan(
            entrants=everybody,
            asked=asked(self.prompts, most=self.most),
            count=self.count,
            size=self.size,
            seed=self.seed,
            data=self.data,
            judge=self.judge,
            clip=self.clip,
            inception=self.inception,
            radii=tuple(sorted({radius for radius in self.blur if radius})),
            most_real=self.most_real,
            precision=self.precision,
            device=str(device_named(self.device)),
            command=self.command(),
        )
        print(run(plan, self.out, page=self.page))

    def _checked(self) -> tuple[Entrant, ...]:
        """Who paints; whatever is wrong is said before anything heavy is loaded."""
        found = entrants(self.models)
        checked_whole("count", self.count, 1, MOST_PICTURES)
        checked_seed(self.seed, self.count)
        checked(self.prompts, most=self.most)
        for name, folder, remedy in (("data", self.data, DRAWINGS), ("judge", self.judge, JUDGE)):
            if folder is not None:
                try_folder(name, folder, remedy)
        if self.most_real is not None:
            if self.data is None:
                raise ValueError(f"most_real is {self.most_real}, and there is no --data: leave it out")
            checked_whole("most_real", self.most_real, 5, 10**9)
        for radius in self.blur:
            if not 0 <= radius <= 64:
                raise ValueError(f"blur holds {radius}: give radii from 0 to 64")
        if self.page is not None:
            if self.page.suffix != ".md" or self.page.is_dir():
                raise ValueError(f"page is '{self.page}': give a name that ends in .md")
            try_writing(self.page.parent, "--page")
        try_writing(self.out)
        placed(found)
        return found

    def command(self) -> str:
        """How this was asked for, in full where it is not as usual."""
        usual = Compare()
        words = ["limner", "compare", "--models", self.models, "--prompts", self.prompts]
        words += ["--count", str(self.count), "--out", str(self.out)]
        for name in ("most", "data", "judge", "clip", "most_real", "size", "seed", "page", "precision"):
            if (given := getattr(self, name)) != getattr(usual, name):
                words += [f"--{name.replace('_', '-')}", str(given)]
        if self.inception:
            words.append("--inception")
        if self.blur != usual.blur:
            words += ["--blur", *(f"{radius:g}" for radius in self.blur)]
        return shlex.join(words)
