"""The application: the door, all routes, of which the small ones stand here, and what is said of failures."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from limner import __version__
from limner.errors import LimnerError
from limner.server import metrics
from limner.server.door import Door
from limner.server.embedding import add_embedding
from limner.server.errors import OWN_FAULT, Refused, of_failure
from limner.server.origins import Origins
from limner.server.painting import add_painting
from limner.server.reference import page
from limner.server.service import CLIP, Service, closing, unknown
from limner.server.wire import PLAIN, Failed, Model, Models, of_details, of_type

# How many pictures are unpacked at once, to be looked at before they wait.
UNPACKED = 2
# What OpenAPI says of answers that are errors.
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
    add_painting(app, service, unpacking)
    add_embedding(app, service, unpacking)
    _add_housekeeping(app, service, home)
    _drop_validation(app)
    return app


def _add_housekeeping(app: FastAPI, service: Service, home: str) -> None:
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

    @app.get("/pictures/{name}", response_class=Response, responses=of_type("image/png", PLAIN))
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

    @app.get("/metrics", response_class=Response, responses=of_type("text/plain", PLAIN))
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
