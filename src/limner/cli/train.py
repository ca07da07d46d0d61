"""`limner train`: any part, or the whole line, on folders of captioned pictures."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from tyro.conf import Positional, arg

from limner.cli.places import try_writing

Room = Literal[
    "clip",
    "prior",
    "prior-autoregressive",
    "decoder",
    "upsampler",
    "upsampler-1024",
    "line",
    "vae",
    "glow",
    "vqvae",
    "vqvae2",
    "dvae",
    "dalle1",
    "dfgan",
    "glide",
    "glide-base",
    "glide-upsampler",
    "noised-clip",
    "classifier",
    "recogniser",
]
R = TypeVar("R", bound=Any)
Size = Literal["toy", "small", "paper"]

# What a room takes besides what all of them do; clip and dvae are trained models that it stands on, and only
# the training of a single network can go on from weights of another.
TAKES: Mapping[Room, tuple[str, ...]] = {
    "clip": ("share", "init_from"),
    "prior": ("share", "init_from", "clip"),
    "prior-autoregressive": ("share", "init_from", "clip"),
    "decoder": ("share", "init_from", "clip", "prior"),
    "upsampler": ("share", "init_from"),
    "upsampler-1024": ("init_from",),
    "line": ("share",),
    "vae": ("share", "init_from"),
    "glow": ("share", "init_from"),
    "vqvae": ("share", "clip"),
    "vqvae2": ("share", "clip"),
    "dvae": ("share", "init_from"),
    "dalle1": ("share", "init_from", "dvae"),
    "dfgan": ("share", "init_from", "clip"),
    "glide": ("share", "clip", "decoder"),
    "glide-base": ("share", "init_from", "clip", "decoder"),
    "glide-upsampler": ("share", "init_from"),
    "noised-clip": ("share", "init_from"),
    "classifier": ("init_from", "clip", "kind"),
    "recogniser": (),
}
# These make do without such a model.
WITHOUT: Mapping[str, tuple[Room, ...]] = {
    "clip": ("vqvae", "vqvae2", "glide", "glide-base"),
    "decoder": ("glide", "glide-base"),
    "prior": ("decoder",),
}

# Where a room leaves the weights that its training may go on from, if not in OUT/model.
LEFT: Mapping[Room, str] = {
    "dalle1": "OUT/line/transformer",
    "glide-base": "OUT/paints/model",
    "glide-upsampler": "OUT/paints/model",
}

HELP = """Train a part, or the whole line, on captioned pictures.
  limner train line --size toy --data pictures --out runs/toy
  limner train clip --size small --data emoji --out runs/clip
  limner train dvae --size small --data emoji --out runs/dvae
  limner train dalle1 --size small --data emoji --dvae runs/dvae/model --out runs/dalle1
  limner train dfgan --size small --data emoji --clip runs/clip/model --out runs/dfgan
  limner train classifier --kind transformer --size small --data pairs --clip runs/clip/model --out runs/tells
  limner train clip --size toy --data emoji --out clip --resume
  limner train vae --size small --data mine --init-from runs/vae/model --steps 500 --out runs/mine"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """The options of `limner train`."""

    room: Positional[Room]
    """What to train; line is clip, prior, decoder and upsampler, glide its two networks and the CLIP that
    guides; they, dalle1 and dfgan then paint from OUT/line."""
    size: Size
    """toy takes minutes on a laptop, small hours; paper has the published sizes and wants many GPUs."""
    data: Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]")]
    """Folders of captioned pictures; `limner data check DIR` says what is in one."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Where the run goes: states to resume from, curve, samples, and the finished model."""
    share: Annotated[tuple[float, ...] | None, arg(metavar="X [X ...]", help_behavior_hint="")] = None
    """How much of every batch each folder gets. (default: as much as it has pictures)"""
    clip: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The trained CLIP that priors, decoder, classifier and dfgan stand on; with one, vqvae and vqvae2 know
    captions."""
    dvae: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The trained dVAE that dalle1 stands on."""
    init_from: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Trained weights to begin with, such as OUT/model of another run or one of those that ship."""
    decoder: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """glide and glide-base: a trained decoder of the same size to begin from, with the --clip that it stands
    on."""
    prior: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """decoder: a trained prior of the same --clip, whose imaginings it learns to paint beside true ones."""
    kind: Annotated[Literal["mlp", "transformer"] | None, arg(help_behavior_hint="")] = None
    """classifier: a shallow network on both embeddings, or a small transformer on both rows of tokens."""
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the recipe's)")] = None
    """How many steps to train."""
    learning_rate: Annotated[float | None, arg(metavar="X", help_behavior_hint="(default: the recipe's)")] = (
        None
    )
    """The highest learning rate, after warming up."""
    resume: bool = False
    """Go on with the run in OUT where it stopped."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""
    compile: bool = False
    """Have PyTorch compile the network: minutes to begin with (and a C++ compiler), then faster steps."""

    def run(self) -> None:
        """Refuse what cannot be trained, train, print where the result is."""
        if not self.data:
            raise ValueError("data is empty: give at least one folder of captioned pictures")
        for folder in self.data:
            if not folder.is_dir():
                raise ValueError(f"data is '{folder}', which is no folder: give one with captioned pictures")
        if self.share is not None and len(self.share) != len(self.data):
            raise ValueError(
                f"share is {len(self.share)} numbers for {len(self.data)} folders: give one for each"
            )
        if self.share is not None and not (min(self.share) >= 0 and 0 < sum(self.share) < float("inf")):
            raise ValueError(f"share is {self.share}: give finite numbers from 0, not all of them 0")
        self.check_stand("clip", self.clip)
        self.check_stand("dvae", self.dvae)
        self.check_stand("decoder", self.decoder)
        self.check_stand("prior", self.prior)
        if "decoder" in TAKES[self.room] and (self.clip is None) != (self.decoder is None):
            raise ValueError("clip and decoder belong together: give both, or neither")
        self.check_own()
        if self.kind is None and "kind" in TAKES[self.room]:
            raise ValueError("kind is missing: give mlp, for embeddings, or transformer, for tokens")
        if self.kind is not None and "kind" not in TAKES[self.room]:
            raise ValueError(f"kind is '{self.kind}', which a classifier has: leave it out")
        if self.room == "recogniser" and self.size == "paper":
            raise ValueError("size is 'paper': no paper describes the recogniser, so choose toy or small")
        if self.share is not None and "share" not in TAKES[self.room]:
            raise ValueError(
                f"share is {self.share}: the {self.room} sees all drawings alike, so leave it out"
            )
        if self.compile and self.device in ("auto", "cpu"):
            from limner.pipelines.devices import checked_compiler

            checked_compiler()
        try_writing(self.out)
        print(self.trained())

    def check_stand(self, name: str, folder: Path | None) -> None:
        """Refuse a model to stand on that is missing, of no use to the room, or none."""
        takes = name in TAKES[self.room]
        if folder is None:
            if takes and self.room not in WITHOUT.get(name, ()):
                title = {"clip": "CLIP", "dvae": "dVAE"}[name]
                raise ValueError(
                    f"{name} is missing: {self.room} stands on a trained {title}, so give its folder"
                )
        elif not takes:
            raise ValueError(f"{name} is '{folder}': {self.room} needs none, so leave it out")
        elif not (folder / "config.json").is_file():
            raise ValueError(
                f"{name} is '{folder}', which holds no trained model: give OUT/model of `limner train {name}`"
            )

    def check_own(self) -> None:
        """Refuse what is for one network where several are trained, and numbers that train none."""
        for name in ("init_from", "steps", "learning_rate"):
            if (given := getattr(self, name)) is not None and "init_from" not in TAKES[self.room]:
                raise ValueError(
                    f"{name} is {given}: `limner train {self.room}` does not take it, so leave it out"
                )
        if self.init_from is not None and not (self.init_from / "config.json").is_file():
            left = LEFT.get(self.room, "OUT/model")
            raise ValueError(
                f"init_from is '{self.init_from}', which holds no trained model: give {left} of "
                f"`limner train {self.room}`"
            )
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps}: give a whole number from 1")
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}: give a number above 0, such as 0.0003")

    def trained(self) -> Path:
        """Train by the room's recipe, which is a module with `run` and a function for each size."""
        from limner.pipelines.devices import device_named
        from limner.training.ending import stopped_between

        recipe = recipe_of(self.room)
        names = ("share", "init_from", "clip", "dvae", "decoder", "prior", "kind")
        given = {name: getattr(self, name) for name in names}
        asked = getattr(recipe, self.size)()
        if self.steps is not None:
            asked = of_steps(asked, self.steps)
        if self.learning_rate is not None:
            asked = of_rate(asked, self.learning_rate)
        # One of several processes is ended by whoever launched them.
        with stopped_between(heed=os.environ.get("WORLD_SIZE", "1") == "1"):
            trained: Path = recipe.run(
                compiled(asked) if self.compile else asked,
                folders=self.data,
                out=self.out,
                resume=self.resume,
                device=device_named(self.device).type,
                **{name: given[name] for name in TAKES[self.room]},
            )
        return trained


