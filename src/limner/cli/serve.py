"""`limner serve`: the images API that DALL-E clients speak, on this machine."""

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from tyro.conf import arg

from limner.pipelines.settings import (
    HUB,
    MODELS,
    NO_UNET,
    Precision,
    checked_model,
    checked_whole,
    is_place,
)

if TYPE_CHECKING:
    from limner.server.service import Served, Service

HELP = """Answer the images API that DALL-E clients speak, until it is stopped.
  limner serve
  limner serve --models dalle2,glide,dalle1
  limner serve --models mine=runs/mine/line --port 9000
  limner serve --host 0.0.0.0 --api-key a-long-secret"""

# Where the key may be as well, for other people see what stands in a command.
KEY = "LIMNER_API_KEY"
SHORTEST_KEY = 8
LONGEST_LIFETIME = 365 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `limner studio` takes too."""

    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Where to listen; by default only this machine itself gets in."""
    port: Annotated[int, arg(metavar="N")] = 8000
    """At which port; 0 for any that is free."""
    models: Annotated[str, arg(metavar="A,B")] = "dalle2"
    """What to serve, with commas between: painters that ship, paths of weights that paint, or NAME=PATH. The
    first is what is painted with where a request does not say."""
    api_key: Annotated[str | None, arg(metavar="KEY", help_behavior_hint=f"(default: ${KEY}, or none)")] = (
        None
    )
    """What clients must have; several with commas between."""
    no_key: bool = False
    """Listen to other machines without a key: whoever reaches the address may paint."""
    url: Annotated[str | None, arg(metavar="URL", help_behavior_hint="(default: as asked)")] = None
    """How clients reach it, if by another name: what addresses of pictures begin with."""
    allow_origin: Annotated[
        str | None, arg(metavar="A,B", help_behavior_hint="(default: the server's own pages alone)")
    ] = None
    """Where other pages are from that may ask, such as https://page.example; several with commas between."""
    proxy: Annotated[str | None, arg(metavar="A,B", help_behavior_hint="(default: none is believed)")] = None
    """Addresses of proxies before it, whose X-Forwarded-For says who asks; several with commas between."""
    queue: Annotated[int, arg(metavar="N")] = 32
    """Requests that may wait; more are told to come back."""
    lifetime: Annotated[int, arg(metavar="SECONDS")] = 3600
    """How long a picture is kept at its address."""
    precision: Precision = "fp32"
    """dalle2 and glide: bf16 multiplies in half precision, which is faster where the processor can."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def begin(self) -> "Service":
        """Refuse what cannot be served, and load the painters."""
        keys = self._keys()
        checked_whole("port", self.port, 0, 65535)
        checked_whole("queue", self.queue, 1, 10_000)
        checked_whole("lifetime", self.lifetime, 1, LONGEST_LIFETIME)
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is '{self.url}': give one that begins with http:// or https://")
        hosts, origins, proxies = self._hosts(keys), self._origins(), self._proxies()
        named = named_models(self.models)
        for model in named.values():
            if not is_place(model):
                checked_model(model)

        from limner.server.running import bound
        from limner.server.service import Limits, Service, clip_of

        # Painters take a while to load, and an address that is taken is known at once.
        bound(self.host, self.port).close()
        self.prepare()
        painters = [self._painter(name, model) for name, model in named.items()]
        return Service(
            painters,
            clip=clip_of(painters),
            keys=keys,
            hosts=hosts,
            public=self.url,
            origins=origins,
            proxies=proxies,
            limits=Limits(waiting=self.queue, lifetime=float(self.lifetime)),
        )

    def prepare(self) -> None:
        """See to what else is needed, once all is in order and before painters are loaded."""

    def _painter(self, name: str, model: str) -> "Served":
        from limner.formats.hub import resolved
        from limner.pipelines import load
        from limner.pipelines.folders import model_of
        from limner.server.painters import served

        weights = resolved(Path(model)) if is_place(model) else None
        kind = model if weights is None else model_of(weights)
        # What has no U-Net has no choice.
        precision = self.precision if kind not in NO_UNET else "fp32"
        return served(name, load(kind, weights=weights, device=self.device, precision=precision))

    def _hosts(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """The names that it answers to, none for all, where it is this machine's alone and has no key."""
        if keys or not loopback(self.host):
            return ()
        public = urlsplit(self.url or "").hostname
        return ("localhost", self.host, *(() if public is None else (public,)))

    def _origins(self) -> tuple[str, ...]:
        """Where other pages may be from. ValueError for what no page is from."""
        from limner.server.origins import checked_origin

        return tuple(checked_origin(one) for one in several("allow_origin", self.allow_origin))

    def _proxies(self) -> tuple[str, ...]:
        """The proxies that are believed. ValueError for what is no address."""
        proxies = several("proxy", self.proxy)
        for one in proxies:
            try:
                ipaddress.ip_network(one)
            except ValueError:
                raise ValueError(
                    f"proxy is '{one[:60]}': give the address that it asks from, such as 127.0.0.1, or a "
                    "network such as 10.0.0.0/8"
                ) from None
        return proxies

    def _keys(self) -> tuple[str, ...]:
        """The keys, of which one is needed where other machines get in. ValueError for a poor one."""
        given = os.environ.get(KEY) if self.api_key is None else self.api_key
        keys = tuple(key.strip() for key in (given or "").split(",") if key.strip())
        if given is not None and not keys:
            raise ValueError("api_key is empty: give one, such as a long random word, or leave it out")
        for key in keys:
            if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(
                    f"api_key has {len(key)} characters: give at least {SHORTEST_KEY}, of ASCII and without "
                    "spaces"
                )
        if keys and self.no_key:
            raise ValueError("no_key is given beside a key: leave out one of them")
        if not keys and not self.no_key and not loopback(self.host):
            raise ValueError(
                f"host is '{self.host}', where other machines get in, and there is no key: give --api-key, "
                "or --no-key if whoever reaches it may paint"
            )
        return keys


@dataclass(frozen=True, kw_only=True)
class Serve(Options):
    """The options of `limner serve`."""

    def run(self) -> None:
        """Serve the API."""
        service = self.begin()

        from limner.server.running import run

        names = ", ".join(painter.name for painter in service.painters)

        def on_ready(address: str) -> None:
            print(f"serving {names} at {address}/v1 (how: {address}/docs)", flush=True)

        run(service, host=self.host, port=self.port, on_ready=on_ready)


def loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address, whatever its name stands for."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def several(name: str, given: str | None) -> tuple[str, ...]:
    """What stands between commas; nothing where nothing was given. ValueError for commas alone."""
    found = tuple(one.strip() for one in (given or "").split(",") if one.strip())
    if given is not None and not found:
        raise ValueError(f"{name} is empty: give one, or leave it out")
    return found


def named_models(models: str) -> dict[str, str]:
    """What is to be served, by the names that requests call it by. ValueError for a name that comes twice."""
    named: dict[str, str] = {}
    for entry in models.split(","):
        before, equals, after = entry.strip().partition("=")
        model = after.strip() if equals else before
        if not before or not model:
            raise ValueError(
                f"models is '{models}': give painters with commas between, such as {','.join(MODELS)}"
            )
        name = before if equals or model in MODELS else Path(model.removeprefix(HUB)).absolute().name
        if not name or "/" in name:
            raise ValueError(
                f"models is '{models}', with the name '{name}': give one without /, such as mine={model}"
            )
        if name in named or name == "clip":
            raise ValueError(f"models has '{name}' more than once: give another name, such as mine={model}")
        named[name] = model
    return named
