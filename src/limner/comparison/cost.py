"""What a picture costs: seconds and memory, measured in a process of its own that paints nothing else.

Memory is the most that the process held at any moment, less what it held with PyTorch loaded and no weights
yet: the weights and the work. A process that has painted before keeps what it freed, so each entrant has a
fresh one.
"""

import dataclasses
import json
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from limner.comparison.entrants import loaded
from limner.comparison.painting import Work, painted
from limner.errors import LimnerError

if TYPE_CHECKING:
    from limner.pipelines.settings import Precision

FOLDER = "cost"
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one picture alone, the second that a process paints: its seconds; and the most memory, in MB.

    `megabytes` is None where the system does not tell. A cost is of the weights, the size, the device and the
    arithmetic that it was measured with, and of no others.
    """

    weights: str
    size: int
    device: str
    precision: "Precision"
    seconds: float
    megabytes: float | None


def cost(work: Work, folder: Path, *, weights: str, device: str, precision: "Precision") -> Cost:
    """Measured, or what `folder` keeps of the last time; kept there whole or not at all.

    `weights`: their digest. A cost of others, or on another device, is measured anew. LimnerError where the
    process is killed.
    """
    from limner.evaluation.table import replaced

    file = folder / FOLDER / f"{work.entrant.folder}.json"
    if file.is_file():
        try:
            kept = Cost(**json.loads(file.read_text()))
        except (TypeError, ValueError):
            kept = None
        if kept is not None and kept == dataclasses.replace(
            kept, weights=weights, size=work.size, device=device, precision=precision
        ):
            return kept
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, megabytes = pool.submit(measure, work, device, precision).result()
    except BrokenProcessPool as error:
        raise LimnerError(
            f"the process that painted with {work.entrant.name} was killed, most likely for want of memory: "
            "free some, or leave it out of --models"
        ) from error
    found = Cost(
        weights=weights,
        size=work.size,
        device=device,
        precision=precision,
        seconds=seconds,
        megabytes=megabytes,
    )
    replaced(file, (json.dumps(dataclasses.asdict(found)) + "\n").encode())
    return found


def measure(work: Work, device: str, precision: "Precision") -> tuple[float, float | None]:
    """Seconds of the second picture, and the most memory above what there was before the weights, in MB."""
    import torch

    from limner.comparison.entrants import settings_of

    before = peak(device)
    painter = loaded(work.entrant, device=device, precision=precision)
    one = dataclasses.replace(work, count=1)
    settings = settings_of(one.entrant, painter.usual, count=1)
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        list(painted(painter, one.prompts[:1], one, settings))
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    after = peak(device)
    return seconds, None if before is None or after is None else (after - before) / MB


def peak(device: str) -> int | None:
    """The most bytes that this process has held at any moment, in the device's memory."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated()
    try:
        told = Path("/proc/self/status").read_text()
        line = next(line for line in told.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None
