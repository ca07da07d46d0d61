"""What a run does when the system tells its process to end (SIGTERM): while it trains, and beside that."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from limner.errors import LimnerError


class _Stopped(BaseException):
    """As KeyboardInterrupt: nothing that looks after broken pictures or files catches it."""


@contextmanager
def told_to_end(*, heed: bool) -> Iterator[threading.Event]:
    """What is set when the system tells the process to end, which then has to see to it by itself.

    Who leaves it without having done so is told again, by whatever was to happen before. Without `heed`, and
    outside the main thread, which alone is told, it is never set and all stays as it was.
    """
    ending = threading.Event()
    if not heed or threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = signal.signal(signal.SIGTERM, lambda *_: ending.set())
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, before)
    if ending.is_set():
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def stopped_between(*, heed: bool) -> Iterator[None]:
    """Raise LimnerError where the process is told to end and nothing within sees to it.

    That is while no step is under way: before the first, and between the parts of a run. `heed` as above.
    """
    if not heed or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Stopped:
        raise LimnerError("stopped while no step was under way, as told: go on with --resume") from None
    finally:
        signal.signal(signal.SIGTERM, before)
