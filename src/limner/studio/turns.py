"""Work that waits its turn in the service's line, and is heard of while it lasts."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Generic, TypeAlias, TypeVar

import gradio as gr
from PIL import Image
from starlette.requests import Request

from limner.errors import LimnerError
from limner.pipelines.progress import Tick
from limner.server.door import caller
from limner.server.errors import Refused
from limner.server.painters import Check, Order, Painted
from limner.server.queue import Abandoned, Closed, Full, Job
from limner.server.service import Chore, Served, Service, busy, closing

T = TypeVar("T")

# What somebody may read of what went wrong; anything else is our own fault.
TROUBLE = (Refused, LimnerError, ValueError)
# Seconds after which a page that has gone, or a Stop, is noticed, though nothing happens.
BEAT = 0.5


class Stopped(Exception):
    """Whoever asked for it pressed Stop."""


@dataclass(frozen=True)
class Visit:
    """Somebody at the page of a service; `caller` is who takes turns with others, as the door knows them.

    `stop` is set, from any thread, where nothing more is wanted of what is asked for on this visit.
    """

    service: Service
    caller: str
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises Stopped where nothing more is wanted."""
        if self.stop.is_set():
            raise Stopped


def visit_of(service: Service, request: gr.Request) -> Visit:
    """The visit of whoever asks."""
    assert isinstance(request.request, Request)
    return Visit(service, caller(request.request))


class UnderWay:
    """What is under way in one tab, by the session that asked for it: a Stop ends what is of its own page.

    Stop does no more than set a mark. The handler that listens to a job sees the mark, also where it comes
    before the job, leaves the job and says the last word itself: of two writers of a note the later one would
    be read. Gradio's `cancels` is such a second writer, and is lost on a handler between two of its steps.

    A handler's steps run in whatever threads are free, and Stop in another: the lock guards the list.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: list[tuple[str | None, Visit]] = []

    @contextmanager
    def visit(self, service: Service, request: gr.Request) -> Iterator[Visit]:
        """The visit of whoever asks, which their Stop reaches until it is left."""
        session, visit = request.session_hash, visit_of(service, request)
        with self._lock:
            self._visits.append((session, visit))
        try:
            yield visit
        finally:
            with self._lock:
                self._visits = [one for one in self._visits if one[1] is not visit]

    def stop(self, request: gr.Request) -> None:
        """What the button calls. Where nothing is under way the note stays: what it says is still so."""
        # Who asks without a page has no session, and is not the same as all others who have none.
        mine = request.session_hash
        with self._lock:
            for session, visit in self._visits:
                if mine is not None and session == mine:
                    visit.stop.set()


@dataclass(frozen=True)
class Waiting:
    """It is not its turn yet: so many jobs are before it."""

    ahead: int


@dataclass(frozen=True)
class Sketched:
    """Picture `number` on its way."""

    number: int
    image: Image.Image


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end, and what came out."""

    result: T


class Pace:
    """True at most every so many seconds: a page is told no more often than it can be looked at."""

    def __init__(self, seconds: float = 0.25) -> None:
        self._seconds = seconds
        self._last = -seconds

    def __call__(self) -> bool:
        """Whether it is time again."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


Event: TypeAlias = Waiting | Tick | Sketched
Tell: TypeAlias = Callable[[Event], None]


def painted(visit: Visit, painter: Served, order: Order) -> Iterator[Event | Done[list[Painted]]]:
    """An order's pictures, after all that can be seen on the way.

    Raises Refused where the line is full, and Stopped where Stop was pressed.
    """
    visit.check()
    events: SimpleQueue[Event | None] = SimpleQueue()

    def on_sketch(number: int, _: int, image: Image.Image) -> None:
        events.put(Sketched(number, image))

    told = replace(order, on_sketch=on_sketch, on_tick=events.put)
    job = visit.service.line_up(painter, told, caller=visit.caller)
    yield from _heard(visit, job, events)
    yield Done(job.result.result())


def done(visit: Visit, work: Callable[[Check, Tell], T]) -> Iterator[Event | Done[T]]:
    """What `work` returns, done in the thread that paints, after all that it tells.

    It calls its first argument now and then, which raises when nobody waits any more. Raises as `painted`.
    """
    visit.check()
    events: SimpleQueue[Event | None] = SimpleQueue()
    results: list[T] = []
    chore = Chore(lambda check: results.append(work(check, events.put)))
    job = visit.service.line_up_chore(chore, caller=visit.caller)
    yield from _heard(visit, job, events)
    job.result.result()
    yield Done(results[0])


def ticking(check: Check, tell: Tell) -> Callable[[Tick], None]:
    """What a pipeline's `on_tick` does for such work."""

    def on_tick(tick: Tick) -> None:
        check()
        tell(tick)

    return on_tick


def _heard(
    visit: Visit, job: Job[Order | Chore, list[Painted]], events: "SimpleQueue[Event | None]"
) -> Iterator[Event]:
    """All events of a job, until it ends or is stopped; the others of its batch are painted on."""
    job.result.add_done_callback(lambda _: events.put(None))
    begun = False
    try:
        while True:
            visit.check()
            try:
                event = events.get(timeout=BEAT)
            except Empty:
                # Somebody who closes this generator can do so only where it yields.
                if not begun:
                    yield Waiting(visit.service.painting.waiting)
                continue
            if event is None:
                break
            begun = True
            yield event
        _raise_trouble(job)
    finally:
        visit.service.painting.leave(job)


def _raise_trouble(job: Job[Order | Chore, list[Painted]]) -> None:
    """Say what went wrong in words for people."""
    try:
        job.result.result()
    except Closed as closed:
        raise closing() from closed
    except Full as full:  # pushed out of a full line by whoever has less in it
        raise busy(full) from full
    except (Abandoned, CancelledError) as gone:
        raise Refused("stopped: nothing more is painted of it") from gone
