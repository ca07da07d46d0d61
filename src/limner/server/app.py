"""The routes: each reads a request, waits for its turn, and answers in the API's shape."""

import asyncio
import base64
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from limner import __version__
from limner.errors import LimnerError
from limner.pipelines.png import encode_png
from limner.pipelines.settings import checked_prompt, checked_seed
from limner.pipelines.words import checked_words
from limner.server import events, metrics
from limner.server.door import Door, caller
from limner.server.errors import Refused, of_failure, of_value
from limner.server.forms import form_schema, needed_file, read_form
from limner.server.origins import Origins
from limner.server.painters import Order, Painted
from limner.server.pictures import marked, of_data_url, picture
from limner.server.queue import Abandoned, Closed, Full, Job, Queue
from limner.server.reference import page
from limner.server.service import CLIP, Sent, Served, Service, busy, closing, unknown
from limner.server.wire import (
    MOST_PICTURES,
    Edit,
    Embedded,
    Embedding,
    Embeddings,
    Failed,
    Generation,
    Model,
    Models,
    Picture,
    Pictures,
    Usage,
    Variation,
    Wanted,
    Worded,
    of_details,
    read,
)

Result = TypeVar("Result")
Asked = TypeVar("Asked")

# Seeds that are drawn here fit into JavaScript's numbers.
LARGEST_DRAWN = 2**53
# How many pictures are unpacked at once, to be looked at before they wait.
UNPACKED = 2
# How many times the pixels of the largest picture all those of one request may have.
MOST_TOGETHER = 4
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failed, "description": told}
    for status, told in {
        400: "What is wrong with the request.",
        401: "The key is missing or wrong.",
        403: "Asked for by a name that is not this server's, or by a page of somebody else's.",
        404: "No such model, or no such address.",
        408: "The body took too long to arrive.",
        413: "The body is too large.",
        415: "The body is of another type.",
        429: "As many requests wait or are being answered as may; Retry-After says when to come again.",
        500: "The server's own fault.",
        503: "The server is stopping.",
    }.items()
}


def create_app(
    service: Service,
    *,
    home: str = "/docs",
    guarded: tuple[str, ...] = (),
    known: Callable[[Headers], bool] = lambda _: False,
) -> FastAPI:
    """The API of a service, as an ASGI application. It is let go of when the application ends.

    `home`: where the address without a path leads. `guarded`: what begins so asks for a key by itself, and
    `known` says by the head of a request whether it is from somebody who was let in there.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(service.end)

    app = FastAPI(
        title="limner",
        version=__version__,
        summary="The images API, on your own machine.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=FAILURES,
        # Named for everybody; whether a key is asked for is the server's choice.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if service.keys else [],
        separate_input_output_schemas=False,
    )
    limits, unpacking = service.limits, asyncio.Semaphore(UNPACKED)
    app.add_middleware(
        Door,
        keys=service.keys,
        origins=Origins(hosts=service.hosts, public=service.public, allowed=service.origins),
        at_once=limits.at_once,
        body=limits.body,
        carried=limits.carried,
        arriving=limits.arriving,
        metrics=service.metrics,
        guarded=guarded,
        known=known,
    )
    _add_failures(app)
    _add_painting(app, service, unpacking)
    _add_reading(app, service, unpacking)
    _add_housekeeping(app, service, home)
    _drop_validation(app)
    return app


def _of_type(kind: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an answer that is no JSON."""
    return {200: {"content": {kind: {"schema": schema}}}}


PLAIN = {"type": "string"}
# Each of the events.
EVENT = {"type": "object", "properties": {"event": PLAIN, "data": PLAIN}, "required": ["event", "data"]}
STREAMED = _of_type("text/event-stream", EVENT)


# --- painting ---------------------------------------------------------------------------------------


