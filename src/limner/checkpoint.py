"""limner's own format: a folder with `model.safetensors` (the weights) and `config.json` (what they are for).

`config.json` names the SHA-256 of the weights, so a pair that does not belong together, or a file that lost a
byte, is never loaded. Replacing `config.json` is the moment a save takes effect: before it the old weights
are whole and in place, after it the new ones are, if need be still under their waiting name,
`model.safetensors.next`. A process killed at any instant therefore leaves a checkpoint that loads.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import dacite
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limner import __version__
from limner.errors import LimnerError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
WAITING = ".next"
# What a coarse tensor's steps are called, after its own name.
SCALES = ".steps"
# From how many numbers on eight bits for each are worth a step for each row.
MANY = 2**14

C = TypeVar("C")


def save(
    folder: Path,
    state: Mapping[str, Tensor],
    config: Any,
    *,
    dtype: torch.dtype | None = None,
    coarse: Collection[str] = (),
) -> None:
    """Write `state` and `config` into `folder`, replacing what was there in one step.

    `config` is a (nested) dataclass instance; `dtype`, if given, is what real-valued tensors are stored as.
    Tensors named in `coarse` are stored in eight bits, with a scale for each row; loaded, each number is off
    by at most a 254th of the largest of its row. Other files in the folder are left alone. Tensors that are
    one and the same are stored once. Raises ValueError for a config that would not read back equal, or a
    coarse tensor that has no rows, LimnerError where nothing can be written.
    """
    described = _describe(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        waiting = folder / (WEIGHTS + WAITING)
        waiting_config = folder / (CONFIG + WAITING)
        try:
            tensors, aliases = _separate(state, dtype)
            rounded = {name: _rounded(name, state[name]) for name in sorted(coarse)}
            for name, (rows, scales) in rounded.items():
                tensors |= {name: rows, name + SCALES: scales}
            save_file(tensors, waiting)
            _sync(waiting)
            described |= {"aliases": aliases, "sha256": _sha256(waiting)}
            if rounded:
                described["coarse"] = list(rounded)
            waiting_config.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            _sync(waiting_config)
        except BaseException:
            waiting.unlink(missing_ok=True)
            waiting_config.unlink(missing_ok=True)
            raise
        os.replace(waiting_config, folder / CONFIG)
        _sync(folder)
        os.replace(waiting, folder / WEIGHTS)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        raise LimnerError(
            f"cannot write the checkpoint {folder}: {error}; free some space or give another folder"
        ) from error


def save_compact(folder: Path, state: Mapping[str, Tensor], config: Any) -> None:
    """`save` in bfloat16, and `matrices` in eight bits: how networks ship that need not be exact."""
    save(folder, state, config, dtype=torch.bfloat16, coarse=matrices(state))


def write(path: Path, state: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write one safetensors file for others, in which names of one and the same tensor hold it once each.

    Raises OSError or SafetensorError where it cannot be written.
    """
    tensors, aliases = _separate(state, None)
    twice = {alias: tensors[name].clone() for alias, name in aliases.items()}
    save_file(tensors | twice, path, metadata=dict(metadata))


def load(
    folder: Path, config_type: type[C], device: torch.device | str = "cpu"
) -> tuple[C, dict[str, Tensor]]:
    """The config, as a `config_type`, and the tensors on `device`, in the dtype they were stored as.

    Coarse ones come in float32. Raises LimnerError, naming the file, when something is missing, damaged or of
    another kind.
    """
    described, weights = _find(folder)
    config = _config_from(described, config_type, folder / CONFIG)
    tensors = _read(weights, device)
    coarse = described.get("coarse", [])
    whole = isinstance(coarse, list) and all(
        {str(name), f"{name}{SCALES}"} <= tensors.keys() for name in coarse
    )
    if not whole:
        raise LimnerError(
            f'{folder / CONFIG} has "coarse" tensors that {weights.name} has not: copy both again from their '
            "source"
        )
    for name in coarse:
        tensors[name] = tensors[name].float() * tensors.pop(name + SCALES)
    aliases = described.get("aliases", {})
    if not isinstance(aliases, dict) or not {*map(str, aliases.values())} <= tensors.keys():
        raise LimnerError(
            f'{folder / CONFIG} has "aliases" that are no names of tensors in {weights.name}: '
            "copy both again from their source"
        )
    return config, tensors | {alias: tensors[str(name)] for alias, name in aliases.items()}


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Copy `state` into `module`, every name and every shape agreeing; dtypes are converted.

    What a module lists as `MEASURED` is no weight, and may be missing: it stays as it is. `assign`: these
    very tensors become the module's, none of them copied or converted.

    Raises LimnerError listing the names `state` lacks, those that nothing takes, and the shapes that differ.
    """
    own = module.state_dict()
    measured: frozenset[str] = getattr(module, "MEASURED", frozenset())
    missing = [name for name in own if name not in state and name not in measured]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    complaints = [
        f"{label} {_first(names)}"
        for label, names in (("missing:", missing), ("unexpected:", unexpected), ("shapes:", shapes))
        if names
    ]
    if complaints:
        raise LimnerError(f"the weights do not fit this {type(module).__name__}: " + "; ".join(complaints))
    module.load_state_dict({name: own[name] for name in measured} | dict(state), assign=assign)


def is_ours(path: Path) -> bool:
    """Whether a folder says that limner wrote it; others have a config.json as well."""
    try:
        return "limner" in json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the weights: which weights painted a picture."""
    _, weights = _find(folder)
    return _sha256(weights)[:12]


