"""What torch has pickled, read without running any of it.

A pickle is a small program: it names functions and calls them. Here it may name only what stands in the lists
below, and none of it is imported: tensors are built by our own hands from the file's bytes, and objects
become `Thing`s, which keep what was said of them and do nothing. A file that asks for any other name is
refused, and the name is said.
"""

import collections
import io
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from limner.errors import LimnerError

# How storages are named → what their numbers are.
STORAGES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("double", "float", "half", "long", "int", "short"),
)
# Objects that the line's checkpoints carry along, by where they come from. What they say is kept as it is.
THINGS = re.compile(
    r"""torch\.nn\.modules\.\w+\.\w+      # networks that were pickled whole,
    | dall_e\.\w+\.\w+                    # as OpenAI's dVAE was;
    | __torch__\..+                       # TorchScript's names for the same;
    | argparse\.Namespace                 # settings of a training;
    | packaging\.(version|_structures)\.\w+   # the version that wrote the file;
    | pathlib\.\w+Path
    | (pytorch_)?lightning(\.pytorch)?\.[\w.]+   # what Lightning kept for going on
    | omegaconf\.[\w.]+
    | numpy(\._?core)?\.(multiarray\.)?(scalar|dtype|_reconstruct|ndarray)
    """,
    re.VERBOSE,
)
# All that goes wrong in a program that somebody else wrote, or that lost a byte.
BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(RuntimeError, OverflowError, MemoryError, AssertionError, struct.error, ImportError, RecursionError),
)


class Thing:
    """An object of a class that is not here: its name, what it was made with, and its state."""

    name: ClassVar[str] = ""
    given: tuple[Any, ...]
    state: Any

    def __new__(cls, *given: Any, **_named: Any) -> "Thing":
        """Whatever it is made with."""
        self = super().__new__(cls)
        self.given, self.state = given, {}
        return self

    def __init__(self, *_given: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Some are dictionaries; nobody here asks for what they hold."""

    def append(self, _value: Any) -> None:
        """Some are lists."""

    def extend(self, _values: Any) -> None:
        """The same, many at once."""

    def add(self, _value: Any) -> None:
        """Some are sets."""


@dataclass(frozen=True)
class Storage:
    """The bytes of one storage, as flat numbers."""

    numbers: Tensor


def _thing(name: str) -> type[Thing]:
    return type(name.rpartition(".")[2], (Thing,), {"name": name})


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """A view of a storage, which it must lie within."""
    whole = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in whole):
        raise pickle.UnpicklingError("a tensor's place is no place")
    if len(size) != len(stride):
        raise pickle.UnpicklingError(f"a tensor of {len(size)} dimensions has {len(stride)} strides")
    if 0 not in size:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= storage.numbers.numel():
            raise pickle.UnpicklingError(
                f"a tensor of shape {tuple(size)} reaches beyond the {storage.numbers.numel()} numbers stored"
            )
    return storage.numbers.as_strided(size, stride, offset)


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


KNOWN: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.jit._pickle.build_tensor_from_id": None,
    "torch.jit._pickle.build_intlist": lambda values: values,
    "torch.jit._pickle.build_tensorlist": lambda values: values,
    "torch.jit._pickle.build_doublelist": lambda values: values,
    "torch.jit._pickle.build_boollist": lambda values: values,
    "torch.jit._pickle.restore_type_tag": lambda value, _type: value,
    "torch.Size": tuple,
    "torch.device": lambda *given: str(given[0]) if given else "cpu",
    "copyreg._reconstructor": lambda cls, *_: cls(),
    "copy_reg._reconstructor": lambda cls, *_: cls(),
    "builtins.set": set,
    "__builtin__.set": set,
    "builtins.object": object,
    "__builtin__.object": object,
    "builtins.complex": complex,
    "_codecs.encode": lambda text, _kind: text.encode("latin-1"),
    **{f"torch.{name}": getattr(torch, name) for name in DTYPES},
}
del KNOWN["torch.jit._pickle.build_tensor_from_id"]  # of a kind of archive that nobody writes to disk


class Reader(pickle.Unpickler):
    """A pickle's program with our names for what it asks for.

    `storage` finds the bytes of a tensor: (dtype, key, how many numbers) → them.
    """

    def __init__(self, file: io.BufferedIOBase, storage: Callable[[torch.dtype, str, int], Storage]) -> None:
        # What Python 2 wrote are bytes that are mostly names.
        super().__init__(file, encoding="latin-1")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for; LimnerError for one that is on no list."""
        full = f"{module}.{name}"
        if full in KNOWN:
            return KNOWN[full]
        if module in ("torch", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        if full in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
            return torch.uint8
        if THINGS.fullmatch(full):
            return _thing(full)
        raise LimnerError(
            f"it asks for '{full}', which is not among what limner reads: nothing of it was run; convert it "
            "to safetensors where it was made"
        )

    def persistent_load(self, pid: Any) -> Any:
        """A storage, or the class of a network that was saved with its source, which is not looked at."""
        if not isinstance(pid, tuple) or not pid:
            raise pickle.UnpicklingError(f"a reference to {pid!r}")
        if pid[0] == "module":
            return pid[1]
        kind, dtype, key, _place, count, *_view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError(f"a reference to {kind!r}")
        return self.storage(dtype, str(key), count)


def tensors_in(found: Any) -> dict[str, Tensor]:
    """All tensors of what was read, by their path: of nested dictionaries, and of networks pickled whole."""
    tensors: dict[str, Tensor] = {}
    # Paths, not recursion: what is nested too deep is somebody's joke.
    waiting: list[tuple[str, Any]] = [("", found)]
    seen: set[int] = set()
    while waiting:
        path, here = waiting.pop()
        if isinstance(here, Tensor):
            tensors[path] = here
            continue
        inside = members(here)
        if inside is None or id(here) in seen:
            continue
        seen.add(id(here))
        waiting += [(f"{path}.{name}" if path else str(name), value) for name, value in inside.items()]
    return dict(sorted(tensors.items()))


def members(found: Any) -> Mapping[Any, Any] | None:
    """What is inside of a dictionary or a network, by name; None of anything else."""
    if isinstance(found, Mapping):
        return found
    if not isinstance(found, Thing) or not isinstance(found.state, Mapping):
        return None
    # A network keeps its parameters, buffers and parts in three dictionaries; TorchScript keeps all in one.
    parts = [found.state.get(key) for key in ("_parameters", "_buffers", "_modules")]
    if all(part is None for part in parts):
        return found.state
    return {name: value for part in parts if isinstance(part, Mapping) for name, value in part.items()}
