"""A scripted marketplace for the client's tests: replies in order, requests kept."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from vastbench.clock import Clock
from vastbench.vast.api import VastApi

KEY = "k3y-that-must-not-be-seen-anywhere"
FAST = Clock(1000)


class Script:
    """Answers each request with the next reply; the last one is repeated.

    A reply is a body (status 200), a pair (status, body), an exception to raise, or a function of the request.
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if callable(reply) and not isinstance(reply, type):
            reply = reply(request)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx.Response) else response(reply)

    def body(self, index: int = -1) -> Any:
        return json.loads(self.requests[index].content)


def response(reply: Any) -> httpx.Response:
    status, body = reply if isinstance(reply, tuple) else (200, reply)
    if isinstance(body, str):
        body = body.encode()
    return httpx.Response(status, content=body if isinstance(body, bytes) else json.dumps(body).encode())


def client(script: Callable[[httpx.Request], httpx.Response], clock: Clock = FAST, **options: Any) -> VastApi:
    return VastApi("https://market.test", KEY, clock=clock, transport=httpx.MockTransport(script), **options)


def page(*rows: dict[str, Any], token: str | None = None, total: int | None = None) -> dict[str, Any]:
    return {
        "success": True,
        "instances": list(rows),
        "next_token": token,
        "total_instances": len(rows) if total is None else total,
    }


def offer(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "dph_base": 0.2, "dph_total": 0.21, "storage_cost": 0.36, "gpu_name": "RTX 4090", "num_gpus": 1} | fields


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
