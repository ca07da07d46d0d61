"""How much memory some work takes beyond what was held before it."""

import contextlib
import ctypes
import os
import threading
from pathlib import Path

import torch

# Seconds between two looks at what the process holds.
LOOKED_AT = 0.01


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
