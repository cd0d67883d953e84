"""The routes that search, rent, list, change and destroy."""

import base64
import binascii
import json
from collections import Counter
from typing import Any

from starlette.responses import PlainTextResponse

from vastbench.emulator import query
from vastbench.emulator.callfaults import before_renting, before_searching, spoilt_list
from vastbench.emulator.calls import Call, Reply, Route
from vastbench.emulator.contract import Contract
from vastbench.emulator.orders import Order, order
from vastbench.emulator.replies import Lost, Refusal

_PAGE = 25
_SMALL_PAGE = 5
_COMPUTED = frozenset({"dph_total", "num_gpus", "duration", "search", "instance", "ports"})
_LABEL_MAX = 1024
_DEPRECATED = "This endpoint is deprecated: use /api/v1/instances/."


def _bundles(call: Call) -> Reply:
    before_searching(call)
    return {"offers": call.market.search(call.body)}


def _bundles_by_get(call: Call) -> Reply:
    body = call.json_query("q", {})
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_args", "q must be a JSON object")
    return {"offers": call.market.search(body)}


def _asks(call: Call) -> Reply:
    body = call.body.get("q", {})
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_args", "q must be a JSON object")
    return {"success": True, "offers": call.market.search(body)}


def _create(call: Call) -> Reply:
    contract = _rent(call, call.instance, order(call.body))
    if call.market.loses_reply(contract):
        raise Lost
    return _created(contract)


def _create_many(call: Call) -> Reply:
    body = dict(call.body)
    ids = _ids(body.pop("ids", None), "ids")
    wanted = order(body)
    results: dict[str, Any] = {}
    for offer in ids:
        try:
            results[str(offer)] = _created(_rent(call, offer, wanted))
        except Refusal as refusal:
            results[str(offer)] = {"success": False, "error": refusal.code, "msg": refusal.text, **refusal.more}
    return {"success": all(result["success"] for result in results.values()), "results": results}


def _launch(call: Call) -> Reply:
    body = dict(call.body)
    search = body.pop("q", {})
    if not isinstance(search, dict):
        raise Refusal(400, "invalid_args", "q must be a JSON object")
    wanted = order(body)
    offers = call.market.search(search)
    if not offers:
        raise Refusal(404, "no_such_ask", "No offer matches.")
    return _created(_rent(call, offers[0]["id"], wanted))


def _rent(call: Call, offer: int, wanted: Order) -> Contract:
    before_renting(call)
    contract = call.market.create(offer, wanted)
    if call.market.faults.strikes("error-with-contract", contract.number):
        raise Refusal(400, "invalid_args", "The instance was made, but something went wrong.", new_contract=contract.id)
    return contract


def _created(contract: Contract) -> dict[str, Any]:
    return {"success": True, "new_contract": contract.id, "instance_api_key": contract.key}


def _list(call: Call) -> Reply:
    market = call.market
    rows = {contract.id: market.row(contract) | {"volume_info": []} for contract in market.listed()}
    filters = call.json_query("select_filters", {})
    if not isinstance(filters, dict):
        raise Refusal(400, "invalid_request", "select_filters must be a JSON object")
    # The first page of an account that has never rented anything still knows the columns.
    columns = _columns(call)
    for column in filters:
        _check_column(column, columns)
    found = [row for row in rows.values() if _selected(row, filters)]
    sort = call.json_query("order_by", [{"col": "id", "dir": "asc"}])
    in_order = query.ordered(found, _order(sort, columns))
    page, token = _page(call, in_order, sort)
    selected = call.json_query("select_cols", None)
    if selected is not None:
        if not isinstance(selected, list):
            raise Refusal(400, "invalid_request", "select_cols must be a list")
        page = [{key: row[key] for key in row if key in selected or key == "id" or "*" in selected} for row in page]
    labels = Counter(str(row["label"] or "") for row in rows.values())
    answer = {
        "success": True,
        "instances_found": len(found),
        "total_instances": len(rows),
        "label_counts": dict(labels),
        "next_token": token,
        "instances": page,
    }
    return spoilt_list(call, answer)


