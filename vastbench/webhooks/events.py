"""What receivers are told of, and in which words: small JSON, never a key.

Seconds are clock seconds, money is USD, dates are ISO 8601 in UTC; what is not known is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vastbench.record.phases import Outcome

if TYPE_CHECKING:
    from vastbench.record.lease import LeaseRow
    from vastbench.record.run import Run
    from vastbench.record.study import Study

LONGEST_DETAIL = 500


class Event(StrEnum):
    """What a receiver can hear of."""

    RUN_FINISHED = "run.finished"
    RUN_FAILED = "run.failed"
    STUDY_FINISHED = "study.finished"
    LEASE_LEAKED = "lease.leaked"
    BUDGET_THRESHOLD = "budget.threshold"
    REGRESSION_FOUND = "regression.found"
    TEST = "test"


def body_of(event: Event, data: Mapping[str, Any], at: datetime) -> str:
    """The payload as Standard Webhooks has it. Raises TypeError or ValueError for data that JSON cannot hold."""
    payload = {"type": str(event), "timestamp": at.isoformat(timespec="milliseconds"), "data": dict(data)}
    return json.dumps(payload, ensure_ascii=False, allow_nan=False)


def run_event(run: Run) -> tuple[Event, dict[str, object]]:
    """``run.finished`` for a run that passed, ``run.failed`` for any other, censored ones included."""
    passed = run.outcome is Outcome.PASSED
    ready = run.phase(run.ready)
    data = {
        "run": run.id,
        "study": run.study or None,
        "source": run.source,
        "outcome": str(run.outcome),
        "cause": run.cause or None,
        "detail": run.detail[:LONGEST_DETAIL] or None,
        "gpu_name": run.resources.get("gpu_name"),
        "instance_id": run.resources.get("instance_id"),
        "useful_s": ready.end.upper if ready and ready.end.seen else None,
        "total_s": run.total_s,
        "cost_usd": run.cost.total_usd,
    }
    return (Event.RUN_FINISHED if passed else Event.RUN_FAILED), data


def study_data(study: Study) -> dict[str, object]:
    """What ``study.finished`` says: its counts, and the rule that ended it."""
    return {
        "study": study.name,
        "source": study.conditions.get("source"),
        "repeats": study.repeats,
        "made": len(study.made),
        "passed": study.passed,
        "causes": study.causes,
        "ended_by": study.ended_by and str(study.ended_by),
        "spent_usd": study.spent_usd,
    }


def lease_data(lease: LeaseRow) -> dict[str, object]:
    """What ``lease.leaked`` says: which instance may still bill, and what to do."""
    return {
        "label": lease.label,
        "run": lease.run_id,
        "instance_id": lease.instance_id,
        "usd_per_hour": lease.usd_per_hour,
        "verdict": lease.verdict,
        "deadline_at": lease.deadline_at,
        "hint": "The instance may still exist and bill: try `vastbench reap --live`, or destroy it by hand.",
    }
