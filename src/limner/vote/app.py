"""The page and what it asks of the server: who I am, what is next, here is my vote.

Nothing that is sent says which model is which: tasks and pictures go by random names that are each used once,
and a check or a repeat looks like any other task.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Cookie, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, RedirectResponse

from limner.vote.schedule import ANSWERS, Answer, Question
from limner.vote.store import Rater, Shown
from limner.vote.study import Study

PAGE = Path(__file__).parent / "page"
KINDS = {"page.html": "text/html", "style.css": "text/css", "page.js": "text/javascript"}
COOKIE = "limner_rater"
# Seconds that a browser stays known.
REMEMBERED = 180 * 24 * 3600
# Bytes: the longest that the page ever sends is a name.
LARGEST = 4096
# Tasks whose pictures are fetched before they are wanted.
AHEAD = 2
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
    "data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Joining(BaseModel):
    """A name to go by."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=500)]


class Voting(BaseModel):
    """An answer to a task, and how long it took."""

    model_config = ConfigDict(extra="forbid")
    task: Annotated[str, Field(max_length=100)]
    answer: Answer
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Asked(BaseModel):
    """A task as the page gets it."""

    id: str
    question: Question
    caption: str | None
    answers: tuple[Answer, ...]
    pictures: tuple[str, str]


class State(BaseModel):
    """Where a rater stands. `open`: whether a stranger may take a name."""

    rater: str | None
    open: bool
    done: int = 0
    total: int = 0
    back: bool = False
    task: Asked | None = None
    ahead: list[str] = []


class Refused(Exception):
    """What a request is answered with when it cannot be met."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def create_app(study: Study, *, hosts: tuple[str, ...], names: bool) -> FastAPI:
    """The page of a study, as an ASGI application.

    `hosts`: the names that it may be asked by, or "*". `names`: whether whoever comes may say a name; else
    only those with a link of their own vote.
    """
    app = FastAPI(title="limner vote", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)
    _add_door(app)
    _add_page(app)
    _add_voting(app, study, names)
    return app


def _add_door(app: FastAPI) -> None:
    @app.middleware("http")
    async def bounded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        told = request.headers.get("content-length", "0")
        if request.method == "POST" and (not told.isdecimal() or int(told[:20]) > LARGEST):
            response: Response = JSONResponse({"error": f"send at most {LARGEST} bytes"}, 413)
        elif "transfer-encoding" in request.headers:
            response = JSONResponse({"error": "say how long the body is: send Content-Length"}, 411)
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return JSONResponse({"error": error.message}, error.status)

    @app.exception_handler(RequestValidationError)
    async def misread(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        return JSONResponse({"error": f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}"}, 422)


def _add_page(app: FastAPI) -> None:
    def sent(name: str) -> Response:
        return Response((PAGE / name).read_bytes(), media_type=KINDS[name])

    @app.get("/")
    def page() -> Response:
        return sent("page.html")

    @app.get("/style.css")
    def style() -> Response:
        return sent("style.css")

    @app.get("/page.js")
    def script() -> Response:
        return sent("page.js")


def _add_voting(app: FastAPI, study: Study, names: bool) -> None:
    store = study.store

    def known(token: str | None) -> Rater:
        rater = None if token is None else store.rater(token)
        if rater is None:
            how = "say your name first" if names else "open the link that you were given"
            raise Refused(401, f"nobody here goes by that: {how}")
        return rater

    def asked(shown: Shown) -> Asked:
        task = shown.task
        # Realism is asked without the words, lest one question answer the other.
        caption = None if task.question == "realism" else task.prompt
        pictures = (f"/pictures/{shown.left_name}.png", f"/pictures/{shown.right_name}.png")
        return Asked(
            id=shown.id,
            question=task.question,
            caption=caption,
            answers=ANSWERS[task.question],
            pictures=pictures,
        )

    def state(rater: Rater, again: Shown | None = None) -> State:
        waiting = [asked(one) for one in store.waiting(rater, AHEAD + 1)]
        if again is not None:
            waiting.insert(0, asked(again))
        done, total = store.progress(rater)
        return State(
            rater=rater.name,
            open=names,
            done=done - (again is not None),
            total=total,
            back=again is None and done > 0,
            task=waiting[0] if waiting else None,
            ahead=[picture for one in waiting[1:] for picture in one.pictures],
        )

    def remember(response: Response, rater: Rater) -> None:
        response.set_cookie(COOKIE, rater.token, max_age=REMEMBERED, httponly=True, samesite="strict")

    @app.get("/api/state")
    def where(limner_rater: Annotated[str | None, Cookie()] = None) -> State:
        rater = None if limner_rater is None else store.rater(limner_rater)
        return State(rater=None, open=names) if rater is None else state(rater)

    @app.post("/api/join")
    def join(joining: Joining, response: Response) -> State:
        if not names:
            raise Refused(403, "names are not taken here: open the link that you were given")
        try:
            rater = study.join(joining.name)
        except ValueError as error:
            raise Refused(422, str(error)) from error
        remember(response, rater)
        return state(rater)

    @app.get("/r/{token}")
    def link(token: str) -> Response:
        rater = known(token)
        response = RedirectResponse("/", 303)
        remember(response, rater)
        return response

    @app.post("/api/leave")
    def leave(response: Response) -> State:
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return State(rater=None, open=names)

    @app.post("/api/vote")
    def vote(voting: Voting, limner_rater: Annotated[str | None, Cookie()] = None) -> State:
        rater = known(limner_rater)
        shown = store.shown(rater, voting.task)
        if shown is None:
            raise Refused(404, "that is none of your tasks: load the page again")
        try:
            # On the disk when it returns, and only then is it said to be saved.
            store.vote(shown, voting.answer, voting.seconds)
        except ValueError as error:
            raise Refused(422, str(error)) from error
        return state(rater)

    @app.post("/api/back")
    def back(limner_rater: Annotated[str | None, Cookie()] = None) -> State:
        rater = known(limner_rater)
        last = store.answered(rater)
        if last is None:
            raise Refused(409, "there is nothing to go back to yet")
        return state(rater, last)

    @app.get("/pictures/{name}.png")
    def picture(name: str) -> Response:
        found: tuple[Any, Literal["left", "right"]] | None = store.picture(name)
        if found is None:
            raise Refused(404, "no such picture")
        png = study.showing.png(*found)
        # Kept by the browser only for as long as the task is before somebody.
        return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})
