"""The HTTP side: lets calls in, delays them as the profile says, and turns what they raise into the marketplace's answers.

A call takes its drawn latency in all. What it reads or changes, it reads or changes at a fixed part of it, so that the client's
own sending and receiving times enclose the moment.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Match
from starlette.routing import Route as Path

from vastbench.emulator import rights, routes_account, routes_market
from vastbench.emulator.callfaults import CallFaults
from vastbench.emulator.calls import Call, Route
from vastbench.emulator.contract import Contract
from vastbench.emulator.draws import Stream
from vastbench.emulator.limits import Limiter
from vastbench.emulator.market import Market
from vastbench.emulator.replies import Lost, Refusal, parsed, too_many
from vastbench.emulator.shapes import conform

_LARGEST_BODY = 1_000_000

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def build(market: Market) -> Starlette:
    """The ASGI application of one market."""
    gate = Gate(market)
    paths = [
        Path(route.path, _endpoint(gate, route), methods=[route.method])
        for route in (*routes_market.ROUTES, *routes_account.ROUTES)
    ]
    app = Starlette(routes=paths, exception_handlers={HTTPException: _missing})
    app.router.redirect_slashes = False
    return app


class Gate:
    """What every call passes through: key, rate limit, faults, delay."""

    def __init__(self, market: Market) -> None:
        """Guard ``market``."""
        self._market = market
        self._limiter = Limiter(market.profile.limits, market.pace)
        self._faults = CallFaults(market.faults, market.pace)
        self._streams: dict[str, Stream] = {}

    def epoch(self) -> float:
        """The marketplace's date, which runs as fast as its instances grow old."""
        return self._market.pace.epoch()

    async def answer(self, route: Route, request: Request) -> Response:
        """The reply to ``request``, given when its latency has passed. Raises Lost when it is to get lost."""
        market = self._market
        arrived = market.pace.now()
        body = await _body(request)
        name = self._name(route, request)
        spoilt = None
        try:
            own = None if route.public else self._identify(route, request)
            if not route.public and own is None:
                self._faults.reject_key(name)
                rights.check(market.account.lacks, route.method, route.path)
            if (refusal := self._too_soon(route, request)) is not None:
                return await self._later(refusal, arrived)
            if not route.public and self._draws(f"fault/{name}").happens(market.profile.faults.bad_gateway.p):
                return await self._later(PlainTextResponse("502 Bad Gateway", 502), arrived)
            if not route.public:
                spoilt = self._faults.spoilt(name, self._limiter.threshold_s(route.limit))
            if spoilt is not None and not spoilt.takes_effect:
                return await self._later(spoilt.response, arrived)
            call = Call(market, request.path_params, request.query_params, parsed(body), str(request.base_url).rstrip("/"), own)
        except Refusal as refused:
            return await self._later(refused.response(), arrived)
        seconds = self._latency(route, name)
        await market.pace.sleep_until(arrived + seconds * min(market.profile.latency.effect.value, 1.0))
        try:
            reply = route.answer(call)
            shape = market.profile.shapes.get(f"{route.method} {route.path.replace(':int', '')}")
            if shape and not isinstance(reply, Response):
                reply = conform(reply, shape, changing="/instances/" in route.path)
            response = reply if isinstance(reply, Response) else JSONResponse(reply)
        except Refusal as refused:
            response = refused.response()
        await market.pace.sleep_until(arrived + seconds)
        return response if spoilt is None else spoilt.response

    def _identify(self, route: Route, request: Request) -> Contract | None:
        key = _key(request)
        if not key:
            raise Refusal(403, "auth_error", "This action requires login.")
        if hmac.compare_digest(key.encode(), self._market.account.api_key.encode()):
            return None
        for contract in self._market.contracts.values():
            if hmac.compare_digest(key.encode(), contract.key.encode()):
                if not route.restricted or request.path_params.get("id") != contract.id:
                    raise Refusal(403, "not_authorized", "This key may only read, start, stop and destroy its own instance.")
                return contract
        raise Refusal(404, "auth_error", "Invalid user key")

    def _too_soon(self, route: Route, request: Request) -> Response | None:
        following_page = "after_token" in request.query_params
        limit = None if following_page else route.limit
        threshold = self._limiter.refuses(limit, route.path, route.method, _key(request))
        return None if threshold is None else too_many(threshold, self._draws("form").below(4))

    def _latency(self, route: Route, name: str) -> float:
        if route.latency == "none":
            return 0.0
        return self._draw(name, route.latency) + self._faults.delay_s(name)

    def _name(self, route: Route, request: Request) -> str:
        """The name of a call's own stream: answers about one instance do not depend on how often another is asked about."""
        contract = self._market.contracts.get(request.path_params.get("id", -1))
        return f"{route.method} {route.path} {'' if contract is None else contract.number}"

    def _draw(self, name: str, latency: str) -> float:
        return self._draws(f"latency/{name}").draw(getattr(self._market.profile.latency, latency))

    def _draws(self, name: str) -> Stream:
        return self._streams.setdefault(name, Stream(self._market.seed, name))

    async def _later(self, response: Response, arrived: float) -> Response:
        await self._market.pace.sleep_until(arrived + self._draw("refusal", "other"))
        return response


def _endpoint(gate: Gate, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            response = await gate.answer(route, request)
            response.headers["date"] = formatdate(gate.epoch(), usegmt=True)
            return response
        except Lost:
            return _Dropped()
        except ClientDisconnect:
            return Response(status_code=400)

    return endpoint


class _Dropped(Response):
    """Half of a reply, then the end of the connection."""

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:  # noqa: ARG002
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"success": true, "new_', "more_body": True})


def _key(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.query_params.get("api_key", "")


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _LARGEST_BODY:
            raise HTTPException(413, f"the body has more than {_LARGEST_BODY} bytes")
    return bytes(raw)


async def _missing(request: Request, error: Exception) -> Response:
    """Unknown routes, wrong methods and oversized bodies, as JSON; lists without their slash answer like an empty account."""
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    if error.status_code == 404 and not path.endswith("/") and _known(request, path + "/"):
        return JSONResponse({"success": True, "msg": "moved permanently"}, 301, {"location": path + "/"})
    code = {404: "not_found", 405: "method_not_allowed", 413: "invalid_args"}.get(error.status_code, "error")
    text = error.detail if error.status_code == 413 else f"{request.method} {path}: {error.detail}"
    return Refusal(error.status_code, code, text).response()


def _known(request: Request, path: str) -> bool:
    scope = dict(request.scope) | {"path": path}
    return any(route.matches(scope)[0] is not Match.NONE for route in request.app.router.routes)
