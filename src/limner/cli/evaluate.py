"""`limner evaluate`: numbers on what training has not seen, and a sheet that nobody picked."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from limner.cli.places import DRAWINGS, JUDGE, try_folder, try_writing
from limner.cli.progress import progress
from limner.pipelines.settings import Precision, TokenSettings, candidates_for, checked_arithmetic

if TYPE_CHECKING:
    from PIL import Image

    from limner.pipelines import DfGan, Glide
    from limner.pipelines.progress import Tick

Study = Literal[
    "solvers",
    "guidance",
    "inpainting",
    "likelihood",
    "enlarging",
    "edits",
    "priors",
    "diversity",
    "classifiers",
]
# Whose pictures a study is of, where it is of a painter's.
OF: dict[Study, Literal["dalle2", "glide"]] = {
    "solvers": "glide",
    "guidance": "glide",
    "inpainting": "glide",
    "likelihood": "glide",
    "enlarging": "dalle2",
    "edits": "dalle2",
    "priors": "dalle2",
    "diversity": "dalle2",
}
# Studies of dalle2 that paint in whatever precision is asked for.
EITHER_PRECISION: tuple[Study, ...] = ("priors", "diversity")

HELP = """Measure a painter, or the autoencoders, on what they have not seen.
  limner evaluate --data emoji --judge runs/judge --out report
  limner evaluate --model dalle1 --candidates 16 --data emoji --judge runs/judge --out report
  limner evaluate --reranking --model dalle1 --data emoji --judge runs/judge --out report
  limner evaluate --reconstructions --data emoji --judge runs/judge --out report
  limner evaluate --study solvers --model glide --names 100 --data emoji --judge runs/judge --out report
  limner evaluate --study likelihood --model glide --data emoji --out report
  limner evaluate --study enlarging --names 100 --data vector --judge runs/judge --out report
  limner evaluate --study classifiers --data pairs --weights runs/classifiers --out report
  limner evaluate --suite emoji600 --model glide --data emoji --judge runs/judge --out report
  limner evaluate --sheet sheet.png
  limner evaluate --sheet large.png --full-size"""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The options of `limner evaluate`."""

    model: Literal["dalle2", "dalle1", "dfgan", "glide"] = "dalle2"
    """Which painter."""
    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The folder that was trained on; what it holds out is what is asked for."""
    judge: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """A trained recogniser, which shares neither weights nor pictures with the painter."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Where the report and the pictures go."""
    sheet: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None
    """Where to lay out 64 prompts that were chosen before anything was painted."""
    full_size: bool = False
    """dalle2: lay out eight of them instead, each as large as it can be painted, 1024 pixels a side."""
    reconstructions: bool = False
    """Instead of a painter: what vae, vqvae, vqvae2 and dvae give back of pictures they have not seen."""
    reranking: bool = False
    """dalle1, instead: how often the best of 1, 4, 16 and 64 candidates is recognised, as a plot."""
    suite: Annotated[Literal["emoji600"] | None, arg(help_behavior_hint="")] = None
    """Instead: the fixed evaluation, 600 prompts that never change, of any painter at its smallest size."""
    study: Annotated[Study | None, arg(help_behavior_hint="")] = None
    """glide, instead: samplers by their evaluations; both guidances by their scale; inpainting; and
    likelihood, which compares it with the VAE and Glow and needs no --judge. dalle2: enlarging, the second
    upsampler beside bicubic and Lanczos on drawings of 1024 pixels; edits, pictures that are given back and
    changed with words; priors, what each imagines and costs; and diversity, beside the glide that ships.
    classifiers: of no painter and without --judge, those in the folders mlp and transformer of --weights."""
    names: Annotated[int, arg(metavar="N")] = 300
    """How many names to ask for."""
    count: Annotated[int, arg(metavar="N")] = 1
    """Pictures of each."""
    candidates: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: as count)")] = None
    """dalle1: how many to paint of each prompt; CLIP keeps the best."""
    seed: int = 0
    """All chance comes from it."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: a painter's folder, as `limner train` leaves it, or one with autoencoders or
    classifiers."""
    precision: Precision = "fp32"
    """glide, the suite, and the studies priors and diversity: bf16 multiplies in half precision, which is
    faster where the processor can."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Paint the sheet if asked to, measure if asked to, print where each is."""
        self._check_options()
        if self.study is not None:
            print(self._study(self.study))
            return
        if self.suite is not None:
            if (places := self._places()) is None:
                raise ValueError(f"suite is '{self.suite}': give --data, --judge and --out")
            print(self._suite(*places))
            return
        if (places := self._places()) is None and self.sheet is None:
            raise ValueError("nothing is asked for: give --sheet PNG, or --data, --judge and --out")
        if self.reconstructions or self.reranking:
            if places is None or self.sheet is not None:
                name = "reconstructions" if self.reconstructions else "reranking"
                raise ValueError(
                    f"{name} needs --data, --judge and --out, and paints no sheet: give all three, and "
                    "--sheet in a call of its own"
                )
            print(self._reconstruct(*places) if self.reconstructions else self._rerank(*places))
            return
        if self.sheet is not None:
            if self.sheet.is_dir() or self.sheet.suffix.lower() != ".png":
                raise ValueError(f"sheet is '{self.sheet}': give a name that ends in .png")
            try_writing(self.sheet.parent, "--sheet")
            print(self._paint(self.sheet))
        if places is not None:
            print(self._measure(*places))

    def _check_options(self) -> None:
        """What cannot be asked for, before anything heavy is loaded."""
        if self.names < 1:
            raise ValueError(f"names is {self.names}: give a whole number from 1")
        if self.full_size and (self.model != "dalle2" or self.sheet is None):
            raise ValueError(
                "full_size is for the sheet that dalle2 paints: give --sheet PNG, with model dalle2"
            )
        if self.reconstructions and self.reranking:
            raise ValueError("reconstructions and reranking are reports of their own: ask for one of them")
        if self.suite is not None:
            self._check_suite()
        elif self.model != "glide" and self.precision != "fp32" and self.study not in EITHER_PRECISION:
            raise ValueError(
                f"precision is '{self.precision}', which only glide is measured in, the suite, and the "
                f"studies {' and '.join(EITHER_PRECISION)}: leave it out"
            )
        if self.study is not None:
            whose = OF.get(self.study, "dalle2")
            if self.study == "classifiers" and (self.model != whose or self.judge is not None):
                raise ValueError("study is 'classifiers', of no painter and no judge: leave both out")
            if self.model != whose:
                raise ValueError(f"study is '{self.study}', of what {whose} paints: add --model {whose}")
            if self.sheet is not None or self.count != 1:
                raise ValueError("a study paints no --sheet and sets --count itself: leave them out")
            if self.reconstructions or self.reranking:
                name = "reconstructions" if self.reconstructions else "reranking"
                raise ValueError(f"{name} is a report of its own: leave it or --study out")
            if self.study == "likelihood" and self.precision != "fp32":
                raise ValueError("precision is 'bf16', too coarse for likelihoods: leave it out")
        if self.reconstructions and self.model != "dalle2":
            raise ValueError(f"model is '{self.model}': reconstructions are of no painter, so leave it out")
        if self.model != "dalle1":
            if self.candidates is not None:
                raise ValueError(
                    f"candidates is {self.candidates}, of which only dalle1 knows: leave it out, or add "
                    "--model dalle1"
                )
            if self.reranking:
                raise ValueError("reranking is of what dalle1 paints: add --model dalle1")
        if self.reranking:
            for name, given, usual in (("count", self.count, 1), ("candidates", self.candidates, None)):
                if given != usual:
                    raise ValueError(f"{name} is {given}: reranking sets it itself, so leave it out")
        # The prompts are ours, and any stands for them: what may be wrong is count, seed or candidates.
        candidates_for("a name", count=self.count, seed=self.seed, of=self._settings().candidates)

    def _check_suite(self) -> None:
        """The suite is the same for all: nothing but painter, seed and arithmetic may be chosen."""
        other = {
            "study": self.study is not None,
            "reconstructions": self.reconstructions,
            "reranking": self.reranking,
            "sheet": self.sheet is not None,
            "names": self.names != Evaluate.names,
            "count": self.count != Evaluate.count,
            "candidates": self.candidates is not None,
        }
        for name, given in other.items():
            if given:
                raise ValueError(f"suite is '{self.suite}', which knows of no {name}: leave it out")
        checked_arithmetic(self.model, precision=self.precision, compile=False)

    def _settings(self) -> TokenSettings:
        return TokenSettings(candidates=self.candidates)

    def _places(self) -> tuple[Path, Path, Path] | None:
        """Data, judge and out, which are given together or not at all; each is where it should be."""
        if self.data is None and self.judge is None and self.out is None:
            return None
        if self.data is None or self.judge is None or self.out is None:
            raise ValueError("data, judge and out belong together: give all three, or --sheet alone")
        try_folder("data", self.data, DRAWINGS)
        try_folder("judge", self.judge, JUDGE)
        try_writing(self.out)
        return self.data, self.judge, self.out

    def _paint(self, sheet: Path) -> Path:
        from limner.evaluation.sheet import contact_sheet, full_sheet

        with progress() as on_tick:
            lay_out = full_sheet if self.full_size else contact_sheet
            return lay_out(lambda prompts: self._painted(prompts, on_tick), sheet)

    def _painted(self, prompts: Sequence[str], on_tick: Callable[["Tick"], None]) -> list["Image.Image"]:
        """One picture of each prompt."""
        from limner.pipelines import load

        if self.model == "dalle1":
            dalle1 = load("dalle1", weights=self.weights, device=self._device())
            return dalle1.paint(prompts, seed=self.seed, settings=self._settings(), on_tick=on_tick)
        if self.model == "glide":
            glide = self._glide()
            return glide.paint(prompts, seed=self.seed, on_tick=on_tick)
        if self.model == "dfgan":
            return self._dfgan().paint(prompts, seed=self.seed, on_tick=on_tick)
        dalle2 = load("dalle2", weights=self.weights, device=self._device())
        size = dalle2.sizes[-1] if self.full_size else None
        return dalle2.paint(prompts, size=size, seed=self.seed, on_tick=on_tick)

    def _measure(self, data: Path, judge: Path, out: Path) -> Path:
        from limner.evaluation.report import of_dalle1, of_dalle2, of_dfgan, of_glide
        from limner.pipelines import load

        if self.model == "dalle1":
            return of_dalle1(
                load("dalle1", weights=self.weights, device=self._device()),
                data,
                judge,
                out,
                names=self.names,
                seed=self.seed,
                count=self.count,
                settings=self._settings(),
            )
        if self.model == "dfgan":
            return of_dfgan(
                self._dfgan(),
                data,
                judge,
                out,
                names=self.names,
                seed=self.seed,
                count=self.count,
            )
        if self.model == "glide":
            return of_glide(
                self._glide(),
                data,
                judge,
                out,
                names=self.names,
                seed=self.seed,
                count=self.count,
            )
        return of_dalle2(
            load("dalle2", weights=self.weights, device=self._device()),
            data,
            judge,
            out,
            names=self.names,
            seed=self.seed,
            count=self.count,
        )

    def _suite(self, data: Path, judge: Path, out: Path) -> Path:
        from limner.evaluation import suite
        from limner.pipelines import load

        if self.model == "dalle1":
            dalle1 = load("dalle1", weights=self.weights, device=self._device())
            return suite.run(dalle1, data, judge, out, model=self.model, seed=self.seed)
        if self.model == "dfgan":
            return suite.run(self._dfgan(), data, judge, out, model=self.model, seed=self.seed)
        if self.model == "glide":
            return suite.run(self._glide(), data, judge, out, model=self.model, seed=self.seed)
        dalle2 = load("dalle2", weights=self.weights, device=self._device(), precision=self.precision)
        return suite.run(dalle2, data, judge, out, model=self.model, seed=self.seed)

    def _study(self, study: Study) -> Path:
        from limner.evaluation import (
            classifiers,
            diversity,
            edits,
            enlarging,
            guidance,
            inpainting,
            likelihood_table,
            priors,
            solvers,
        )
        from limner.pipelines import load, load_generator

        if study == "classifiers":
            if self.data is None or self.out is None or self.weights is None:
                raise ValueError("classifiers needs --data, --weights and --out: give all three")
            try_folder("data", self.data, "give what `limner data pairs --out DIR` leaves")
            trained = "give one that holds mlp and transformer, each OUT of `limner train classifier`"
            try_folder("weights", self.weights, trained)
            try_writing(self.out)
            return classifiers.run(self.weights, self.data, self.out, seed=self.seed, device=self._device())
        if study == "likelihood":
            if self.judge is not None:
                raise ValueError(f"judge is '{self.judge}': nobody is asked here, so leave it out")
            if self.data is None or self.out is None:
                raise ValueError("likelihood needs --data and --out: give both")
            try_folder("data", self.data, DRAWINGS)
            try_writing(self.out)
            generators = [load_generator(name, device=self._device()) for name in ("vae", "glow")]
            glide = self._glide()
            return likelihood_table.run(generators, glide, self.data, self.out, seed=self.seed)
        if (places := self._places()) is None:
            raise ValueError(f"study is '{study}': give --data, --judge and --out")
        if OF[study] == "dalle2":
            painter = load("dalle2", weights=self.weights, device=self._device(), precision=self.precision)
            if study == "diversity":
                glide = load("glide", device=self._device(), precision=self.precision)
                return diversity.run(painter, glide, *places, names=self.names, seed=self.seed)
            measure = {"enlarging": enlarging.run, "edits": edits.run, "priors": priors.run}[study]
            return measure(painter, *places, names=self.names, seed=self.seed)
        run = {"solvers": solvers.run, "guidance": guidance.run, "inpainting": inpainting.run}[study]
        return run(self._glide(), *places, names=self.names, seed=self.seed)

    def _dfgan(self) -> "DfGan":
        from limner.pipelines import load

        return load("dfgan", weights=self.weights, device=self._device())

    def _glide(self) -> "Glide":
        from limner.pipelines import load

        return load("glide", weights=self.weights, device=self._device(), precision=self.precision)

    def _rerank(self, data: Path, judge: Path, out: Path) -> Path:
        from limner.evaluation import reranking
        from limner.pipelines import load

        painter = load("dalle1", weights=self.weights, device=self._device())
        return reranking.run(painter, data, judge, out, names=self.names, seed=self.seed)

    def _reconstruct(self, data: Path, judge: Path, out: Path) -> Path:
        from limner.evaluation import reconstructions
        from limner.pipelines.autoencoders import load_autoencoders

        models, absent = load_autoencoders(self.weights, device=self._device())
        if absent:
            warnings.warn(f"no weights for {', '.join(absent)}: measuring the others", stacklevel=2)
        return reconstructions.run(
            models, data, judge, out, absent=absent, seed=self.seed, device=self._device()
        )

    def _device(self) -> str:
        from limner.pipelines.devices import device_named

        return str(device_named(self.device))
