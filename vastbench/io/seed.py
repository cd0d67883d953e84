"""The seed's record: the JSON shape that the first published run of this kind used, read and written.

``test_name, timestamp, resources, ssh, timings, validation, cost``, in seconds and USD, with optional logs beside it:
``market`` (what was offered), ``poll_log`` (the status answers) and ``ssh_log`` (the tries). Where the logs are missing, a
polled phase is known only to lie somewhere inside the time that was waited for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vastbench.record.cost import Rates, Usage, cost_of
from vastbench.record.moments import Moment
from vastbench.record.numbers import measurable
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.run import Attempt, Run

CREATE_FILE, VERIFY_FILE = "create file", "verify file"
"""Phases that the shape names; it is one scenario's report."""

KEYS = {
    PhaseName.SEARCH: "search_offers_sec",
    PhaseName.CREATE: "create_instance_sec",
    PhaseName.WAIT_RUNNING: "wait_running_sec",
    PhaseName.WAIT_SSH: "wait_ssh_sec",
    CREATE_FILE: "create_file_sec",
    VERIFY_FILE: "verify_file_sec",
    PhaseName.DESTROY: "destroy_sec",
}
SOURCE = "file"


def run_from_seed(plain: Mapping[str, Any]) -> Run:
    """The run that a record of the seed's shape describes. Raises KeyError, TypeError or ValueError for anything else."""
    seconds = {name: _number(plain["timings"][key]) for name, key in KEYS.items()}
    total = _number(plain["timings"]["total_sec"])
    resources, market, ssh = plain["resources"], plain.get("market") or {}, plain["ssh"]
    validation = plain["validation"]
    price = _number(resources["gpu_price_per_hour"])
    phases = _phases(seconds, total, plain)
    by_name = {phase.name: phase for phase in phases}
    create, running, destroy = (by_name.get(n) for n in (PhaseName.CREATE, PhaseName.WAIT_RUNNING, PhaseName.DESTROY))
    passed = validation["success"] is True
    return Run(
        id="seed-" + hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()[:12],
        scenario="integration",
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        cause="" if passed else "reported",
        detail=str(validation.get("error") or ""),
        started_at=datetime.fromisoformat(plain["timestamp"]).isoformat(),
        source="import",
        phases=phases,
        attempts=(
            Attempt(1, Outcome.PASSED if passed else Outcome.FAILED, resources["offer_id"], None, resources["instance_id"]),
        ),
        total_s=total,
        conditions={"gpu_name": resources["gpu_name"], "image": market.get("image"), "disk_gb": market.get("disk_gb")},
        resources={
            "offer_id": resources["offer_id"],
            "instance_id": resources["instance_id"],
            "gpu_name": resources["gpu_name"],
            "num_gpus": market.get("num_gpus"),
            "gpu_ram_mb": market.get("gpu_memory_mib"),
            "usd_per_hour": price,
            "region": market.get("region"),
            "reliability": market.get("reliability"),
            "offers_found": market.get("offers_found"),
        },
        ssh={"used": "proxy", "host": ssh["host"], "port": ssh["port"], "endpoints": []},
        validation={**validation, "test_name": plain["test_name"]},
        cost=cost_of(
            Usage(
                total,
                created=create.end if create else None,
                running=running.end if running else None,
                destroyed=Moment.between(destroy.start.upper, destroy.end.upper, SOURCE)
                if destroy and destroy.end.seen
                else None,
            ),
            Rates(price),
        ),
        instrument={
            "clock_speed": 1.0,
            "poll_period_s": (plain.get("poll_log") or {}).get("sleep_sec"),
            "poll_log": plain.get("poll_log"),
            "ssh_log": plain.get("ssh_log"),
            "market": plain.get("market"),
        },
    )


