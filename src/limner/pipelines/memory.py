"""How much is worked on at once, by the memory that is free."""

import os
import re
from pathlib import Path

import torch

from limner.errors import LimnerError

# What may be claimed of the memory that is free: sums of estimates are estimates.
SHARE = 0.8
# Assumed where the system does not say.
ASSUMED = 4 * 2**30
GB = 1e9


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
