"""Faults of the HTTP side: what a call gets instead of its answer, and how the list is spoilt."""

from typing import Any, NamedTuple

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from vastbench.emulator.calls import Call, Reply
from vastbench.emulator.faults import Faults
from vastbench.emulator.pace import Pace
from vastbench.emulator.replies import Lost, Refusal, too_many

_TOO_MANY = ("429-text", "429-detail", "429-json", "429-message")
_FAILURES = {
    "500": "500 Internal Server Error",
    "503": "503 Service Unavailable",
    "504": "504 Gateway Time-out",
    "520": "error code: 520",
}
_LATE = ("504", "520")
_FORBIDDEN = "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>"
_DOWN_FOR_S = 60.0


class Spoilt(NamedTuple):
    """The answer that takes the place of the marketplace's, and whether the call takes effect all the same."""

    response: Response
    takes_effect: bool


class CallFaults:
    """What goes wrong with calls, whatever they are about."""

    def __init__(self, faults: Faults, pace: Pace) -> None:
        """Draw when the API will be down."""
        self._faults = faults
        self._pace = pace
        begins = faults.drawn("api-down", 10, 60)
        self._down = (pace.now() + begins, pace.now() + begins + _DOWN_FOR_S) if begins else None

    def reject_key(self, call: str) -> None:
        """Raise the Refusal of a key that is good, or of its account."""
        if self._faults.strikes("key-rejected-401", call):
            raise Refusal(401, "auth_error", "Invalid or expired API key")
        if self._faults.strikes("key-rejected-404", call):
            raise Refusal(404, "auth_error", "Invalid user key")
        if self._faults.strikes("suspended", call):
            raise Refusal(403, "account_suspended", "Your account is suspended.")

    def spoilt(self, call: str, threshold_s: float) -> Spoilt | None:
        """What the call gets instead of its answer, None for nothing. Raises Lost when it gets nothing at all."""
        if self._down is not None and self._down[0] <= self._pace.now() < self._down[1]:
            if self._faults.stream("api-down").happens(0.5):
                raise Lost
            return Spoilt(PlainTextResponse(_FAILURES["503"], 503), False)
        for form, name in enumerate(_TOO_MANY):
            if self._faults.strikes(name, call):
                return Spoilt(too_many(threshold_s, form), False)
        for name, text in _FAILURES.items():
            if self._faults.strikes(name, call):
                late = name in _LATE and self._faults.stream(name, call).happens(0.5)
                return Spoilt(PlainTextResponse(text, int(name)), late)
        if self._faults.strikes("proxy-403", call):
            return Spoilt(HTMLResponse(_FORBIDDEN, 403), False)
        return None

    def delay_s(self, call: str) -> float:
        """How much longer the answer takes, in seconds."""
        return self._faults.drawn("slow-answers", 5, 25, call)


def before_searching(call: Call) -> None:
    """The fault of a search that finds nothing. Raises Refusal."""
    if call.market.faults.strikes("search-quota"):
        raise Refusal(429, "search_quota_exceeded", "The daily search quota is used up.", limit=20_000, remaining=0)


def before_renting(call: Call) -> None:
    """Faults of a create that rents nothing. Raises Lost or Refusal."""
    faults = call.market.faults
    if faults.strikes("dropped-before-create"):
        raise Lost
    if faults.strikes("credit-ends"):
        raise Refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
    if faults.strikes("spend-limit"):
        raise Refusal(403, "spend_rate_limit", "This would exceed the account's spending limit.")
    if faults.strikes("success-false"):
        raise Refusal(200, "internal_error", "Something went wrong; try again.")


def spoilt_list(call: Call, answer: dict[str, Any]) -> Reply:
    """The list's answer, or what stands in its place."""
    faults = call.market.faults
    if faults.strikes("list-301"):
        return JSONResponse({"success": True, "msg": "moved permanently"}, 301, {"location": "/api/v1/instances/"})
    if faults.strikes("list-410"):
        raise Refusal(410, "deprecated_endpoint", "This endpoint is deprecated.")
    if faults.strikes("list-truncated"):
        whole = bytes(JSONResponse(answer).body)
        return Response(whole[: max(1, int(len(whole) * faults.stream("list-truncated").between(0.05, 0.95)))], 200)
    return answer