def _add_painting(app: FastAPI, service: Service, unpacking: asyncio.Semaphore) -> None:
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
        painted = await _result(
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
        finished = asyncio.ensure_future(_result(request, service.painting, job))
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


# What streams say of tokens, which clients expect to be counted.
NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
OWN_FAULT = Refused(
    "the server failed at this, and its log says how: try again, or tell whoever runs it",
    status=500,
    code="internal_error",
)


# --- reading ----------------------------------------------------------------------------------------


def _add_reading(app: FastAPI, service: Service, unpacking: asyncio.Semaphore) -> None:
    @app.post("/v1/embeddings", response_model=Embeddings)
    async def embeddings(request: Request, asked: Embedding) -> Embeddings:
        """CLIP's unit vectors of words and pictures, whose products say how well they go together."""
        reader = service.checked_clip(asked.model)
        width = reader.clip.config.embedding
        if asked.dimensions not in (None, width):
            raise Refused(
                f"dimensions is {asked.dimensions}: this CLIP has {width}, so leave it out",
                param="dimensions",
                code="invalid_value",
            )
        inputs = [asked.input] if isinstance(asked.input, str) else asked.input
        # All are looked at before any is worked on.
        sent, tokens, pixels = [], 0, 0
        for text in inputs:
            image = of_data_url(text, "input")
            if image is None:
                try:
                    checked_prompt(text, "input")
                    checked_words(text, "input")
                except ValueError as error:
                    raise of_value(error) from error
                tokens += len(reader.tokenizer.encode(text))
            else:
                async with unpacking:
                    shown = await asyncio.to_thread(picture, image, "input", pixels=service.limits.pixels)
                pixels += math.prod(shown.size)
                if pixels > MOST_TOGETHER * service.limits.pixels:
                    raise Refused(
                        f"input has more than {MOST_TOGETHER * service.limits.pixels:,} pixels in all: send "
                        "smaller pictures, or fewer",
                        param="input",
                        code="image_too_large",
                    )
            sent.append(Sent(text if image is None else "", image))
        data = []
        job = service.read_next(tuple(sent), caller=caller(request))
        vectors = await _result(request, service.reading, job)
        for index, vector in enumerate(vectors):
            packed = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
            data.append(
                Embedded(index=index, embedding=packed if asked.encoding_format == "base64" else vector)
            )
        return Embeddings(data=data, model=CLIP, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))

    @app.get("/v1/models", response_model=Models)
    async def models() -> Models:
        """What is served."""
        names = [painter.name for painter in service.painters] + ([CLIP] if service.clip else [])
        return Models(data=[Model(id=name, created=service.started) for name in names])

    @app.get("/v1/models/{model}", response_model=Model)
    async def one_model(model: str) -> Model:
        """One of them."""
        if model == CLIP and service.clip is not None:
            return Model(id=CLIP, created=service.started)
        names = [painter.name for painter in service.painters]
        if model not in names:
            raise unknown(model, names)
        return Model(id=model, created=service.started)


# --- housekeeping -----------------------------------------------------------------------------------


def _add_housekeeping(app: FastAPI, service: Service, home: str) -> None:
    @app.get("/pictures/{name}", response_class=Response, responses=_of_type("image/png", PLAIN))
    async def kept(name: str) -> Response:
        """A picture that was painted not long ago."""
        png = await asyncio.to_thread(service.gallery.get, name)
        if png is None:
            raise Refused(
                "there is no such picture, or no more: paint it again, or ask for b64_json",
                status=404,
                code="not_found",
            )
        return Response(
            png,
            media_type="image/png",
            headers={"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"},
        )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server takes requests."""
        if service.painting.closed:
            raise closing()
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses=_of_type("text/plain", PLAIN))
    async def prometheus() -> Response:
        """Counts for Prometheus."""
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            page(app.openapi()),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    @app.get("/", include_in_schema=False)
    async def begin() -> RedirectResponse:
        return RedirectResponse(home)


def _add_failures(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return error.response()

    @app.exception_handler(LimnerError)
    async def broken(_: Request, error: LimnerError) -> Response:
        return of_failure(error).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return of_details(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        told = {404: "there is nothing at this address: see /docs", 405: f"{request.method} is not for this"}
        codes = {404: "not_found", 408: "body_too_slow", 413: "body_too_large", 429: "rate_limit_exceeded"}
        message, code = told.get(error.status_code, str(error.detail)), codes.get(error.status_code)
        return Refused(message, status=error.status_code, code=code).response(error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return OWN_FAULT.response()


def _drop_validation(app: FastAPI) -> None:
    """Take out of the description the answer 422, which is never given: the API says 400."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema

    # FastAPI's documented way to change its document; mypy does not like methods replaced.
    app.openapi = openapi  # type: ignore[method-assign]


# --- waiting for a result ---------------------------------------------------------------------------


async def _result(request: Request, line: Queue[Asked, Result], job: Job[Asked, Result]) -> Result:
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
