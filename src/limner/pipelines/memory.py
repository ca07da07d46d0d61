"""How much is worked on at once, by the memory that is free."""

import contextlib
import ctypes
import os
import re
import threading
from pathlib import Path

import torch

from limner.errors import LimnerError

# What may be claimed of the memory that is free: sums of estimates are estimates.
SHARE = 0.8
# Assumed where the system does not say.
ASSUMED = 4 * 2**30
GB = 1e9
# Seconds.
LOOKED_AT = 0.01


class MemoryWarning(UserWarning):
    """Less is worked on at once than would be quickest, for want of memory."""


def free_bytes(device: torch.device) -> int:
    """Memory that a painting could still take on `device`, as far as the system tells."""
    if device.type == "cuda":
        # What torch holds and does not use is free to us as well.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    try:
        told = Path("/proc/meminfo").read_text()
    except OSError:
        told = ""
    if found := re.search(r"^MemAvailable:\s+(\d+) kB$", told, flags=re.MULTILINE):
        return min([int(found[1]) * 1024, *left_to_group()])
    try:
        # Half of all there is, where the system says only that.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return ASSUMED


def left_to_group(group: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Memory that a container may still take, which the machine's count does not know; [] for no limit."""
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return [max(0, int(limit) - int(used))]
    except (OSError, ValueError):  # no container, or "max": as much as there is
        return []


class Peak:
    """How much more memory there was in use at its fullest than at the beginning, in bytes, `within`.

    Of a GPU what torch has taken; else what the process holds, looked at every hundredth of a second where
    the system says it, which it does on Linux, and 0 elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._over = threading.Event()
        self._most = 0
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.within = 0

    def __enter__(self) -> "Peak":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            _give_back()
            self._before = held_bytes()
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self._most = torch.cuda.max_memory_allocated(self._device)
        else:
            self._over.set()
            self._watcher.join()
        self.within = max(0, self._most - self._before)

    def _watch(self) -> None:
        while True:
            self._most = max(self._most, held_bytes())
            if self._over.wait(LOOKED_AT):
                return


def _give_back() -> None:
    """Have the C library return what was freed, or the next to need it would seem to need nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def held_bytes() -> int:
    """Memory that this process holds, or 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def at_once(asked: int | None, *, most: int, each: int, free: int) -> int:
    """Pictures to work on at once: as many as are asked for, else what fits and at most `most`.

    `each`: bytes that a picture takes. ValueError where more are asked for than fit, LimnerError where not
    even one does.
    """
    if asked is not None and asked < 1:
        raise ValueError(f"at_once is {asked}: give at least 1")
    fit = int(free * SHARE) // each
    if fit == 0:
        raise LimnerError(
            f"0 pictures fit into memory: one takes {each / GB:.1f} GB while it is painted, and of "
            f"{free / GB:.1f} GB free {SHARE:.0%} are used; free some, or choose another --device"
        )
    if asked is not None and asked > fit:
        raise ValueError(f"at_once is {asked}, but {fit} fit into memory: give at most {fit}")
    return min(fit, most) if asked is None else asked