def _describe(config: Any) -> dict[str, Any]:
    """What config.json says, without the weights' hash."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"config is {config!r}: give an instance of a dataclass")
    package, _, inside = type(config).__module__.partition(".")
    described = {
        "limner": __version__,
        "room": inside.split(".")[0] or package,
        "config": dataclasses.asdict(config),
    }
    try:
        again = _config_from(json.loads(json.dumps(described, allow_nan=False)), type(config), Path(CONFIG))
    except (TypeError, ValueError, LimnerError) as error:
        raise ValueError(f"config cannot be written as JSON and read back: {error}") from error
    if again != config:
        raise ValueError(
            f"config reads back from JSON as {again!r}, not as {config!r}: use plain, finite values"
        )
    return described


def _config_from(described: dict[str, Any], config_type: type[C], path: Path) -> C:
    rules = dacite.Config(strict=True, cast=[tuple])
    try:
        return dacite.from_dict(config_type, described["config"], config=rules)
    except (dacite.DaciteError, ValueError, TypeError) as error:
        room = described.get("room", "unknown")
        raise LimnerError(
            f"{path} does not hold a {config_type.__name__} (it is from the room {room!r}): {error}; "
            "load it with the room and the version of limner that wrote it"
        ) from error


def _separate(
    state: Mapping[str, Tensor], dtype: torch.dtype | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, none sharing memory with another, and alias → name for those that are one."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    kept: set[int] = set()
    for name, tensor in state.items():
        place = (tensor.device, tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first:
            aliases[name] = first[place]
            continue
        first[place] = name
        stored = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None)
        # Two overlapping views of one storage may not go into one file; a copy of its own may.
        memory = stored.untyped_storage()
        shares = memory.nbytes() != stored.numel() * stored.element_size() or memory.data_ptr() in kept
        kept.add(memory.data_ptr())
        tensors[name] = stored.clone(memory_format=torch.contiguous_format) if shares else stored.contiguous()
    return tensors, aliases


def matrices(state: Mapping[str, Tensor]) -> list[str]:
    """The names that `coarse` is for: weights of `MANY` numbers, in rows."""
    return [
        name
        for name, value in state.items()
        if name.endswith("weight") and value.ndim >= 2 and value.numel() >= MANY
    ]


def _rounded(name: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor's rows in steps of a 127th of each one's largest number, and these steps, (r, 1, …)."""
    if tensor.ndim < 2 or not tensor.is_floating_point():
        raise ValueError(
            f"coarse: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}; give real matrices"
        )
    whole = tensor.detach().to("cpu", torch.float32)
    steps = whole.abs().amax(dim=tuple(range(1, whole.ndim)), keepdim=True) / 127
    rows = (whole / steps.clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(-127, 127)
    return rows.to(torch.int8).contiguous(), steps


def _find(folder: Path) -> tuple[dict[str, Any], Path]:
    """config.json as read, and the weights file it belongs to."""
    # A save in another process may fall between the two reads, so a mismatch is looked at once more.
    for _ in range(2):
        described = _read_config(folder)
        expected = described.get("sha256")
        for weights in (folder / WEIGHTS, folder / (WEIGHTS + WAITING)):
            try:
                if weights.is_file() and expected in (None, _sha256(weights)):
                    return described, weights
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LimnerError(f"cannot read {weights}: {error}") from error
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise LimnerError(
            f"{weights} is missing: copy it from where {folder / CONFIG} came from, or train again"
        )
    raise LimnerError(
        f"{weights} is damaged or not the one that {folder / CONFIG} was written with "
        f"({weights.stat().st_size} bytes, another SHA-256): copy both again from their source"
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        raise LimnerError(f"no checkpoint at {folder}: give a folder that holds {WEIGHTS} and {CONFIG}")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LimnerError(
            f"{path} is missing: a checkpoint is a folder that holds {WEIGHTS} and {CONFIG}"
        ) from error
    except OSError as error:
        raise LimnerError(f"cannot read {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise LimnerError(f"{path} is not JSON ({error}): copy it again from its source") from error
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        raise LimnerError(f'{path} has no "config": it was not written by limner')
    return described


def _read(weights: Path, device: torch.device | str) -> dict[str, Tensor]:
    try:
        with safe_open(weights, framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise LimnerError(
            f"{weights} is not a whole safetensors file ({error}): copy it again from its source"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until `path` is on the disk, where the system lets a folder or file be waited for."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first(names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
