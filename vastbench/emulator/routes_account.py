"""The routes for keys, logs, copies, snapshots, and the account with its bill."""

import json
from typing import Any

from starlette.responses import PlainTextResponse

from vastbench.emulator.account import USER_ID, checked_key
from vastbench.emulator.calls import Call, Reply, Route
from vastbench.emulator.draws import Stream
from vastbench.emulator.query import number
from vastbench.emulator.replies import Refusal

_COMMANDS = ("ls", "rm", "du")
_COMMAND_MAX = 512
_CHARGES_MAX = 500
_CHARGES_USUAL = 100


def _gpu_names(call: Call) -> Reply:
    return {"success": True, "gpu_names": sorted({listing.machine.gpu.name for listing in call.market.listings})}


def _user(call: Call) -> Reply:
    market = call.market
    credit, keys = market.credit(), market.account.ssh_keys()
    return {
        "id": USER_ID,
        "email": "user@example.com",
        "username": "user",
        "fullname": "",
        "balance": min(credit, 0.0),
        "credit": credit,
        "total_spend": market.spent(),
        "ssh_key": keys[-1]["public_key"] if keys else None,
        "sid": "",
        "host_agreement_accepted": 0,
        "billing_creditonly": 0,
        "has_billing": True,
    }


def _keys(call: Call) -> Reply:
    return call.market.account.ssh_keys()


def _add_key(call: Call) -> Reply:
    return {"success": True, "key": call.market.account.add_key(call.body.get("ssh_key"), call.market.pace.epoch())}


def _replace_key(call: Call) -> Reply:
    return {"success": True, "key": call.market.account.replace_key(call.instance, call.body.get("ssh_key"))}


def _remove_key(call: Call) -> Reply:
    call.market.account.remove_key(call.instance)
    if call.market.faults.strikes("key-forgotten", call.instance):
        raise Refusal(400, "no_ssh_key", "No ssh key provided")
    return {"success": True}


def _attached(call: Call) -> Reply:
    contract = call.market.need(call.instance)
    keys = [{"id": key, "public_key": text} for key, text in contract.attached.items()]
    return {"success": True, "ssh_keys": json.dumps(keys, allow_nan=False)}


def _attach(call: Call) -> Reply:
    market, contract = call.market, call.market.need(call.instance)
    text = checked_key(call.body.get("ssh_key"))
    if text in contract.attached.values():
        raise Refusal(400, "invalid_args", f"The SSH key is already associated with instance {contract.id}.")
    known = {key["public_key"]: int(key["id"]) for key in market.account.ssh_keys()}
    contract.attached[known.get(text) or market.account.next_key_id()] = text
    market.lives[contract.id].attach(text)
    return {"success": True, "msg": "SSH key added to instance."}


def _detach(call: Call) -> Reply:
    contract, key = call.market.need(call.instance), int(call.path["key"])
    if key not in contract.attached:
        raise Refusal(404, "not_found", f"SSH key {key} is not attached to instance {contract.id}.")
    call.market.lives[contract.id].detach(contract.attached.pop(key))
    return {"success": True, "msg": "SSH key removed from instance."}


def _logs(call: Call) -> Reply:
    contract = call.market.need(call.instance)
    tail, wanted = call.body.get("tail"), call.body.get("filter")
    last = None if tail is None else int(number(tail, "tail"))
    if wanted is not None and not isinstance(wanted, str):
        raise Refusal(400, "invalid_args", f"filter must be a string, not {wanted!r:.60}")
    machine = contract.machine

    def text() -> str:
        lines = [line for line in machine.logs().splitlines(keepends=True) if wanted is None or wanted in line]
        return "".join(lines if last is None else lines[-last:] if last > 0 else [])

    return _promised(call, text)


def _command(call: Call) -> Reply:
    call.market.need(call.instance)
    command = call.body.get("command")
    if not isinstance(command, str) or not command.strip() or len(command) > _COMMAND_MAX:
        raise Refusal(400, "invalid_args", f"command must be a string of 1 to {_COMMAND_MAX} characters")
    if command.split()[0] not in _COMMANDS:
        raise Refusal(
            400, "invalid_args", f"Only {', '.join(_COMMANDS)} may be executed; use SSH for {command.split()[0]!r:.60}."
        )
    # Files of a stopped instance are behind its walls; the emulator answers with the refusal that the real one also knows.
    raise Refusal(200, "invalid_container", "Commands cannot be executed outside SSH here; use SSH.")


def _promised(call: Call, text: Any) -> Reply:
    market = call.market
    number_of_file = market.next_file()
    lag = Stream(market.seed, "file", number_of_file).draw(market.profile.lag.logs)
    name = market.files.promise(text, lag)
    return {"success": True, "result_url": f"{call.url}/files/{name}.log", "msg": "The file will be ready shortly."}


def _file(call: Call) -> Reply:
    text = call.market.files.read(call.path["name"])
    if text is None:
        raise Refusal(404, "not_found", "There is no such file yet.")
    return PlainTextResponse(text)


def _copy(call: Call) -> Reply:
    answer: dict[str, Any] = {"success": True, "msg": "Copy started."}
    for side in ("src", "dst"):
        name = str(call.body.get(f"{side}_id") or "local").removeprefix("C.")
        if name.isdigit():
            contract = call.market.need(int(name))
            answer |= {f"{side}_addr": "127.0.0.1", f"{side}_port": contract.machine.proxy_port}
    return answer


