"""Who is served next: a bounded line of jobs, of which those that want the same are worked on together.

One thread works, for a machine paints one batch at a time. Callers take turns: the next batch begins with the
oldest job of the caller whose turn it is, and no job is overtaken by a later one of its caller, except by
those that share its batch. So whoever sends many waits for nobody longer than a batch of each.
"""

import math
import threading
import time
from collections import Counter
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
    """What is wanted, of `pictures` pictures, by whom, and the `result` to come."""

    order: Order
    key: Hashable
    pictures: int
    caller: Hashable
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
        # Those that have a job in the line, the next one first.
        self._turns: list[Hashable] = []
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

    @property
    def ended(self) -> bool:
        """Whether, after `close`, the last job is done."""
        return not self._thread.is_alive()

    def put(self, order: Order, *, key: Hashable, pictures: int, caller: Hashable) -> Job[Order, Result]:
        """A job behind the caller's others. Raises Closed, and Full where the line is as long as it may be.

        From a full line the youngest job of whoever has most there goes, failing with Full, if the caller has
        still fewer with this one: a line that one has filled is not closed to all others.
        """
        job: Job[Order, Result] = Job(order=order, key=key, pictures=pictures, caller=caller)
        with self._changed:
            if self._closed:
                raise Closed
            if len(self._line) >= self._bound:
                self._make_room(caller)
            self._line.append(job)
            if caller not in self._turns:
                self._turns.append(caller)
            self._changed.notify()
        return job

    def _make_room(self, caller: Hashable) -> None:
        ahead = sum(job.pictures for job in [*self._line, *self._at_work])
        full = Full(min(LATEST, max(1, math.ceil(self._seconds * ahead / len(self._line)))))
        having = Counter(job.caller for job in self._line)
        ((greediest, most),) = having.most_common(1)
        if having[caller] + 1 >= most:
            raise full
        youngest = next(job for job in reversed(self._line) if job.caller == greediest)
        self._take_out([youngest])
        if youngest.result.set_running_or_notify_cancel():
            youngest.result.set_exception(full)

    def _take_out(self, jobs: Sequence[Job[Order, Result]]) -> None:
        """Of the line, and callers that have no more there of the turns."""
        self._line = [job for job in self._line if job not in jobs]
        left = {job.caller for job in self._line}
        self._turns = [caller for caller in self._turns if caller in left]

    def leave(self, job: Job[Order, Result]) -> None:
        """Free the place of a job that nobody wants any more; painting stops when that is true of a batch."""
        with self._changed:
            job.abandoned.set()
            if job in self._line:
                self._take_out([job])
                job.result.cancel()

    def close(self) -> None:
        """Begin nothing more: those that wait fail with Closed, those at work are finished."""
        with self._changed:
            self._closed = True
            for job in self._line:
                if job.result.set_running_or_notify_cancel():
                    job.result.set_exception(Closed())
            self._take_out(self._line)
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        """Wait, after `close`, until the last job is done."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while self._worked():
            pass

    def _worked(self) -> bool:
        """Whether there was a batch, which is done now and held by nobody here any more."""
        batch = self._next()
        if not batch:
            return False
        began = time.monotonic()
        self._finish(batch)
        each = (time.monotonic() - began) / sum(job.pictures for job in batch)
        self._seconds = 0.7 * self._seconds + 0.3 * each
        with self._changed:
            self._at_work = []
        return True

    def _by_turns(self) -> list[Job[Order, Result]]:
        """All that wait: of each caller the oldest, in the order of their turns, then of each the next."""
        turns = {caller: place for place, caller in enumerate(self._turns)}
        before: Counter[Hashable] = Counter()
        placed = []
        for job in self._line:
            placed.append((before[job.caller], turns[job.caller], job))
            before[job.caller] += 1
        return [job for _, _, job in sorted(placed, key=lambda one: one[:2])]

    def _next(self) -> list[Job[Order, Result]]:
        """The job whose turn it is, and after it those of its key while they fit; none once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._line) or self._closed)
            if not self._line:
                return []
            first, *others = self._by_turns()
            batch, pictures = [first], first.pictures
            for job in others:
                if job.key != first.key:
                    continue
                if pictures + job.pictures > self._together:
                    break
                batch.append(job)
                pictures += job.pictures
            # Whoever begins a batch goes behind all others; who only shares it keeps the turn.
            self._turns = [*self._turns[1:], first.caller]
            self._take_out(batch)
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
        except Exception as error:  # Whatever it is belongs to who asked; the queue goes on for the others.
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
