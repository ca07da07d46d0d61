"""By what names a server may be asked, and by pages from where.

A browser sends what any page tells it to, also to servers that listen to its machine alone. What it adds is
the name that was asked for (Host) and where the page is from (Origin), and these are looked at here.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from limner.server.errors import Refused

# How long a browser may remember that a page was allowed, in seconds.
REMEMBERED = 600


class Origins:
    """Knows the server's own names and pages, and the origins of others' that are `allowed`.

    `hosts`: the names that may be asked by, beside loopback addresses; any if empty. `public`: how the server
    is reached from outside, if by another name. Pages from any of these names are the server's own, and so
    are those from the very address that was asked; of all others only the allowed ones may ask and read.
    """

    def __init__(self, *, hosts: Sequence[str], public: str | None, allowed: Sequence[str]) -> None:
        self._hosts = tuple(host.lower() for host in hosts)
        self._public = _netloc(public or "")
        self._allowed = tuple(origin.lower() for origin in allowed)

    def refusal(self, headers: Headers) -> Refused | None:
        """Why a request is not let in; None where it is."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts and not self._named(f"//{host}"):
            return Refused(
                f"'{host[:60]}' is not this server: ask for http://{self._hosts[0]}, or start it with a "
                "--url of that name",
                status=403,
                code="wrong_host",
            )
        if origin is None or self._is_allowed(origin) or self._is_own(origin, host):
            return None
        return Refused(
            f"pages from '{origin[:60]}' may not ask this server: start it with --allow-origin and that, if "
            "they are to",
            status=403,
            code="wrong_origin",
        )

    def told(self, headers: Headers) -> dict[str, str]:
        """What an answer has to say, so that a page from elsewhere may read it; nothing where it may not."""
        origin = headers.get("origin")
        if origin is None or not self._is_allowed(origin):
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After"}

    def _is_allowed(self, origin: str) -> bool:
        return origin.lower() in self._allowed

    def _is_own(self, origin: str, host: str) -> bool:
        where = _netloc(origin)
        if where != "" and where in (host.lower(), self._public):
            return True
        return bool(self._hosts) and self._named(origin)

    def _named(self, address: str) -> bool:
        """Whether an address is by one of the names."""
        try:
            host = urlsplit(address).hostname or ""
            return host in self._hosts or ip_address(host).is_loopback
        except ValueError:
            return False


def permission(headers: Headers) -> dict[str, str]:
    """What a browser is told that asks whether an allowed page may ask."""
    return {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
        "Access-Control-Max-Age": str(REMEMBERED),
        "Vary": "Origin",
    }


def asks_permission(method: str, headers: Headers) -> bool:
    """Whether a request is a browser's question what a page may do."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def checked_origin(origin: str) -> str:
    """The origin as browsers send it. ValueError for what is none, such as an address with a path."""
    try:
        parts = urlsplit(origin)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or origin.lower() != f"{parts.scheme}://{parts.netloc.lower()}" or "@" in origin:
        raise ValueError(
            f"allow_origin is '{origin[:60]}': give where pages are from, without a path, such as "
            "https://paint.example"
        )
    return origin.lower()


def _netloc(address: str) -> str:
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""