def _accepted(_: Call) -> Reply:
    return {"success": True, "msg": "Scheduled.", "result_url": None}


def _snapshot(call: Call) -> Reply:
    contract = call.market.need(call.instance)
    repository = call.body.get("personal_repo") or call.body.get("repo")
    if not isinstance(repository, str) or not repository:
        raise Refusal(400, "invalid_args", "personal_repo is required")
    return {"success": True, "msg": f"Snapshot of instance {contract.id} to {repository} scheduled."}


def _deposit(call: Call) -> Reply:
    call.market.need(call.instance)
    return {"success": True, "balance": 0.0, "discount": 0.0}


def _volumes(_: Call) -> Reply:
    return {"success": True, "volumes": []}


def _volume_offers(_: Call) -> Reply:
    return {"success": True, "offers": []}


def _volume_refused(_: Call) -> Reply:
    raise Refusal(400, "invalid_args", "There is no volume offer of that id.")


def _charges(call: Call) -> Reply:
    filters = call.json_query("select_filters", {})
    day = filters.get("day") if isinstance(filters, dict) else None
    if not isinstance(day, dict) or "gte" not in day or "lte" not in day:
        raise Refusal(400, None, "select_filters must hold day.gte and day.lte")
    kinds = filters.get("type", {"in": ["instance"]})
    if not isinstance(kinds, dict) or not isinstance(kinds.get("in"), list):
        raise Refusal(400, None, "select_filters: type must be {in: [...]}")
    first, last = number(day["gte"], "day.gte"), number(day["lte"], "day.lte")
    rows = call.market.charges(first, last) if "instance" in kinds["in"] else []
    if call.query.get("latest_first", "").lower() in ("true", "1"):
        rows.reverse()
    return _listed(rows, call)


def _invoices(call: Call) -> Reply:
    filters = call.json_query("select_filters", {})
    if not isinstance(filters, dict) or not isinstance(filters.get("when"), dict):
        raise Refusal(400, None, "select_filters must hold when")
    account = call.market.account
    payment = {
        "type": "payment",
        "source": "card",
        "description": "Payment",
        "amount": account.deposited,
        "start": account.opened_epoch,
        "end": account.opened_epoch,
        "metadata": {},
        "items": [],
    }
    when = filters["when"]
    first, last = number(when.get("gte", 0), "when.gte"), number(when.get("lte", 1e12), "when.lte")
    return _listed([payment] if first <= account.opened_epoch <= last else [], call)


def _listed(rows: list[dict[str, Any]], call: Call) -> Reply:
    limit = int(number(call.query.get("limit", _CHARGES_USUAL), "limit"))
    limit = min(limit, _CHARGES_MAX) if limit > 0 else _CHARGES_USUAL
    token = call.query.get("after_token", "0")
    if not token.isdigit() or int(token) > len(rows):
        raise Refusal(400, "invalid_token", f"after_token {token!r:.60} was not issued here")
    begin = int(token)
    page = rows[begin : begin + limit]
    following = str(begin + limit) if begin + limit < len(rows) else None
    return {"success": True, "count": len(page), "total": len(rows), "next_token": following, "results": page}


_V0 = "/api/v0/"

ROUTES = (
    Route("GET", _V0 + "gpu_names/unique/", _gpu_names, latency="none", public=True),
    Route("GET", "/files/{name}.log", _file, latency="none", public=True),
    Route("GET", _V0 + "users/current/", _user),
    Route("GET", _V0 + "users/current", _user),
    Route("GET", _V0 + "ssh/", _keys, limit="account_keys"),
    Route("POST", _V0 + "ssh/", _add_key, limit="account_keys"),
    Route("PUT", _V0 + "ssh/{id:int}/", _replace_key, limit="account_keys"),
    Route("DELETE", _V0 + "ssh/{id:int}/", _remove_key, limit="account_keys"),
    Route("GET", _V0 + "instances/{id:int}/ssh/", _attached, limit="instance_keys"),
    Route("POST", _V0 + "instances/{id:int}/ssh/", _attach, limit="instance_keys"),
    Route("DELETE", _V0 + "instances/{id:int}/ssh/{key:int}/", _detach, limit="instance_keys"),
    Route("PUT", _V0 + "instances/request_logs/{id:int}/", _logs),
    Route("PUT", _V0 + "instances/command/{id:int}/", _command, limit="command"),
    Route("POST", _V0 + "instances/take_snapshot/{id:int}/", _snapshot),
    Route("GET", _V0 + "instances/balance/{id:int}/", _deposit),
    Route("PUT", _V0 + "commands/copy_direct/", _copy, limit="copies"),
    Route("DELETE", _V0 + "commands/copy_direct/", _accepted, limit="copies"),
    Route("PUT", _V0 + "commands/rsync/", _accepted),
    Route("DELETE", _V0 + "commands/rsync/", _accepted),
    Route("POST", _V0 + "commands/rclone/", _accepted),
    Route("DELETE", _V0 + "commands/rclone/", _accepted),
    Route("GET", _V0 + "charges/", _charges, limit="charges"),
    Route("GET", "/api/v1/invoices/", _invoices, limit="invoices"),
    Route("GET", _V0 + "volumes", _volumes),
    Route("GET", _V0 + "volumes/", _volumes),
    Route("PUT", _V0 + "volumes/", _volume_refused),
    Route("POST", _V0 + "volumes/search/", _volume_offers),
)
"""The routes of this module."""
