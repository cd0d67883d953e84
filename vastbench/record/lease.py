"""A lease and an announced run as they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CONFIRM_DEADLINE_S = 180.0
"""Clock seconds within which a destroyed instance has to be seen gone; else it is reported as leaked or unknown."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease as it stands in the store.

    ``state``: ``intended`` (the create may or may not have happened), ``held`` (the instance exists), ``closed``.
    ``verdict``, once closed: ``destroyed``, ``already gone`` or ``never created``; while open: ``leaked`` or ``unknown``
    when an attempt to close it failed. Dates are ISO 8601, UTC; ``usd_per_hour`` is the whole hourly price.
    """

    label: str
    run_id: str
    attempt: int
    url: str
    offer_id: int
    usd_per_hour: float
    opened_at: str
    deadline_at: str
    owner: Mapping[str, object] = field(default_factory=dict)
    machine_id: int | None = None
    instance_id: int | None = None
    state: str = "intended"
    verdict: str | None = None
    closed_at: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A run of a study as it was written down before it began; ``owner`` is the process that makes it."""

    run_id: str
    study: str
    owner: Mapping[str, object]
    started_at: str
