"""What torch has pickled, read without running any of it.

A pickle is a small program: it names functions, calls them and rewrites what came of them. Here the standard
library only takes it apart (`pickletools`), and each of its instructions does what is written below and no
more. What it may name stands in two lists; nothing of that is imported or called. A name stays a name, an
object of a class becomes a `Thing` that keeps what was said of it, and tensors are views of the file's bytes.
A file that asks for any other name is refused, and the name is said.
"""

import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
    "UntypedStorage": torch.uint8,
}
# Objects that the line's checkpoints carry along, by where they come from. What they say is kept as it is.
THINGS = re.compile(
    r"""torch\.nn\.modules\.\w+\.\w+      # networks that were pickled whole,
    | dall_e\.\w+\.\w+                    # as OpenAI's dVAE was;
    | __torch__\..+                       # TorchScript's names for the same;
    | torch\.(b?float|double|half|u?int|long|short|bool)\d*   # kinds of numbers;
    | (builtins|__builtin__)\.(object|complex)
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
    *(RuntimeError, ArithmeticError, MemoryError, AssertionError, struct.error),
)
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function by its whole name, which is all that is known of it here."""

    full: str


@dataclass(slots=True)
class Thing:
    """An object of a class that is not here: its name, what it was made with, and its state."""

    name: str
    given: tuple[Any, ...] = ()
    state: Any = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes of one storage, as flat numbers."""

    numbers: Tensor


# (kind of numbers, key, how many) → the storage.
Find = Callable[[torch.dtype, str, int], Storage]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """A view of a storage, which it must lie within and not outgrow."""
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise pickle.UnpicklingError("a tensor is made of no storage")
    if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *size, *stride)):
        raise pickle.UnpicklingError("a tensor's place is no place")
    if len(size) != len(stride):
        raise pickle.UnpicklingError(f"a tensor of {len(size)} dimensions has {len(stride)} strides")
    there = storage.numbers.numel()
    if 0 not in size:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        numbers = 1
        for n in size:
            numbers *= n
        if last >= there or numbers > there:
            raise pickle.UnpicklingError(f"a tensor of shape {size} is more than the {there} numbers stored")
    return storage.numbers.as_strided(size, stride, offset)


def _first(value: Any, *_rest: Any) -> Any:
    return value


def _pairs(pairs: Any = (), *_rest: Any) -> dict[Any, Any]:
    return {key(name): value for name, value in pairs}


def _size(dimensions: Any) -> tuple[int, ...]:
    if not isinstance(dimensions, list | tuple) or not all(type(n) is int for n in dimensions):
        raise pickle.UnpicklingError("a size that is no row of numbers")
    return tuple(dimensions)


def _object(cls: Any, *_rest: Any) -> Thing:
    return Thing(cls.full if isinstance(cls, Name) else "")


def _listed(values: Any = (), *_rest: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else []


def _nothing(*_given: Any) -> dict[Any, Any]:
    return {}


# Functions that a pickle may ask for → what is done instead.
KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": _nothing,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "torch.Size": _size,
    "torch.device": _first,
    "copyreg._reconstructor": _object,
    "copy_reg._reconstructor": _object,
    "builtins.set": _listed,
    "__builtin__.set": _listed,
    "builtins.frozenset": _listed,
    "__builtin__.frozenset": _listed,
    "_codecs.encode": _first,
}


def named(module: Any, name: Any) -> Name:
    """A name that is on a list; LimnerError for any other."""
    full = f"{module}.{name}"
    storage = module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES
    if full in KNOWN or storage or THINGS.fullmatch(full):
        return Name(full)
    raise LimnerError(
        f"it asks for {full!r}, which is not among what limner reads: nothing of it was run; convert it to "
        "safetensors where it was made"
    )


def key(name: Any) -> str | int | float | bytes | None:
    """What a dictionary may be asked by: words and numbers, and the names of classes."""
    if isinstance(name, Name):
        return name.full
    if name is None or isinstance(name, str | int | float | bytes):
        return name
    raise pickle.UnpicklingError(f"a dictionary has a {type(name).__name__} for a key")


def made(what: Any, given: Any) -> Any:
    """What calling a name comes to."""
    if not isinstance(what, Name) or not isinstance(given, tuple):
        raise pickle.UnpicklingError("something is called that is no name")
    function = KNOWN.get(what.full)
    return Thing(what.full, given) if function is None else function(*given)


def load(file: Any, find: Find) -> Any:
    """What one pickle comes to. `file`: whatever can be read, from here to the pickle's end.

    LimnerError for a name that is refused. Raises one of `BROKEN` for a program that is none. Lists stand for
    sets.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    for opcode, arg, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "LIST" | "FROZENSET":
                stack.append(since_mark())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "DICT":
                items = since_mark()
                stack.append({key(name): value for name, value in zip(items[::2], items[1::2], strict=True)})
            case "SETITEM":
                value, name = stack.pop(), stack.pop()
                _set(stack[-1], [name, value])
            case "SETITEMS":
                items = since_mark()
                _set(stack[-1], items)
            case "APPEND":
                value = stack.pop()
                _append(stack[-1], [value])
            case "APPENDS" | "ADDITEMS":
                values = since_mark()
                _append(stack[-1], values)
            case "GLOBAL":
                stack.append(named(*str(arg).split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(named(module, name))
            case "INST":
                stack.append(made(named(*str(arg).split(" ", 1)), tuple(since_mark())))
            case "OBJ":
                what, *given = since_mark()
                stack.append(made(what, tuple(given)))
            case "REDUCE" | "NEWOBJ":
                given, what = stack.pop(), stack.pop()
                stack.append(made(what, given))
            case "NEWOBJ_EX":
                _, given, what = stack.pop(), stack.pop(), stack.pop()
                stack.append(made(what, given))
            case "BUILD":
                # Only what is ours to fill: a dictionary's or a tensor's attributes are nobody's business.
                state = stack.pop()
                if isinstance(stack[-1], Thing):
                    stack[-1].state = state
            case "BINPERSID":
                stack.append(_referred(stack.pop(), find))
            case "PERSID" | "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise pickle.UnpicklingError(f"an instruction that torch never writes, {opcode.name}")
            case _:
                stack.append(arg)  # all that is left are words and numbers
    (found,) = stack
    return found


def _set(there: Any, items: list[Any]) -> None:
    """Put names and values into a dictionary; what else takes them is a `Thing`, which keeps none."""
    if isinstance(there, dict):
        there |= {key(name): value for name, value in zip(items[::2], items[1::2], strict=True)}
    elif not isinstance(there, Thing):
        raise pickle.UnpicklingError(f"a {type(there).__name__} takes no names")


def _append(there: Any, values: list[Any]) -> None:
    if isinstance(there, list):
        there += values
    elif not isinstance(there, Thing):
        raise pickle.UnpicklingError(f"a {type(there).__name__} takes no values")


def _referred(pid: Any, find: Find) -> Any:
    """A storage, or the class of a network that was saved with its source, which is not looked at."""
    if not isinstance(pid, tuple) or len(pid) < 2:
        raise pickle.UnpicklingError("a reference to nothing")
    if pid[0] == "module":
        return pid[1]
    kind, what, name, _place, count, *_view = pid
    dtype = STORAGES.get(what.full.rpartition(".")[2]) if isinstance(what, Name) else None
    if kind != "storage" or dtype is None or type(count) is not int or not 0 <= count < 2**48:
        raise pickle.UnpicklingError("a reference to no storage")
    if not isinstance(name, str | int):
        raise pickle.UnpicklingError("a storage whose key is no word")
    return find(dtype, str(name), count)


def tensors_in(found: Any) -> dict[str, Tensor]:
    """All tensors of what was read, by their path: of nested dictionaries, and of networks pickled whole.

    Tensors that are together in a tuple, and nothing else, go by their numbers.
    """
    tensors: dict[str, Tensor] = {}
    if isinstance(found, tuple) and all(isinstance(one, Tensor) for one in found):
        found = {str(number): one for number, one in enumerate(found)}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), found)]
    seen: set[int] = set()
    while waiting:
        path, here = waiting.pop()
        if isinstance(here, Tensor):
            tensors[".".join(path)] = here
            continue
        inside = members(here)
        if inside is None or id(here) in seen:
            continue
        if len(path) > DEEPEST:
            raise pickle.UnpicklingError(f"its dictionaries are nested more than {DEEPEST} deep")
        seen.add(id(here))
        waiting += [((*path, str(name)), value) for name, value in inside.items()]
    return dict(sorted(tensors.items()))


def members(found: Any) -> Mapping[Any, Any] | None:
    """What is inside of a dictionary or a network, by name; None of anything else."""
    if isinstance(found, dict):
        return found
    if not isinstance(found, Thing) or not isinstance(found.state, dict):
        return None
    # A network keeps its parameters, buffers and parts in three dictionaries; TorchScript keeps all in one.
    parts = [found.state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    if all(part is None for part in parts):
        return found.state
    return {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
