"""`limner train`: any part, or the whole line, on folders of captioned pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from limner.cli.places import try_writing

Room = Literal["clip", "prior", "decoder", "upsampler", "recogniser", "line"]
Size = Literal["toy", "small", "paper"]

HELP = """Train a part, or the whole line, on captioned pictures.
  limner train line --size toy --data pictures --out runs/toy
  limner train clip --size small --data emoji --out runs/clip
  limner train clip --size toy --data emoji --out clip --resume"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """The options of `limner train`."""

    room: Positional[Room]
    """What to train; line is clip, prior, decoder and upsampler, then ready to paint from in OUT/line."""
    size: Size
    """toy takes minutes on a laptop, small hours; paper has the published sizes and wants many GPUs."""
    data: Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]")]
    """Folders of captioned pictures; `limner data check DIR` says what is in one."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Where the run goes: states to resume from, curve, samples, and the finished model."""
    share: Annotated[tuple[float, ...] | None, arg(metavar="X [X ...]", help_behavior_hint="")] = None
    """How much of every batch each folder gets. (default: as much as it has pictures)"""
    clip: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The trained CLIP that prior and decoder stand on."""
    resume: bool = False
    """Go on with the run in OUT where it stopped."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

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
        if self.room in STAND_ON_CLIP and self.clip is None:
            raise ValueError(f"clip is missing: {self.room} stands on a trained CLIP, so give its folder")
        if self.room not in STAND_ON_CLIP and self.clip is not None:
            raise ValueError(f"clip is '{self.clip}': {self.room} needs none, so leave it out")
        if self.room == "recogniser" and self.size == "paper":
            raise ValueError("size is 'paper': no paper describes the recogniser, so choose toy or small")
        if self.room == "recogniser" and self.share is not None:
            raise ValueError(f"share is {self.share}: the recogniser sees all drawings alike: leave it out")
        try_writing(self.out)
        print(ROOMS[self.room](self))

    def accelerator(self) -> str:
        """The device by its own name."""
        from limner.pipelines.devices import device_named

        return device_named(self.device).type


def _clip(wanted: Train) -> Path:
    from limner.recipes import clip as room

    sizes = {"toy": room.toy, "small": room.small, "paper": room.paper}
    return room.run(
        sizes[wanted.size](),
        folders=wanted.data,
        share=wanted.share,
        out=wanted.out,
        resume=wanted.resume,
        device=wanted.accelerator(),
    )


def _prior(wanted: Train) -> Path:
    from limner.recipes import prior as room

    assert wanted.clip is not None
    sizes = {"toy": room.toy, "small": room.small, "paper": room.paper}
    return room.run(
        sizes[wanted.size](),
        folders=wanted.data,
        share=wanted.share,
        out=wanted.out,
        resume=wanted.resume,
        device=wanted.accelerator(),
        clip=wanted.clip,
    )


def _decoder(wanted: Train) -> Path:
    from limner.recipes import decoder as room

    assert wanted.clip is not None
    sizes = {"toy": room.toy, "small": room.small, "paper": room.paper}
    return room.run(
        sizes[wanted.size](),
        folders=wanted.data,
        share=wanted.share,
        out=wanted.out,
        resume=wanted.resume,
        device=wanted.accelerator(),
        clip=wanted.clip,
    )


def _upsampler(wanted: Train) -> Path:
    from limner.recipes import upsampler as room

    sizes = {"toy": room.toy, "small": room.small, "paper": room.paper}
    return room.run(
        sizes[wanted.size](),
        folders=wanted.data,
        share=wanted.share,
        out=wanted.out,
        resume=wanted.resume,
        device=wanted.accelerator(),
    )


def _recogniser(wanted: Train) -> Path:
    from limner.recipes import recogniser as room

    return room.run(
        room.toy() if wanted.size == "toy" else room.small(),
        folders=wanted.data,
        out=wanted.out,
        resume=wanted.resume,
        device=wanted.accelerator(),
    )


def _line(wanted: Train) -> Path:
    from limner.recipes import line as room

    sizes = {"toy": room.toy, "small": room.small, "paper": room.paper}
    return room.run(
        sizes[wanted.size](),
        folders=wanted.data,
        share=wanted.share,
        out=wanted.out,
        resume=wanted.resume,
        device=wanted.accelerator(),
    )


ROOMS: Mapping[Room, Callable[[Train], Path]] = {
    "clip": _clip,
    "prior": _prior,
    "decoder": _decoder,
    "upsampler": _upsampler,
    "recogniser": _recogniser,
    "line": _line,
}
STAND_ON_CLIP = ("prior", "decoder")
