"""Who is served next: a bounded line of jobs, of which those that want the same are worked on together.

One thread works, for a machine paints one batch at a time. The oldest job is always in the next batch, and no
job is overtaken by a later one, except by those that share its batch.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Order = TypeVar("Order")
Result = TypeVar("Result")

# Seconds that a picture is taken to need until one was painted.
ASSUMED = 2.0
# Nobody is told to come back later than in this many seconds.
LATEST = 60


class Full(Exception):
    """As many jobs wait as may; `after` seconds there should be room."""

    def __init__(self, after: int) -> None:
        super().__init__(f"the queue is full for about {after} s")
        self.after = after


class Closed(Exception):
    """Nothing is begun any more."""


class Abandoned(Exception):
    """Nobody waits for what is being worked on."""


@dataclass(eq=False, kw_only=True)
class Job(Generic[Order, Result]):
    """What is wanted, of `pictures` pictures, and the `result` to come."""

    order: Order
    key: Hashable
    pictures: int
    result: "Future[Result]" = field(default_factory=Future)
    # Set where whoever wanted it has gone.
    abandoned: threading.Event = field(default_factory=threading.Event)


class Queue(Generic[Order, Result]):
    """Takes jobs from any thread and works on them in one of its own.

    `work` makes the results of several orders of one key, in their order; it is handed a function to call now
    and then, which raises `Abandoned` when nobody waits any more. `waiting`: jobs that may wait. `together`:
    pictures that are painted at once.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Order], Callable[[], None]], Sequence[Result]],
        *,
        waiting: int,
        together: int,
        name: str,
    ) -> None:
        self._work = work
        self._bound = waiting
        self._together = together
        self._line: list[Job[Order, Result]] = []
        self._at_work: list[Job[Order, Result]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = ASSUMED
        # A daemon, so that a process that is told to end at once does.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that nobody has begun."""
        return len(self._line)

    @property
    def working(self) -> int:
        """Jobs that are being worked on."""
        return len(self._at_work)

    @property
    def closed(self) -> bool:
        """Whether anything new is refused."""
        return self._closed

    def put(self, order: Order, *, key: Hashable, pictures: int) -> Job[Order, Result]:
        """A job at the end of the line. Raises Full where the line is as long as it may be, and Closed."""
        job: Job[Order, Result] = Job(order=order, key=key, pictures=pictures)
        with self._changed:
            if self._closed:
                raise Closed
            if len(self._line) >= self._bound:
                ahead = sum(other.pictures for other in [*self._line, *self._at_work])
                raise Full(min(LATEST, max(1, math.ceil(self._seconds * ahead / max(1, len(self._line))))))
            self._line.append(job)
            self._changed.notify()
        return job

    def leave(self, job: Job[Order, Result]) -> None:
        """Free the place of a job that nobody wants any more; painting stops when that is true of a batch."""
        with self._changed:
            job.abandoned.set()
            if job in self._line:
                self._line.remove(job)
                job.result.cancel()

    def close(self) -> None:
        """Begin nothing more: those that wait fail with Closed, those at work are finished."""
        with self._changed:
            self._closed = True
            for job in self._line:
                if job.result.set_running_or_notify_cancel():
                    job.result.set_exception(Closed())
            self._line.clear()
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        """Wait, after `close`, until the last job is done."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._next():
            began = time.monotonic()
            self._finish(batch)
            each = (time.monotonic() - began) / sum(job.pictures for job in batch)
            self._seconds = 0.7 * self._seconds + 0.3 * each
            with self._changed:
                self._at_work = []

    def _next(self) -> list[Job[Order, Result]]:
        """The oldest job, and after it those of its key while they fit; nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._line) or self._closed)
            if not self._line:
                return []
            first = self._line[0]
            batch, pictures = [first], first.pictures
            for job in self._line[1:]:
                if job.key != first.key:
                    continue
                if pictures + job.pictures > self._together:
                    break
                batch.append(job)
                pictures += job.pictures
            self._line = [job for job in self._line if job not in batch]
            self._at_work = batch
            # From here on nobody but this thread ends them.
            for job in batch:
                if not job.result.set_running_or_notify_cancel():
                    job.abandoned.set()
            return batch

    def _finish(self, batch: list[Job[Order, Result]]) -> None:
        def check() -> None:
            if all(job.abandoned.is_set() for job in batch):
                raise Abandoned

        try:
            results = self._work([job.order for job in batch], check)
            if len(results) != len(batch):
                raise AssertionError(f"{len(results)} results for {len(batch)} jobs")
        except Abandoned as gone:
            for job in batch:
                _end(job.result, gone)
        except Exception as error:
            if len(batch) > 1:
                # One of them may be to blame, and the others are not to suffer for it.
                for job in batch:
                    self._finish([job])
                return
            _end(batch[0].result, error)
        else:
            for job, result in zip(batch, results, strict=True):
                if not job.result.cancelled():
                    job.result.set_result(result)


def _end(result: "Future[Result]", error: Exception) -> None:
    if not result.cancelled():
        result.set_exception(error)
