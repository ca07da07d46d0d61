"""Any checkpoint of the line, recognised by its tensors: opened, checked, and made one of limner's own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from limner import checkpoint
from limner.errors import LimnerError, on_disk
from limner.formats import (
    dalle2_pytorch,
    dalle2_pytorch_decoder,
    dalle_mini,
    dalle_pytorch,
    diffusers_unclip,
    glide,
    glide_clip,
    guided_diffusion,
    huggingface_clip,
    karlo,
    openai_clip,
    openai_dvae,
    rudalle,
    taming,
)
from limner.formats.contents import look
from limner.formats.files import not_finite
from limner.formats.format import Assumptions, Format, Opened, Part, listed
from limner.formats.pickles import BROKEN

FORMATS: tuple[Format, ...] = (
    openai_clip.FORMAT,
    huggingface_clip.FORMAT,
    huggingface_clip.TEXT,
    openai_dvae.FORMAT,
    glide.FORMAT,
    glide_clip.FORMAT,
    karlo.FORMAT,
    diffusers_unclip.FORMAT,
    diffusers_unclip.PRIOR,
    guided_diffusion.FORMAT,
    taming.FORMAT,
    taming.DETOKER_FORMAT,
    rudalle.FORMAT,
    dalle_mini.FORMAT,
    dalle2_pytorch.FORMAT,
    dalle2_pytorch_decoder.FORMAT,
    dalle_pytorch.FORMAT,
)
# What weights are kept as.
NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def opened(path: Path, assumptions: Assumptions | None = None) -> Opened:
    """What the checkpoint at a path is; tensors are views of the file but where two are put together.

    Raises LimnerError, naming the file, for one that is missing, damaged, refused or not recognised.
    """
    if checkpoint.is_ours(path):
        raise LimnerError(f"{path} is limner's own already: commands take it as it is, by --weights")
    with on_disk(path):
        contents = look(path)
    found = [one for one in FORMATS if one.fits(contents)]
    if not found and (own := _own(path)):
        raise LimnerError(
            f"{path} is limner's own already, with {', '.join(own)}: commands take it as it is, by --weights"
        )
    if not found and any(one.fits(file) for one in FORMATS for file in contents.each()):
        inside = [file.path for file in contents.each() if file.tensors]
        files = ", ".join(str(file.relative_to(path)) for file in inside)
        raise LimnerError(f"{path} holds several checkpoints, {files}: give the path of one of them")
    if not found:
        names = [name for one in contents.each() for name in one.tensors]
        known = ", ".join(one.name for one in FORMATS)
        says = f"its {len(names)} tensors begin with {listed(names)}" if names else "it holds no tensors"
        raise LimnerError(f"{path} is no format that limner knows ({known}): {says}")
    try:
        return found[0].read(contents, assumptions or Assumptions())
    except LimnerError as error:
        said = str(error)
        raise LimnerError(said if said.startswith(str(path)) else f"{path}: {said}") from error
    except BROKEN as error:
        raise LimnerError(
            f"{path} has names as {found[0].name} has them, and shapes that are none of its own "
            f"({error or type(error).__name__})"
        ) from error


def _own(path: Path) -> list[str]:
    """The parts of a line of limner's own."""
    return sorted(one.name for one in path.iterdir() if checkpoint.is_ours(one)) if path.is_dir() else []


def usable(found: Opened) -> Opened:
    """The same, if all of it came out even and is made of numbers; LimnerError says what is not."""
    complaints = list(found.complaints)
    for part in found.parts:
        state = part.taken.state
        if odd := [name for name, tensor in state.items() if not ordinary(name, tensor)]:
            complaints.append(f"{part.name}: no ordinary numbers in {listed(odd)}")
        elif broken := not_finite(state):
            complaints.append(f"{part.name}: not a finite number in {listed(broken)}")
    if complaints:
        raise LimnerError(f"{found.contents.path} cannot be used: {'; '.join(complaints)}")
    return found


def ordinary(name: str, tensor: Tensor) -> bool:
    """Whether there are numbers, of a kind that networks compute with; BatchNorm counts in whole ones."""
    return tensor.numel() > 0 and (tensor.dtype in NUMBERS or name.endswith("num_batches_tracked"))


def network(part: Part) -> nn.Module:
    """A part as a network in float32, frozen. What the file keeps in float32 is not copied."""
    with torch.device("meta"):
        module = part.network(part.config)
    measured: frozenset[str] = getattr(module, "MEASURED", frozenset())
    state = {
        name: torch.zeros(tensor.shape) for name, tensor in module.state_dict().items() if name in measured
    }
    state |= {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in part.taken.state.items()
    }
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def self_check(part: Part) -> str:
    """Run a network once, as its format says; what came of it, in a line, empty where it is too large to run.

    Raises LimnerError where that is no number.
    """
    try:
        with torch.inference_mode():
            found = part.tried(network(part))
    except BROKEN as error:
        raise LimnerError(f"{part.name} does not run: {error or type(error).__name__}") from error
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise LimnerError(
                f"{part.name}: what it makes of a {name} is not finite: these weights are broken"
            )
    return " and ".join(
        f"{'' if name == 'noise' else 'a '}{name} gives {tuple(tensor.shape[1:])}"
        for name, tensor in found.items()
    )


def convert(found: Opened, out: Path) -> list[Path]:
    """Write limner's own folder, one for each part in `out`, or `out` itself where there is but one.

    What lies beside a part goes with it. Nothing is left behind where that fails. Raises LimnerError for what
    is not `usable`, and where there is something at `out` already.
    """
    usable(found)
    with appearing(out) as waiting:
        for part in found.parts:
            folder = waiting if len(found.parts) == 1 else waiting / part.name
            checkpoint.save(folder, part.taken.state, part.config)
            for file in part.beside:
                shutil.copyfile(file, folder / file.name)
    return [out if len(found.parts) == 1 else out / part.name for part in found.parts]


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A folder to write into that takes its place when all is written, and vanishes where it was not."""
    with on_disk(out):
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise LimnerError(f"{out} is there already: give the name of a new folder")
        whole = Path(os.path.abspath(out))
        if whole == Path.cwd():
            raise LimnerError(f"{out} is the folder that you are in: give the name of a new one")
        made = [one for one in whole.parents if not one.exists()]
    waiting = whole.with_name(f".{whole.name}.{os.getpid()}")
    try:
        waiting.mkdir(parents=True)
        yield waiting
        if whole.exists():
            whole.rmdir()
        os.replace(waiting, whole)
        made = []
    except (OSError, SafetensorError) as error:
        said = getattr(error, "strerror", None) or error
        raise LimnerError(f"cannot write {out}: {said}; free some space or give another folder") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
        for one in made:
            with suppress(OSError):
                one.rmdir()
