"""A marketplace in memory that keeps its instances whatever becomes of its answers."""

import json
from typing import Any

import httpx

from vastbench.vast.api import PAGE_ROWS

FOREIGN = (70_001, 70_002)
"""Instances of somebody else on the same account."""


class Marketplace:
    """Answers creates, the paged list, looks at one instance and destroys; ``alive`` is the truth."""

    def __init__(self) -> None:
        self.alive: dict[int, dict[str, Any]] = {number: row(number, "not ours") for number in FOREIGN}
        self._next = 80_000

    def __call__(self, request: httpx.Request) -> Any:
        """The JSON value of the answer, after its effect."""
        path = request.url.path
        if request.method == "PUT" and path.startswith("/api/v0/asks/"):
            self._next += 1
            self.alive[self._next] = row(self._next, json.loads(request.content)["label"])
            return {"success": True, "new_contract": self._next, "instance_api_key": "its-own-key"}
        if request.method == "GET" and path == "/api/v1/instances/":
            token = request.url.params.get("after_token", "0")
            if not token.isascii() or not token.isdigit():
                return {"success": False, "error": "invalid_token"}
            after = int(token)
            left = [one for number, one in sorted(self.alive.items()) if number > after]
            page = left[: min(PAGE_ROWS, 2)]
            token = str(page[-1]["id"]) if len(left) > len(page) else None
            return {"success": True, "instances": page, "total_instances": len(self.alive), "next_token": token}
        if path == "/api/v0/ssh/":
            return []
        if path == "/api/v0/users/current/":
            return {"id": 1}
        number = int(path.rstrip("/").rpartition("/")[2])
        if request.method == "GET":
            return {"instances": self.alive.get(number)}
        if request.method == "DELETE":
            gone = self.alive.pop(number, None)
            return {"success": True, "msg": "destroyed"} if gone else {"success": False, "error": "no_such_instance"}
        raise AssertionError(f"{request.method} {path} is no part of a lease")


def row(number: int, label: str) -> dict[str, Any]:
    return {"id": number, "label": label, "actual_status": "running", "intended_status": "running", "machine_id": 1}
