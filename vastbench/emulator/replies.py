"""What the marketplace answers: JSON objects, refusals, and the four forms of "too many requests"."""

import json
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response


class Refusal(Exception):
    """A request that the marketplace refuses: HTTP status, its error code, its text, and what else the reply holds."""

    def __init__(self, status: int, code: str | None, text: str, **more: Any) -> None:
        """Take what the reply will say."""
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.more = more

    def response(self) -> Response:
        """The reply; without ``code`` it has no ``error`` key."""
        error = {} if self.code is None else {"error": self.code}
        return JSONResponse({"success": False, **error, "msg": self.text, **self.more}, self.status)


class Lost(Exception):
    """The request took effect, and its reply never arrives."""


def offer_gone(offer_id: int, form: int) -> Refusal:
    """One of the four forms (0 to 3) in which the marketplace says that an offer is no longer there."""
    if form == 3:
        return Refusal(409, None, "The offer is no longer available.", ask_id=offer_id)
    text = f"error 404/3603: no_such_ask Instance type by id {offer_id} is not available."
    status, code = ((400, "invalid_args"), (404, "invalid_args"), (410, "no_such_ask"))[form]
    return Refusal(status, code, text, ask_id=offer_id)


def too_many(threshold_s: float, form: int) -> Response:
    """One of the four forms (0–3) of 429, for an endpoint whose minimum interval is ``threshold_s`` seconds."""
    text = f"API requests too frequent: endpoint threshold={threshold_s}"
    match form:
        case 0:
            return PlainTextResponse(text, 429)
        case 1:
            return JSONResponse({"detail": text}, 429)
        case 2:
            return JSONResponse({"success": False, "error": "rate_limit_exceeded", "msg": text}, 429)
    return JSONResponse({"message": f"{text}*1.0", "code": "429 Too Many Requests"}, 429)


def parsed(raw: bytes) -> dict[str, Any]:
    """A request's body as an object; empty means ``{}``. Raises Refusal for anything else, NaN and infinities included."""
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_args", f"the body is no valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_args", f"the body must be a JSON object, not {type(body).__name__}")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
