"""Every endpoint under answers that no marketplace should give: a value of the documented form, or an error by name.

``VASTBENCH_EXAMPLES=1000 pytest tests/hostile/test_answers.py`` searches thoroughly.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.leaping import Leaping
from tests.hostile.mutations import Reply, replies
from tests.vast.market import KEY, causes, offer
from vastbench.errors import VastbenchError
from vastbench.vast.api import VastApi
from vastbench.vast.models import Charge, Created, CreateRequest, Instance, Offer, SshKey, User
from vastbench.vast.query import OfferQuery

PUBLIC = "ssh-ed25519 AAAAC3Nz run"
KEY_ROW = {"id": 5, "user_id": 1, "public_key": PUBLIC, "created_at": "2026-01-01", "deleted_at": None}
INSTANCE = {
    "id": 900,
    "label": "run-1",
    "machine_id": 51,
    "actual_status": "running",
    "intended_status": "running",
    "cur_state": "running",
    "next_state": "running",
    "status_msg": "success, running",
    "ssh_host": "ssh5.vast.ai",
    "ssh_port": 14000,
    "public_ipaddr": "10.0.0.1",
    "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41001"}]},
    "start_date": 1760000000.0,
    "extra_env": [["FOO", "bar"]],
    "gpu_name": "RTX 4090",
    "num_gpus": 1,
    "dph_base": 0.3,
    "dph_total": 0.31,
    "disk_space": 16.0,
}
CHARGE = {
    "start": 1760000000,
    "end": 1760003600,
    "type": "instance",
    "source": "instance-900",
    "amount": 0.312,
    "items": [{"type": "gpu", "amount": 0.3, "description": "1.000 hours at $0.300/hour"}],
}
DONE = {"success": True, "msg": "done"}
GONE = {"success": False, "error": "no_such_instance", "msg": "Instance 900 not found."}


def is_text(value: object) -> bool:
    """Text that a store and a terminal can take."""
    return isinstance(value, str) and bool(value.encode("utf-8") or True)


def is_offers(value: Any) -> bool:
    def sound(one: Offer) -> bool:
        prices = (one.dph_base, one.dph_total, one.storage_cost, one.usd_per_hour(20))
        return isinstance(one, Offer) and one.id >= 0 and all(0 <= price < math.inf for price in prices)

    return isinstance(value, list) and all(sound(one) for one in value)


def is_instance(value: Any) -> bool:
    if not isinstance(value, Instance):
        return False
    texts = (value.label, value.actual_status, value.status_msg, value.failed, value.ssh_host, value.geolocation)
    numbers = (value.dph_total, value.start_date, value.num_gpus, value.ssh_port)
    endpoints = (value.direct_endpoint, value.proxy_endpoint)
    return (
        value.id >= 0
        and all(text is None or is_text(text) for text in texts)
        and all(number is None or math.isfinite(number) for number in numbers)
        and all(one is None or (is_text(one[0]) and 0 < one[1] < 65536) for one in endpoints)
    )


def is_list_of(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(one, value))


def is_key(value: Any) -> bool:
    return isinstance(value, SshKey) and value.id >= 0 and (value.public_key is None or is_text(value.public_key))


def is_created(value: Any) -> bool:
    return isinstance(value, Created) and 0 <= value.new_contract < 10**18


def is_charge(value: Any) -> bool:
    whole = value.instance_id is None or isinstance(value.instance_id, int)
    return (
        isinstance(value, Charge)
        and math.isfinite(value.amount)
        and whole
        and all(math.isfinite(bound) for one in value.charged.values() for bound in (one.low, one.high))
        and (value.label is None or is_text(value.label))
    )


def is_user(value: Any) -> bool:
    return isinstance(value, User) and all(n is None or math.isfinite(n) for n in (value.credit, value.balance))


def strictly(reply: Reply) -> Any:
    """What a careful reader makes of a body; None where it has no one meaning."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        return json.loads(reply.response().read(), object_pairs_hook=once)
    except (ValueError, RecursionError, httpx.DecodingError):
        return None


def lists(*names: str) -> Callable[[Reply], bool]:
    """Whether a reply holds a readable list under one of the names."""

    def says(reply: Reply) -> bool:
        value = strictly(reply)
        found = [value[name] for name in names if name in value] if isinstance(value, dict) else [value]
        texts = [json.loads(one) if isinstance(one, str) else one for one in found[:1]]
        return reply.status // 100 == 2 and bool(texts) and isinstance(texts[0], list)

    return says


def says_none(reply: Reply) -> bool:
    value = strictly(reply)
    if not isinstance(value, dict):
        return False
    if reply.status // 100 == 2 and "instances" in value and value.get("success") is not False:
        return value["instances"] is None
    code = value["error"] if isinstance(value.get("error"), str) else value.get("code")
    return reply.status in (200, 404) and str(code).strip() in ("no_such_instance", "not_found")


def says_no_keys(reply: Reply) -> bool:
    return reply.status == 404 or lists("ssh_keys", "keys")(reply)


@dataclass(frozen=True)
class Endpoint:
    """A method of the client: how it is called, what it may return, what it answers, and which reply may mean "nothing"."""

    call: Callable[[VastApi], Any]
    form: Callable[[Any], bool]
    valid: tuple[Any, ...]
    nothing: Callable[[Reply], bool] = field(default=lambda reply: False)


