"""Waiting for what a job comes to, for as long as somebody is there to be told."""

import asyncio
from typing import Any, TypeVar

from starlette.requests import Request

from limner.errors import LimnerError
from limner.server.errors import Refused, of_failure
from limner.server.queue import Abandoned, Closed, Full, Job, Queue
from limner.server.service import busy, closing

Result = TypeVar("Result")
Asked = TypeVar("Asked")


async def result_of(request: Request, line: Queue[Asked, Result], job: Job[Asked, Result]) -> Result:
    """What a job comes to. It is given up, and frees its place, when the client goes away."""
    result = asyncio.wrap_future(job.result)
    # Nobody else asks what became of a job that was given up.
    result.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    gone = asyncio.ensure_future(_gone(request))
    try:
        either: set[asyncio.Future[Any]] = {result, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Refused("the client has gone", status=499)
        return result.result()
    except Full as full:
        raise busy(full) from full
    except Closed as closed:
        raise closing() from closed
    except Abandoned as abandoned:
        raise Refused("the client has gone", status=499) from abandoned
    except LimnerError as error:
        raise of_failure(error) from error
    finally:
        gone.cancel()
        if not result.done():
            line.leave(job)


async def _gone(request: Request) -> None:
    """Returns when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
