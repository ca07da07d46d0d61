"""What lies at a path: a file of tensors, a folder of them with its settings, or a folder of such folders."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.formats.files import AGAIN, json_beside, read

# Settings that formats keep beside their weights.
SETTINGS = (
    "open_clip_config.json",
    "config.json",
    "preprocessor_config.json",
    "prior_config.json",
    "model_index.json",
    "scheduler_config.json",
)
INDEX = ".safetensors.index.json", ".bin.index.json"
# What a second file of the same weights has in its name: "diffusion_pytorch_model.fp16.safetensors".
VARIANTS = ("fp16", "bf16", "fp32", "ema", "non_ema")
# Of the first of these kinds that a folder has, for the same weights may lie there as several.
KINDS = (".safetensors",), (".bin",), (".pt", ".pth", ".ckpt", ".pkl", ".th", ".msgpack")
SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Tensors by name, as one network or several have them, and what stands beside them.

    `kind`: how the file keeps them. `settings`: the JSON files beside it, by name; `said`: what the file
    itself holds besides tensors. `size`: bytes on the disk. `files`: those of a folder with several
    that are no shards of one; `folders`: those in a folder that has no weights itself, by name, as diffusers
    keeps a pipeline; `tensors` is empty then.
    """

    path: Path
    kind: str
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, dict[str, Any]]
    said: Mapping[str, Any]
    size: int
    files: tuple["Contents", ...] = ()
    folders: Mapping[str, "Contents"] = field(default_factory=dict)

    def digest(self) -> str:
        """The SHA-256 of names and numbers, whatever file they are kept in."""
        found = hashlib.sha256()
        for one in self.each():
            for name, tensor in sorted(one.tensors.items()):
                found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                found.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def each(self) -> tuple["Contents", ...]:
        """The files one by one, a lone one as well."""
        return self.files or tuple(self.folders.values()) or (self,)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; LimnerError where there is none of that name."""
        if name not in self.tensors:
            raise LimnerError(f"{self.path} lacks the tensor '{name}', without which its sizes are unknown")
        return tuple(self.tensors[name].shape)

    def told(self, file: str, *keys: str) -> dict[str, Any]:
        """What a file of settings says under some keys; nothing where it is not there, or says no more.

        LimnerError where something else than settings stands there.
        """
        found: Any = self.settings.get(file, {})
        for key in keys:
            found = found.get(key)
            if found is None:
                return {}
            if not isinstance(found, dict):
                raise LimnerError(f"{file} has {str(found)[:40]!r} for '{key}', where settings are wanted")
        return dict(found)

    def numbered(self, prefix: str) -> int:
        """How many parts are numbered right behind a prefix, such as "transformer.resblocks."."""
        pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
        return len({found[1] for name in self.tensors if (found := pattern.match(name))})

    def under(self, *prefixes: str) -> "Contents":
        """With the first of these prefixes that there are tensors under taken off, and nothing else kept."""
        for prefix in prefixes:
            inside = {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}
            if inside:
                return replace(self, tensors=inside)
        return self


def whole(told: Mapping[str, Any], name: str, *, usual: int, most: int, where: str) -> int:
    """A whole number from 1 of some settings, or what is usual where it is not there.

    Two that are the same, as of height and width, are one. LimnerError for anything else, and above `most`.
    """
    value = told.get(name)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if value is None:
        return usual
    if type(value) is not int or not 1 <= value <= most:
        raise LimnerError(
            f"{where} has {str(value)[:40]} for {name}, where a whole number from 1 to {most} is wanted"
        )
    return value


def agree(told: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
    """Raise LimnerError for a setting that is there and is another than limner's network has."""
    for name, value in ours.items():
        if name in told and told[name] != value:
            raise LimnerError(
                f"{where} has {str(told[name])[:40]} for {name}, and limner's network {value}: it would give "
                "something else"
            )


