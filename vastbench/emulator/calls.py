"""One call to the API as the routes see it, and the table entry that says how a route is reached."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from vastbench.emulator.contract import Contract
from vastbench.emulator.market import Market
from vastbench.emulator.replies import Refusal

Reply = dict[str, Any] | list[Any] | Response


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in. ``own`` is the instance whose restricted key was used, None for the account's key."""

    market: Market
    path: Mapping[str, Any]
    query: Mapping[str, str]
    body: dict[str, Any]
    url: str
    own: Contract | None

    @property
    def instance(self) -> int:
        """The instance id in the path."""
        return int(self.path["id"])

    def json_query(self, name: str, default: Any) -> Any:
        """A query parameter that holds JSON. Raises Refusal (400) when it does not."""
        text = self.query.get(name)
        if text is None:
            return default
        try:
            return json.loads(text)
        except ValueError as error:
            raise Refusal(400, "invalid_request", f"{name} is no valid JSON: {text!r:.60}") from error


@dataclass(frozen=True, slots=True)
class Route:
    """How a route is reached: ``latency`` and ``limit`` name entries of the profile; ``public`` routes need no key;
    ``restricted`` ones are open to an instance's own key as well."""

    method: str
    path: str
    answer: Callable[[Call], Reply]
    latency: str = "other"
    limit: str | None = None
    public: bool = False
    restricted: bool = False