def _columns(call: Call) -> frozenset[str]:
    contract = next(iter(call.market.contracts.values()), None)
    return frozenset(call.market.row(contract)) if contract is not None else frozenset()


def _check_column(column: Any, columns: frozenset[str]) -> None:
    if not isinstance(column, str) or column in _COMPUTED or (columns and column not in columns):
        raise Refusal(400, "invalid_request", f"invalid column {column!r:.60}")


def _selected(row: dict[str, Any], filters: dict[str, Any]) -> bool:
    tests = {("instance_id" if column == "id" else column): test for column, test in filters.items()}
    return bool(query.matching([row | {"instance_id": row["id"]}], tests))


def _order(sort: Any, columns: frozenset[str]) -> list[list[str]]:
    if not isinstance(sort, list) or not all(isinstance(one, dict) and "col" in one for one in sort):
        raise Refusal(400, "invalid_request", "order_by must be a list of {col, dir}")
    for one in sort:
        _check_column(one["col"], columns)
    return [[one["col"], one.get("dir", "asc")] for one in sort]


def _page(call: Call, rows: list[dict[str, Any]], sort: Any) -> tuple[list[dict[str, Any]], str | None]:
    limit = int(query.number(call.query.get("limit", _PAGE), "limit"))
    limit = min(limit, _PAGE) if limit > 0 else _SMALL_PAGE
    begin = 0
    if (token := call.query.get("after_token")) is not None:
        after = _read_token(token)
        # In the usual order, by id, a page survives the disappearance of the row that it follows.
        by_id = sort == [{"col": "id", "dir": "asc"}]
        places = [place for place, row in enumerate(rows) if (row["id"] <= after if by_id else row["id"] == after)]
        begin = places[-1] + 1 if places else 0
    page = rows[begin : begin + limit]
    more = begin + limit < len(rows)
    token = json.dumps({"after": page[-1]["id"]}, allow_nan=False) if more and page else None
    return page, token and base64.urlsafe_b64encode(token.encode()).decode()


