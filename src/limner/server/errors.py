"""What is refused, in the shape that clients of the API read: `{"error": {message, type, param, code}}`."""

import json
import logging
from collections.abc import Mapping

from starlette.responses import Response

from limner.errors import LimnerError

LOG = logging.getLogger(__name__)
# Of requests, those that painters look at.
FIELDS = "prompt negative_prompt n seed steps guidance size image mask model input".split()
INVALID = "invalid_request_error"
SERVER = "server_error"


class Refused(Exception):
    """A request that cannot be served: the HTTP `status`, what to tell people, and what to tell programs.

    `param`: the field that is wrong. `code`: a name that programs may branch on. `retry_after`: seconds after
    which it may be tried again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def type(self) -> str:
        """The API's kind of error."""
        if self.status == 429:
            return "rate_limit_error"
        return SERVER if self.status >= 500 else INVALID

    @property
    def told(self) -> dict[str, dict[str, str | None]]:
        """As the body of an answer, or the data of an event."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """The answer."""
        more = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            more["WWW-Authenticate"] = "Bearer"
        # ASCII, so that half a character in what was sent does not spoil what is answered.
        body = json.dumps(self.told)
        return Response(body, self.status, headers={**(headers or {}), **more}, media_type="application/json")


OWN_FAULT = Refused(
    "the server failed at this, and its log says how: try again, or tell whoever runs it",
    status=500,
    code="internal_error",
)


def of_failure(error: LimnerError) -> Refused:
    """What went wrong with the machine: full disks, broken weights. Its message is for whoever runs it.

    It names paths, so it goes to the log and not over the wire.
    """
    LOG.error("%s", error)
    return Refused(
        "the server cannot do this now, and its log says why: try again later, or tell whoever runs it",
        status=503,
        code="painter_failed",
        retry_after=5,
    )


def of_value(error: ValueError) -> Refused:
    """What a painter refuses: its messages begin with the name of the argument."""
    message = str(error)
    name = message.partition(" ")[0]
    name = {"count": "n", "prompts": "prompt"}.get(name, name)
    return Refused(message, param=name if name in FIELDS else None, code="invalid_value")
