"""One emulator for the tests that only ask it things, and helpers to talk to it as the client's library would not."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from vastbench.emulator import Emulator

ORDER: dict[str, Any] = {"image": "ubuntu:22.04", "disk": 10.0, "runtype": "ssh_direc ssh_proxy"}
SPEED = 200.0


class Api:
    """A bare HTTP client of one emulator, with the account's key."""

    def __init__(self, emulator: Emulator, key: str | None = None) -> None:
        self.emulator = emulator
        headers = {"Authorization": f"Bearer {key or emulator.api_key}"}
        self.http = httpx.Client(base_url=emulator.url, headers=headers, timeout=20, verify=False)

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request; refused for its haste, it is sent again."""
        while (reply := self.http.request(method, path, **more)).status_code == 429:
            time.sleep(0.01)
        return reply

    def offers(self, **filters: Any) -> list[dict[str, Any]]:
        return self("PUT", "/api/v0/search/asks/", json={"q": filters}).json()["offers"]

    def create(self, **changes: Any) -> int:
        """Rent the first offer that can be had."""
        for offer in self.offers(num_gpus={"eq": "1"}):
            reply = self("PUT", f"/api/v0/asks/{offer['id']}/", json=ORDER | changes)
            if reply.status_code == 200:
                return int(reply.json()["new_contract"])
        raise AssertionError("no offer could be rented")

    def show(self, instance: int) -> dict[str, Any] | None:
        return self("GET", f"/api/v0/instances/{instance}/").json()["instances"]

    def wait(self, instance: int, wanted: Callable[[dict[str, Any] | None], bool]) -> dict[str, Any] | None:
        """Ask until the instance is as wanted; the test's own time limit ends a wait in vain."""
        while not wanted(row := self.show(instance)):
            pass
        return row

    def wait_status(self, instance: int, status: str) -> dict[str, Any]:
        row = self.wait(instance, lambda row: row is not None and row["actual_status"] == status)
        assert row is not None
        return row

    def destroy(self, instance: int) -> None:
        assert self("DELETE", f"/api/v0/instances/{instance}/", json={}).json()["success"]


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """An emulator whose machines always boot, 200 times faster than time."""
    with Emulator("seed", speed=SPEED) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    """The account's access to it; what a test rented is destroyed afterwards."""
    access = Api(emulator)
    with access.http:
        yield access
        rows = access("GET", "/api/v1/instances/").json()["instances"]
        for row in rows:
            access("DELETE", f"/api/v0/instances/{row['id']}/", json={})
