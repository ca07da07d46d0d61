"""The tabs put together, and the page beside the API in one server."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.routes import App
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.routing import Mount

from limner.pipelines.dalle1 import Dalle1
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.dfgan import DfGan
from limner.pipelines.glide import Glide
from limner.server.app import create_app as create_api
from limner.server.service import Served, Service
from limner.studio.compare import compare_tab
from limner.studio.edit import EditTab, edit_tab, to_edit
from limner.studio.inside import InsideTab, inside_tab
from limner.studio.look import ICON, STYLE, theme
from limner.studio.paint import paint_tab
from limner.studio.shown import note
from limner.studio.training import Training
from limner.studio.vary import VaryTab, vary_tab
from limner.studio.wall import on_the_wall
from limner.studio.yours import yours_tab

PLACE = "/studio"
# What a browser asks for by itself, wherever the page lies.
MANIFEST, FAVICON = "/manifest.json", "/favicon.ico"
# Seconds after which files that were sent or made are forgotten, looked for as often.
FORGOTTEN = 24 * 3600
TITLE = "limner studio"
HEAD = """
<header class="lm-head">
  <h1>limner <span>studio</span></h1>
  <p>Pictures from words, painted on this machine.</p>
</header>
"""
USER = "limner"
NO_FOLDERS = "Anybody gets in here, so no folder of this machine is opened: start the studio with --api-key."


def create_app(service: Service, *, trains: bool = True) -> FastAPI:
    """The API of a service with the page at /studio, where the address without a path leads.

    Where the service has keys the page asks for one as the password of the user limner. `trains`: whether its
    visitors may name folders of this machine, to look them over and to train.
    """
    training = Training() if trains else None
    app = create_api(
        service,
        home=f"{PLACE}/",
        guarded=(PLACE, MANIFEST, FAVICON),
        known=lambda headers: any(logged_in(page, headers) for page in pages(app)),
    )

    app.state.training = training

    @app.get(MANIFEST, include_in_schema=False)
    async def manifest() -> dict[str, Any]:
        return {"name": TITLE, "short_name": "limner", "start_url": f"{PLACE}/", "display": "browser"}

    @app.get(FAVICON, include_in_schema=False)
    async def favicon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    ending = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(same: FastAPI) -> AsyncIterator[Any]:
        async with ending(same) as state:
            try:
                yield state
            finally:
                if training is not None:
                    await asyncio.to_thread(training.close)

    app.router.lifespan_context = lifespan
    auth = (lambda user, key: user == USER and known(service.keys, key)) if service.keys else None
    return gr.mount_gradio_app(
        app,
        build(service, training),
        path=PLACE,
        theme=theme(),
        css=STYLE,
        auth=auth,
        auth_message=f"The user is {USER}, the password a key of this server.",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        # What is meant for people is said by the tabs; the rest would tell of the machine.
        show_error=False,
        max_file_size=service.limits.body,
    )


def let_go(app: FastAPI) -> None:
    """End what open pages hold on to, in the loop that serves them; a page never lets go by itself."""
    for page in pages(app):
        page.stop_event.set()


def give_up(app: FastAPI) -> None:
    """Tell a run that was begun on the page to save what it has, and wait for nothing."""
    training: Training | None = app.state.training
    if training is not None:
        training.abandon()


def pages(app: FastAPI) -> list[App]:
    """The pages of Gradio in an application."""
    return [route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, App)]


def logged_in(page: App, headers: Headers) -> bool:
    """Whether a request has the cookie of somebody who gave the page a key."""
    cookies = cookie_parser(headers.get("cookie", ""))
    names = (f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}")
    return any(cookies.get(name) in page.tokens for name in names)


def known(keys: Sequence[str], given: str) -> bool:
    """Whether it is one of the keys, in a time that says nothing of how much of it was right."""
    same = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    return any(same)


def build(service: Service, training: Training | None) -> gr.Blocks:
    """The page of a service; without a training nobody names folders."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(FORGOTTEN, FORGOTTEN)
    ) as page:
        gr.HTML(HEAD, elem_id="lm-head")
        with gr.Tabs(elem_id="lm-tabs") as tabs:
            with gr.Tab("Paint", id="paint"):
                paint = paint_tab(service)
            with gr.Tab("Edit", id="edit"):
                edit = edit_tab(service)
            with gr.Tab("Vary and blend", id="vary"):
                vary = vary_tab(service)
            with gr.Tab("Inside", id="inside"):
                inside = inside_tab(service)
            with gr.Tab("Compare", id="compare"):
                compare_tab(service)
            with gr.Tab("Your pictures", id="yours"):
                if training is None:
                    gr.HTML(note(NO_FOLDERS))
                else:
                    yours_tab(training, page)
        for wall in (paint.wall, edit.wall, vary.wall):
            if wall is not None:
                _lead_on(service, wall, tabs, edit, vary, inside)
    return page


def _lead_on(
    service: Service, wall: gr.HTML, tabs: gr.Tabs, edit: EditTab, vary: VaryTab, inside: InsideTab
) -> None:
    """Take a picture of a wall to the tab whose button was pressed."""
    outputs = [tabs, edit.picture, edit.brush, inside.prompt, inside.model, inside.seed, inside.picture]
    if vary.picture is not None:
        outputs.append(vary.picture)

    def follow(event: gr.EventData) -> dict[Any, Any]:
        asked: dict[str, str] = event._data
        found = on_the_wall(service, asked["name"])
        if found is None:
            gr.Warning("This picture is no longer kept: paint it again.")
            return {}
        image, facts = found
        changes: dict[Any, Any] = {tabs: gr.Tabs(selected=asked["do"])}
        if asked["do"] == "edit":
            changes[edit.picture], changes[edit.brush] = to_edit(image)
        elif asked["do"] == "vary" and vary.picture is not None:
            changes[vary.picture] = image
        elif asked["do"] == "inside":
            changes[inside.picture] = image
            if "prompt" in facts and "seed" in facts:
                changes |= {inside.prompt: facts["prompt"], inside.seed: facts["seed"]}
                # Of its kind, whatever name it is served by.
                kinds = {_kind(one): one.name for one in service.painters}
                if facts.get("model") in kinds:
                    changes[inside.model] = kinds[facts["model"]]
        return changes

    wall.select(follow, None, outputs, show_progress="hidden")


def _kind(served: Served) -> str:
    """What a picture's file calls its painter."""
    kinds: dict[type, str] = {Dalle1: "dalle1", Dalle2: "dalle2", DfGan: "dfgan", Glide: "glide"}
    return kinds.get(type(served.painter), "dalle_mini")