def page_of(*rows: Any, token: str | None = None) -> dict[str, Any]:
    return {"success": True, "instances": list(rows), "total_instances": 2, "instances_found": 2, "next_token": token}


ENDPOINTS = {
    "search_offers": Endpoint(
        lambda api: api.search_offers(OfferQuery.parse("", defaults=False)),
        is_offers,
        ({"offers": [offer(geolocation="Sweden, SE", reliability2=0.99, rentable=True), offer(id=2, inet_up_cost=0.01)]},),
        lists("offers"),
    ),
    "create_instance": Endpoint(
        lambda api: api.create_instance(7, CreateRequest("ubuntu", 10, "run-1")),
        is_created,
        ({"success": True, "new_contract": 900, "instance_api_key": "its-own-key"}, {"success": False, "new_contract": 900}),
    ),
    "get_instance": Endpoint(
        lambda api: api.get_instance(900),
        lambda value: value is None or (is_instance(value) and value.id == 900),
        ({"instances": INSTANCE}, {"instances": None}, GONE),
        says_none,
    ),
    "list_instances": Endpoint(
        lambda api: api.list_instances(),
        is_list_of(is_instance),
        (page_of(INSTANCE, token="t1"), page_of(INSTANCE | {"id": 901}), page_of() | {"total_instances": 0}),
        lists("instances"),
    ),
    "instance_pages": Endpoint(
        lambda api: api.instance_pages(tries=1),
        lambda pages: all(is_list_of(is_instance)(page.value) for page in pages),
        (page_of(INSTANCE, token="t1"), page_of(INSTANCE | {"id": 901})),
        lists("instances"),
    ),
    "start_instance": Endpoint(lambda api: api.start_instance(900), is_text, (DONE, GONE)),
    "stop_instance": Endpoint(lambda api: api.stop_instance(900), is_text, (DONE, GONE)),
    "label_instance": Endpoint(lambda api: api.label_instance(900, "new"), is_text, (DONE, GONE)),
    "destroy_instance": Endpoint(lambda api: api.destroy_instance(900), is_text, (DONE, GONE)),
    "list_ssh_keys": Endpoint(
        lambda api: api.list_ssh_keys(),
        is_list_of(is_key),
        ([KEY_ROW], {"ssh_keys": [KEY_ROW]}, {"ssh_keys": json.dumps([KEY_ROW])}, {"success": False, "error": "no_ssh_keys"}),
        says_no_keys,
    ),
    "create_ssh_key": Endpoint(lambda api: api.create_ssh_key(PUBLIC), is_key, ({"success": True, "key": KEY_ROW}, [KEY_ROW])),
    "delete_ssh_key": Endpoint(lambda api: api.delete_ssh_key(5), is_text, (DONE, {"success": False, "error": "not_found"})),
    "attach_ssh_key": Endpoint(
        lambda api: api.attach_ssh_key(900, PUBLIC),
        is_text,
        (DONE, {"success": False, "error": "invalid_args", "msg": "Key is already associated with instance"}),
    ),
    "logs": Endpoint(
        lambda api: api.logs(900),
        is_text,
        ({"success": True, "result_url": "https://files.test/log"}, {"any": "log"}),
    ),
    "charges": Endpoint(
        lambda api: api.charges(0, 1),
        is_list_of(is_charge),
        ({"success": True, "results": [CHARGE], "next_token": "t1"}, {"results": [CHARGE], "next_token": None}),
        lists("results"),
    ),
    "current_user": Endpoint(
        lambda api: api.current_user(), is_user, ({"id": 1, "email": "a@b.c", "credit": 5.5, "balance": None, "api_key": "x"},)
    ),
}


def test_every_method_that_calls_the_marketplace_is_tried():
    ours = {name for name, value in vars(VastApi).items() if callable(value) and not name.startswith("_")}
    assert ours - {"close", "epoch_s"} == set(ENDPOINTS)


@pytest.mark.parametrize("name", ENDPOINTS)
@settings(settings.get_profile("hostile"))
@given(data=st.data())
def test_a_value_of_the_documented_form_or_an_error_by_name(name, data):
    endpoint = ENDPOINTS[name]
    served: list[Reply | Exception] = []

    def answer(request: httpx.Request) -> httpx.Response:
        # A few answers, then the last one for ever.
        reply = data.draw(replies(data.draw(st.sampled_from(endpoint.valid)))) if len(served) < 6 else served[-1]
        served.append(reply)
        if isinstance(reply, Exception):
            raise reply
        return reply.response()

    with VastApi("https://market.test", KEY, clock=Leaping(), transport=httpx.MockTransport(answer)) as api:
        value = value_or_error(endpoint.call, api)
    if isinstance(value, VastbenchError):
        assert str(value).isprintable()
        assert "its-own-key" not in str(value)
        assert not any(KEY in str(one) + repr(vars(one)) for one in causes(value))
        return
    value = value if name == "instance_pages" else value.value
    assert endpoint.form(value)
    if value is None or value == []:
        assert endpoint.nothing(served[-1])


def value_or_error(call: Callable[[VastApi], Any], api: VastApi) -> Any:
    """What a call gave; an error that is not one of ours goes on."""
    try:
        return call(api)
    except VastbenchError as error:
        return error