def seed_from_run(run: Run) -> dict[str, object]:
    """A run in the seed's shape; what the run does not know is null."""
    file = run.validation.get("file") or {}
    created = run.validation.get("file_created", run.seconds(CREATE_FILE) is not None)
    record: dict[str, object] = {
        "test_name": run.validation.get("test_name", f"vastbench_{run.scenario}"),
        "timestamp": run.started_at,
        "resources": {
            "offer_id": run.resources.get("offer_id"),
            "instance_id": run.resources.get("instance_id"),
            "gpu_name": run.resources.get("gpu_name"),
            "gpu_price_per_hour": _rounded(run.resources.get("usd_per_hour"), 4),
        },
        "ssh": {"host": run.ssh.get("host"), "port": run.ssh.get("port")},
        "timings": {key: _rounded(run.seconds(name), 2) for name, key in KEYS.items()}
        | {
            "total_sec": _rounded(run.total_s, 2),
            "total_min": None if run.total_s is None else _rounded(run.total_s / 60, 2),
        },
        "validation": {
            "file_created": created,
            "file_verified": run.validation.get("file_verified", file.get("matches", False)),
            "success": run.outcome is Outcome.PASSED,
            "error": run.detail or None,
        },
        "cost": {"estimated_usd": _rounded(run.cost.naive_usd, 4)},
    }
    logs = {key: run.instrument[key] for key in ("market", "poll_log", "ssh_log") if run.instrument.get(key) is not None}
    return record | logs


def _phases(seconds: dict[str, float], total: float, plain: Mapping[str, Any]) -> tuple[Phase, ...]:
    """The seven phases in a row; destroy at the very end, so that the unreported time lies before it."""
    phases: list[Phase] = []
    at = 0.0
    running = Moment.exact(at, SOURCE)
    for name, took in seconds.items():
        start = at if name != PhaseName.DESTROY else max(at, total - took)
        at = start + took
        begun, moment, detail = Moment.exact(start, SOURCE), Moment.exact(at, SOURCE), ""
        if name == PhaseName.WAIT_RUNNING:
            moment, detail, inside = _running(start, at, plain.get("poll_log"))
            running = moment
            phases += inside
        elif name == PhaseName.WAIT_SSH:
            begun = running
            moment, detail, inside = _ssh(running, at, plain.get("ssh_log"))
            phases += inside
        phases.append(Phase(name, begun, moment, detail=detail))
    return tuple(phases)


def _running(start: float, end: float, log: Mapping[str, Any] | None) -> tuple[Moment, str, list[Phase]]:
    """When the status became running, and the boot's parts, from the log of answers if there is one."""
    if not log:
        return Moment.between(start, end, SOURCE), "no poll log: known only to lie within the wait", []
    latency = _number(log["request_latency_sec"])
    answers = [(_number(elapsed), status) for elapsed, status in log["answers"]]

    def first(wanted: Any) -> Moment:
        number = next(i for i, (_, status) in enumerate(answers) if wanted(status))
        yes = start + answers[number][0]
        no = start + answers[number - 1][0] if number else start
        return Moment(max(start, no - latency), no, max(start, yes - latency), yes, SOURCE)

    running = first(lambda status: status == "running")
    contract = Moment.exact(start, SOURCE)
    inside = [
        Phase(PhaseName.ALLOCATE, contract, first(lambda status: status is not None)),
        Phase(PhaseName.PULL, first(lambda status: status == "loading"), running),
    ]
    detail = (
        f"answers in ({running.no_received - start:.2f}, {running.upper - start:.2f}]; the log notes answers, not sendings: "
        f"the lower bound is widened by one request's latency, {latency:g} s"
    )
    return running, detail, inside


def _ssh(running: Moment, end: float, log: Mapping[str, Any] | None) -> tuple[Moment, str, list[Phase]]:
    """When SSH ran a command, and when its port opened: before the connection that succeeded was begun."""
    moment = Moment.between(running.upper, end, SOURCE)
    if not log:
        return moment, "no log of tries: known only to lie within the wait", []
    opened = end - _number(log["connection_sec"])
    port = Phase(PhaseName.PORT, running, Moment.between(running.upper, max(running.upper, opened), SOURCE))
    detail = f"reachable in (0, {opened - running.upper:.2f}] after running: the connection that succeeded began then"
    return moment, detail, [port]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not measurable(value) or value < 0:
        raise ValueError(f"{value!r:.40} is not a non-negative number that can have been measured")
    return float(value)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