def recipe_of(room: Room) -> Any:
    """The module that trains it."""
    return import_module(f"limner.recipes.{room.replace('-', '_')}")


def of_rate(recipe: R, rate: float) -> R:
    """The recipe with this learning rate; those of other trainings in the same run are as much higher."""
    from limner.training import TrainConfig

    times = rate / recipe.train.learning_rate
    trainings = {
        field.name: replace(config, learning_rate=times * config.learning_rate)
        for field in fields(recipe)
        if isinstance(config := getattr(recipe, field.name), TrainConfig)
    }
    return replace(recipe, **trainings)


def of_steps(recipe: R, steps: int) -> R:
    """The recipe with so many steps: at most a tenth warm up, and its own schedules are as much shorter."""
    from limner.dvae import Ramp
    from limner.training import TrainConfig

    training = recipe.train
    shorter = replace(training, steps=steps, warmup=min(training.warmup, steps // 10))
    # A second training in the same run, such as GLIDE's to mend, keeps its share.
    others = {
        field.name: replace(
            other,
            steps=max(1, other.steps * steps // training.steps),
            warmup=min(other.warmup, max(1, other.steps * steps // training.steps) // 10),
        )
        for field in fields(recipe)
        if field.name != "train" and isinstance(other := getattr(recipe, field.name), TrainConfig)
    }
    ramps = {
        field.name: replace(ramp, steps=max(1, ramp.steps * steps // training.steps))
        for field in fields(recipe)
        if isinstance(ramp := getattr(recipe, field.name), Ramp)
    }
    return replace(recipe, train=shorter, **others, **ramps)


def compiled(recipe: R) -> R:
    """The recipe with `compile` set in each of its trainings, those of the recipes in it included."""
    from limner.training import TrainConfig

    if isinstance(recipe, TrainConfig):
        return replace(recipe, compile=True)
    inner = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    return replace(recipe, **{name: compiled(part) for name, part in inner.items() if is_dataclass(part)})
