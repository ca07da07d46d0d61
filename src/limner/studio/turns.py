"""Work that waits its turn in the service's line, and is heard of while it lasts."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
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
from limner.server.queue import Abandoned, Closed, Job
from limner.server.service import Chore, Served, Service, closing

T = TypeVar("T")

# What somebody may read of what went wrong; anything else is our own fault.
TROUBLE = (Refused, LimnerError, ValueError)
# Seconds after which a page that has gone is noticed, though nothing happens.
BEAT = 0.5


@dataclass(frozen=True)
class Visit:
    """Somebody at the page of a service; `caller` is who takes turns with others, as the door knows them."""

    service: Service
    caller: str


def visit_of(service: Service, request: gr.Request) -> Visit:
    """The visit of whoever asks."""
    assert isinstance(request.request, Request)
    return Visit(service, caller(request.request))


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
    """An order's pictures, after all that can be seen on the way. Raises Refused where the line is full."""
    events: SimpleQueue[Event | None] = SimpleQueue()

    def on_sketch(number: int, _: int, image: Image.Image) -> None:
        events.put(Sketched(number, image))

    told = replace(order, on_sketch=on_sketch, on_tick=events.put)
    job = visit.service.line_up(painter, told, caller=visit.caller)
    yield from _heard(visit.service, job, events)
    yield Done(job.result.result())


def done(visit: Visit, work: Callable[[Check, Tell], T]) -> Iterator[Event | Done[T]]:
    """What `work` returns, done in the thread that paints, after all that it tells.

    It calls its first argument now and then, which raises when nobody waits any more.
    """
    events: SimpleQueue[Event | None] = SimpleQueue()
    results: list[T] = []
    chore = Chore(lambda check: results.append(work(check, events.put)))
    job = visit.service.line_up_chore(chore, caller=visit.caller)
    yield from _heard(visit.service, job, events)
    job.result.result()
    yield Done(results[0])


def ticking(check: Check, tell: Tell) -> Callable[[Tick], None]:
    """What a pipeline's `on_tick` does for such work."""

    def on_tick(tick: Tick) -> None:
        check()
        tell(tick)

    return on_tick


def _heard(
    service: Service, job: Job[Order | Chore, list[Painted]], events: "SimpleQueue[Event | None]"
) -> Iterator[Event]:
    """All events of a job, until it ends."""
    job.result.add_done_callback(lambda _: events.put(None))
    begun = False
    try:
        while True:
            try:
                event = events.get(timeout=BEAT)
            except Empty:
                # Somebody who closes this generator can do so only where it yields.
                if not begun:
                    yield Waiting(service.painting.waiting)
                continue
            if event is None:
                break
            begun = True
            yield event
        _raise_trouble(job)
    finally:
        service.painting.leave(job)


def _raise_trouble(job: Job[Order | Chore, list[Painted]]) -> None:
    """Say what went wrong in words for people."""
    try:
        job.result.result()
    except Closed as closed:
        raise closing() from closed
    except (Abandoned, CancelledError) as gone:
        raise Refused("stopped: nothing more is painted of it") from gone