def _read_token(token: str) -> int:
    try:
        return int(json.loads(base64.b64decode(token, altchars=b"-_", validate=True))["after"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Refusal(400, "invalid_token", f"after_token {token!r:.60} was not issued here") from error


def _lite(call: Call) -> Reply:
    keys = ("id", "label", "actual_status", "intended_status", "machine_id")
    rows = [call.market.row(contract) for contract in call.market.listed()]
    return {"success": True, "instances": [{key: row[key] for key in keys} for row in rows]}


def _count(call: Call) -> Reply:
    return {"success": True, "count": len(call.market.listed())}


def _filters(_: Call) -> Reply:
    return {"success": True, "filters": []}


def _retired(_: Call) -> Reply:
    raise Refusal(410, "deprecated_endpoint", _DEPRECATED)


def _show(call: Call) -> Reply:
    contract, faults = call.market.find(call.instance), call.market.faults
    row = None if contract is None else call.market.row(contract)
    if not faults.strikes("by-id-forms", call.instance):
        return {"instances": row}
    if row is not None:
        return {"instances": [row]}
    form = call.instance % 5
    if form >= 3:
        raise Refusal(404, ("no_such_instance", "not_found")[form - 3], f"Instance {call.instance} not found.")
    return {"instances": (None, [], {})[form]}


def _change(call: Call) -> Reply:
    if call.own is not None and set(call.body) != {"state"}:
        raise Refusal(403, "not_authorized", "This key may only read, start, stop and destroy its own instance.")
    _apply(call, call.instance, call.body)
    return {"success": True}


def _change_many(call: Call) -> Reply:
    body = dict(call.body)
    for instance in _ids(body.pop("ids", None), "ids"):
        _apply(call, instance, body)
    return {"success": True}


def _apply(call: Call, instance: int, body: dict[str, Any]) -> None:
    contract = call.market.need(instance)
    if "label" in body:
        label = body["label"]
        if label is not None and not isinstance(label, str):
            raise Refusal(400, "invalid_args", f"label must be a string, not {label!r:.60}")
        if label is not None and len(label) > _LABEL_MAX:
            raise Refusal(400, "label_too_long", f"label may have {_LABEL_MAX} characters, not {len(label)}")
        contract.label = label
    match body.get("state"):
        case None:
            pass
        case "running":
            call.market.start(instance)
        case "stopped":
            call.market.stop(instance)
        case other:
            raise Refusal(400, "invalid_args", f"state must be running or stopped, not {other!r:.60}")


def _destroy(call: Call) -> Reply:
    faults, contract = call.market.faults, call.market.need(call.instance)
    if faults.strikes("destroy-504", contract.number):
        if faults.stream("destroy-504", contract.number).happens(0.5):
            call.market.destroy(call.instance)
        return PlainTextResponse("504 Gateway Time-out", 504)
    call.market.destroy(call.instance)
    return {"success": True, "msg": f"Instance {call.instance} destroyed."}


def _destroy_many(call: Call) -> Reply:
    for instance in _ids(call.body.get("instance_ids"), "instance_ids"):
        call.market.destroy(instance)
    return {"success": True}


def _reboot(call: Call) -> Reply:
    call.market.reboot(call.instance, "rebooting")
    return {"success": True}


def _recycle(call: Call) -> Reply:
    call.market.reboot(call.instance, "recycling")
    return {"success": True}


def _bid(call: Call) -> Reply:
    contract = call.market.need(call.instance)
    price = query.number(call.body.get("price"), "price")
    if not 0.001 <= price <= 128:
        raise Refusal(400, "invalid_price", f"price must lie between 0.001 and 128 $/h, not {price}")
    if contract.order.price is None:
        raise Refusal(400, "invalid_args", f"Instance {contract.id} is on-demand and takes no bid.")
    contract.bid(price, call.market.pace.now())
    return {"success": True}


def _template(call: Call) -> Reply:
    contract = call.market.need(call.instance)
    image = call.body.get("image")
    if isinstance(image, str) and image:
        contract.image = image
    return {"success": True, "updated_instance": contract.id}


def _ids(value: Any, name: str) -> list[int]:
    if not isinstance(value, list) or not value or not all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        raise Refusal(400, "invalid_args", f"{name} must be a list of ids, not {value!r:.60}")
    return value


_INSTANCES = "/api/v0/instances/"

ROUTES = (
    Route("POST", "/api/v0/bundles/", _bundles, latency="search", limit="search"),
    Route("GET", "/api/v0/bundles/", _bundles_by_get, latency="search", limit="search"),
    Route("PUT", "/api/v0/search/asks/", _asks, latency="search", limit="search"),
    Route("PUT", "/api/v0/asks/{id:int}/", _create, latency="create", limit="create"),
    Route("POST", "/api/v0/asks/bulk/", _create_many, latency="create", limit="create"),
    Route("PUT", "/api/v0/launch_instance/", _launch, latency="create", limit="create"),
    Route("GET", "/api/v1/instances/", _list, latency="list", limit="list"),
    Route("GET", "/api/v1/instances/lite/", _lite, latency="list", limit="list"),
    Route("GET", _INSTANCES + "count/", _count, limit="list"),
    Route("GET", _INSTANCES + "filters/", _filters),
    Route("GET", _INSTANCES, _retired),
    Route("PUT", _INSTANCES, _change_many, limit="plural"),
    Route("DELETE", _INSTANCES, _destroy_many, latency="destroy", limit="plural"),
    Route("GET", _INSTANCES + "{id:int}/", _show, latency="status", limit="status", restricted=True),
    Route("PUT", _INSTANCES + "{id:int}/", _change, limit="change", restricted=True),
    Route("DELETE", _INSTANCES + "{id:int}/", _destroy, latency="destroy", limit="destroy", restricted=True),
    Route("PUT", _INSTANCES + "reboot/{id:int}/", _reboot, limit="change"),
    Route("PUT", _INSTANCES + "recycle/{id:int}/", _recycle, limit="change"),
    Route("PUT", _INSTANCES + "bid_price/{id:int}/", _bid, limit="bid"),
    Route("PUT", _INSTANCES + "update_template/{id:int}/", _template),
)
"""The routes of this module, more special paths first."""