def look(path: Path) -> Contents:
    """Read a file, or a folder with one checkpoint in it, whole or in shards.

    Raises LimnerError for what is missing, damaged, ambiguous or refused.
    """
    if not path.exists():
        raise LimnerError(f"there is nothing at {path}: give a file or a folder of weights")
    if not path.is_dir():
        return _file(path, _settings(path.parent))
    found = sorted(path.iterdir())
    indices = [one for one in found if one.name.endswith(INDEX)]
    if indices:
        return _joined(path, _shards(indices[0]))
    files = _weights(found)
    if not files:
        return _folders(path, [one for one in found if one.is_dir()])
    if len(files) == 1:
        return _file(files[0], _settings(path))
    several = tuple(_file(one, _settings(path)) for one in files)
    return Contents(
        path=path,
        kind=f"{len(files)} files, {several[0].kind}",
        tensors={},
        settings=_settings(path),
        said={},
        size=sum(one.size for one in several),
        files=several,
    )


def _weights(found: Sequence[Path]) -> list[Path]:
    """The files of weights among these, without variants (`model.fp16.bin`) of one that is there."""
    for kind in KINDS:
        files = [one for one in found if one.name.endswith(kind)]
        names = {one.name for one in files}
        plain = [one for one in files if _plainly(one) not in names - {one.name}]
        if plain:
            return plain
    return []


def _plainly(file: Path) -> str:
    """The name of the file that this one is a variant of, or its own."""
    stem, _, variant = file.stem.rpartition(".")
    return f"{stem}{file.suffix}" if variant in VARIANTS else file.name


def _folders(path: Path, found: Sequence[Path]) -> Contents:
    """A folder of folders: those with weights or settings in them, and in its index where it has one."""
    folders: dict[str, Contents] = {}
    index = _settings(path).get("model_index.json")
    for one in found:
        if index is not None and one.name not in index:
            continue
        inside = sorted(one.iterdir())
        if _weights(inside) or any(file.name.endswith(INDEX) for file in inside):
            folders[one.name] = look(one)
        elif settings := _settings(one):
            folders[one.name] = Contents(
                path=one, kind="settings", tensors={}, settings=settings, said={}, size=0
            )
    kinds = {one.kind for one in folders.values() if one.tensors or one.files}
    if not kinds:
        raise LimnerError(f"{path} holds no weights: give a folder with a file in {', '.join(SUFFIXES)}")
    return Contents(
        path=path,
        kind=f"{len(folders)} folders, {' and '.join(sorted(kinds))}",
        tensors={},
        settings=_settings(path),
        said={},
        size=sum(one.size for one in folders.values()),
        folders=folders,
    )


def _file(path: Path, settings: Mapping[str, dict[str, Any]]) -> Contents:
    file = read(path)
    return Contents(
        path=path, kind=file.kind, tensors=file.tensors, settings=settings, said=file.said, size=file.size
    )


def _joined(path: Path, files: Sequence[Path]) -> Contents:
    """The shards of one checkpoint."""
    read_ = [read(file) for file in files]
    tensors: dict[str, Tensor] = {}
    for file in read_:
        doubled = tensors.keys() & file.tensors.keys()
        if doubled:
            raise LimnerError(f"{file.path} has '{min(doubled)}', as another file of {path} does: {AGAIN}")
        tensors |= file.tensors
    said = {name: value for file in read_ for name, value in file.said.items()}
    return Contents(
        path=path,
        kind=f"{len(read_)} shards, {read_[0].kind}",
        tensors=tensors,
        settings=_settings(path),
        said=said,
        size=sum(file.size for file in read_),
    )


def _shards(index: Path) -> list[Path]:
    """The files that an index names, all of them in its own folder."""
    names = json_beside(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise LimnerError(f"{index} has no weight_map: {AGAIN}")
    files = sorted({str(name) for name in names.values()})
    for name in files:
        if Path(name).name != name or not name.isprintable():
            raise LimnerError(f"{index} names {name!r}, which lies outside of its folder: do not trust it")
    return [index.parent / name for name in files]


def _settings(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: json_beside(folder / name) for name in SETTINGS if (folder / name).is_file()}
