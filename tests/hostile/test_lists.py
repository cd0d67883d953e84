"""A list that cannot be read never leads to "nothing is running": one case for each way of failing."""

import json

import httpx
import pytest

from tests.hostile.leaping import Leaping
from tests.hostile.marketplace import Marketplace
from tests.hostile.test_leases import NUMBERS, URL, rent_and_leave
from tests.vast.market import KEY, client, page, response
from vastbench.errors import ApiError
from vastbench.store import Store
from vastbench.vast.api import VastApi

EMPTY = page()
FAILURES = {
    "truncated JSON": (200, '{"success": true, "instances": ['),
    "301 with a parseable body without instances": (301, {"success": True}),
    "308 with an empty list": (308, EMPTY),
    "410 deprecated": (410, {"success": False, "error": "deprecated_endpoint", "msg": "deprecated"}),
    "410 with an empty list": (410, EMPTY),
    "404 that rejects the key": (404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
    "404 of a page": (404, "<html>not found</html>"),
    "401": (401, {"success": False, "error": "auth_error"}),
    "403": (403, {"msg": "forbidden"}),
    "429 as text": (429, "API requests too frequent: endpoint threshold=1.0"),
    "429 with detail": (429, {"detail": "too many requests"}),
    "429 with success false": (429, {"success": False, "error": "rate_limited", "msg": "slow down"}),
    "429 of the quota": (429, {"error": "search_quota_exceeded", "retry_after": 30}),
    "500": (500, {"success": False}),
    "502 of a gateway": (502, "<html>Bad Gateway</html>"),
    "503 with an empty list": (503, EMPTY),
    "504": (504, ""),
    "200 that says no": (200, EMPTY | {"success": False}),
    "204": (204, ""),
    "instances null": (200, EMPTY | {"instances": None}),
    "instances an object": (200, EMPTY | {"instances": {}}),
    "instances text": (200, EMPTY | {"instances": "[]"}),
    "instances missing": (200, {"success": True, "next_token": None, "total_instances": 0}),
    "instances twice": (200, '{"instances": [{"id": 1}], "total_instances": 0, "instances": []}'),
    "more instances than rows": (200, EMPTY | {"total_instances": 3}),
    "a next_token that loops": (200, page(token="again")),
    "a next_token that is not text": (200, EMPTY | {"next_token": {"after": 1}}),
    "a page of HTML": (200, "<html>maintenance</html>"),
    "an empty body": (200, ""),
    "null": (200, "null"),
    "a bare list": (200, "[]"),
    "a row without id": (200, page({"label": "x"})),
    "a row that is null": (200, page(None)),
    "a duplicate page": (200, page({"id": 1}, total=2)),
    "another encoding": (200, json.dumps(EMPTY).encode("utf-16")[:-1]),
    "no connection": httpx.ConnectError("faked"),
    "no answer": httpx.ReadTimeout("faked"),
}
"""Ways in which a list fails: on its only page, or on a page after the first."""


def given(failure):
    if isinstance(failure, Exception):
        raise failure
    return response(failure)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_the_list_is_an_error_not_an_empty_list(failure):
    with pytest.raises(ApiError):
        client(lambda request: given(failure), Leaping()).list_instances()


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failed_second_page_is_an_error_and_not_a_shorter_list(failure):
    first = page({"id": 1}, token="t1", total=2)

    def answer(request):
        return given(failure) if "after_token" in request.url.params else response(first)

    with pytest.raises(ApiError):
        client(answer, Leaping()).list_instances()


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_lease_that_cannot_be_confirmed_by_the_list_stays_open(failure, store):
    """The instance outlives its destroy, and every way of asking but the list says that it is gone."""
    market, clock, label = Marketplace(), Leaping(), f"vb-lists-{next(NUMBERS)}"

    def answer(request):
        if request.method == "GET":
            return given(failure) if request.url.path == "/api/v1/instances/" else response({"instances": None})
        return response({"success": True, "msg": "destroyed"} if request.method == "DELETE" else market(request))

    with VastApi(URL, KEY, clock=clock, transport=httpx.MockTransport(answer)) as api:
        rent_and_leave(api, clock, store, label)
    (lease,) = [row for row in store.leases(open_only=True) if row.label == label]
    assert lease.instance_id in market.alive
    assert lease.verdict in {"unknown", "leaked"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("lists") / "runs.sqlite") as opened:
        yield opened
