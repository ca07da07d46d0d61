"""The routes that paint: each reads a request, waits for its turn, and answers in the API's shape."""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from limner.pipelines.png import encode_png
from limner.pipelines.settings import checked_prompt, checked_seed
from limner.server import events
from limner.server.door import caller
from limner.server.errors import OWN_FAULT, Refused, of_value
from limner.server.forms import form_schema, needed_file, read_form
from limner.server.painters import Order, Painted
from limner.server.pictures import marked, picture
from limner.server.service import Served, Service
from limner.server.waiting import result_of
from limner.server.wire import (
    MOST_PICTURES,
    PLAIN,
    Edit,
    Generation,
    Picture,
    Pictures,
    Variation,
    Wanted,
    Worded,
    of_type,
    read,
)

# Seeds that are drawn here fit into JavaScript's numbers.
LARGEST_DRAWN = 2**53
# Each of the events.
EVENT = {"type": "object", "properties": {"event": PLAIN, "data": PLAIN}, "required": ["event", "data"]}
STREAMED = of_type("text/event-stream", EVENT)
# What streams say of tokens, which clients expect to be counted.
NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


def add_painting(app: FastAPI, service: Service, unpacking: asyncio.Semaphore) -> None:
    """Add them to an application; `unpacking` is held while a picture is unpacked to be looked at."""
    # The event loop forgets tasks that nobody holds.
    streams: set[asyncio.Future[list[Painted]]] = set()

    @app.post(
        "/v1/images/generations",
        response_model=Pictures,
        response_model_exclude_none=True,
        responses=STREAMED,
    )
    async def generations(request: Request, asked: Generation) -> Response | Pictures:
        """Pictures of words."""
        painter = service.painter(asked.model, lambda _: True, "paint")
        return await answer(request, painter, asked, order(painter, asked), "image_generation")

    @app.post(
        "/v1/images/edits",
        response_model=Pictures,
        response_model_exclude_none=True,
        responses=STREAMED,
        openapi_extra=form_schema(Edit, ["image", "prompt"], ["image", "mask"]),
    )
    async def edits(request: Request) -> Response | Pictures:
        """A picture painted anew where its mask is transparent, so that the whole is what the words say."""
        fields, files = await read_form(request)
        asked = read(Edit, fields)
        painter = service.painter(asked.model, lambda one: one.edits, "edit pictures")
        image, mask = needed_file(files, "image"), files.get("mask")
        async with unpacking:
            await asyncio.to_thread(marked, image, mask, pixels=service.limits.pixels)
        wanted = order(painter, asked, doing="edit", image=image, mask=mask)
        return await answer(request, painter, asked, wanted, "image_edit")

    @app.post(
        "/v1/images/variations",
        response_model=Pictures,
        response_model_exclude_none=True,
        openapi_extra=form_schema(Variation, ["image"], ["image"]),
    )
    async def variations(request: Request) -> Response | Pictures:
        """Other pictures of what one shows."""
        fields, files = await read_form(request)
        asked = read(Variation, fields)
        if "mask" in files:
            raise Refused("mask is no field of this request: leave it out", param="mask")
        painter = service.painter(asked.model, lambda one: one.varies, "vary pictures")
        image = needed_file(files, "image")
        async with unpacking:
            await asyncio.to_thread(picture, image, "image", pixels=service.limits.pixels)
        return await answer(request, painter, asked, order(painter, asked, doing="vary", image=image), "")

    def order(
        painter: Served,
        asked: Wanted,
        *,
        doing: Any = "paint",
        image: bytes | None = None,
        mask: bytes | None = None,
    ) -> Order:
        """What is to be painted. Raises Refused for what this painter cannot."""
        side = painter.side(asked.size)
        drawn = secrets.randbelow(LARGEST_DRAWN - MOST_PICTURES)
        seed = drawn if asked.seed is None else asked.seed
        words = asked if isinstance(asked, Worded) else None
        try:
            checked_seed(seed, asked.count)
            if words is not None:
                checked_prompt(words.prompt)
            wanted = Order(
                painter=painter.name,
                doing=doing,
                prompt="" if words is None else words.prompt,
                count=asked.count,
                seed=seed,
                side=side,
                settings=None
                if words is None
                else painter.settings(
                    steps=words.steps, guidance=words.guidance, negative_prompt=words.negative_prompt or ""
                ),
                image=image,
                mask=mask,
            )
            if words is not None:
                painter.refuse(wanted)
        except ValueError as error:
            raise of_value(error) from error
        return wanted

    async def answer(
        request: Request, painter: Served, asked: Wanted, wanted: Order, event: str
    ) -> Response | Pictures:
        """Wait for the pictures and hand them out, whole or as they come."""
        if isinstance(asked, Worded) and asked.stream:
            return streamed(request, painter, asked, wanted, event)
        if isinstance(asked, Worded) and asked.partial_images:
            raise Refused(
                f"partial_images is {asked.partial_images}: it is for streams, so add stream",
                param="partial_images",
                code="invalid_value",
            )
        painted = await result_of(
            request, service.painting, service.line_up(painter, wanted, caller=caller(request))
        )
        data = [await delivered(request, asked, one) for one in painted]
        return Pictures(created=int(time.time()), data=data)

    async def delivered(request: Request, asked: Wanted, one: Painted) -> Picture:
        if asked.as_base64:
            return Picture(b64_json=base64.b64encode(one.png).decode(), seed=one.seed)
        name = await asyncio.to_thread(service.gallery.add, one.png)
        base = str(request.base_url) if service.public is None else service.public
        return Picture(url=f"{base.rstrip('/')}/pictures/{name}", seed=one.seed)

    def streamed(
        request: Request, painter: Served, asked: Worded, wanted: Order, event: str
    ) -> StreamingResponse:
        """Events: pictures on their way, then the pictures."""
        loop, sketches = asyncio.get_running_loop(), asyncio.Queue[tuple[int, int, bytes]]()

        def on_sketch(number: int, index: int, image: Any) -> None:
            loop.call_soon_threadsafe(sketches.put_nowait, (number, index, encode_png(image, {})))

        told_of = replace(wanted, sketches=asked.partial_images or 0, on_sketch=on_sketch)
        job = service.line_up(painter, told_of, caller=caller(request))
        # Waited for from now on: of a client that is gone already nothing below is ever begun.
        finished = asyncio.ensure_future(result_of(request, service.painting, job))
        streams.add(finished)
        finished.add_done_callback(streams.discard)
        finished.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

        async def told() -> AsyncIterator[bytes]:
            created = int(time.time())
            try:
                while not finished.done() or not sketches.empty():
                    next_one = asyncio.ensure_future(sketches.get())
                    await asyncio.wait(
                        {finished, next_one}, timeout=events.SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not next_one.done():
                        next_one.cancel()
                        if not finished.done():
                            yield events.NOTHING
                        continue
                    number, index, png = next_one.result()
                    shown = events.shown(png, side=wanted.side, created=created)
                    yield events.event(
                        f"{event}.partial_image", {**shown, "partial_image_index": index, "index": number}
                    )
                for number, one in enumerate(await finished):
                    shown = events.shown(one.png, side=wanted.side, created=created)
                    more = {"index": number, "seed": one.seed, "usage": NO_TOKENS}
                    yield events.event(f"{event}.completed", {**shown, **more})
            except Refused as refused:
                yield events.failed(refused.told)
            except Exception:  # The head is sent, so only the stream itself can say that it failed.
                yield events.failed(OWN_FAULT.told)
                raise
            finally:
                finished.cancel()
                service.painting.leave(job)

        return StreamingResponse(
            told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
