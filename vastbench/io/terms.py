"""What belongs to a listed price and does not stand beside it: where it holds, and how its provider bills.

``data/prices/places.csv`` places the prices whose source names no region, by rules that say why; ``billing.csv`` holds what
each provider bills, with sources; ``remarks.csv`` explains single findings about the table. A cell that is empty there is a
fact that no source states, and stays missing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from typing import Any

from vastbench.analysis.billing import VAST, Terms
from vastbench.analysis.providers import PROVIDER
from vastbench.bundled import shared

NAMED = "source"
"""How a region is known that the price's own source names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the prices of a ``provider`` (any, if empty) hold that were read from a source that begins with ``read_from``.

    ``placed``: by which kind of rule; ``because``: why it holds; ``source``: where that was read.
    """

    provider: str
    read_from: str
    region: str
    placed: str
    because: str
    source: str


@dataclass(frozen=True, slots=True)
class Billing:
    """What is known of how a ``provider`` bills instances whose type begins with ``instances``, from which source.

    ``as_of`` is the date of that source, empty where it bears none; ``note`` says what the terms do not.
    """

    provider: str
    instances: str
    terms: Terms
    as_of: str
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Why a ``rule`` of the price table's checks finds something in an offer (in any, where none is named) that may stand."""

    provider: str
    instance_type: str
    rule: str
    explanation: str


UNKNOWN = Billing("", "", Terms(), "", "", "")
"""That nothing is known of how a provider bills."""


@cache
def places() -> tuple[Place, ...]:
    """The rules by which prices without a region are placed, what is tried first."""
    return tuple(Place(**row) for row in _rows("places.csv"))


@cache
def billing() -> tuple[Billing, ...]:
    """What each provider bills, one for each kind of its instances."""
    ours = Billing(
        PROVIDER, "", VAST, "2026-08-20", "vast-ai/docs: guides/instances/pricing", "each host sets its disk's price"
    )
    return (ours, *(_billing(row) for row in _rows("billing.csv")))


@cache
def remarks() -> tuple[Remark, ...]:
    """What is known of single findings about the table that comes with vastbench."""
    return tuple(Remark(**row) for row in _rows("remarks.csv"))


def place_of(provider: str, source: str) -> Place | None:
    """The rule that places a price of ``provider`` from ``source``, or None."""
    return next((one for one in places() if one.provider in ("", provider) and source.startswith(one.read_from)), None)


def billing_of(provider: str, instance_type: str) -> Billing | None:
    """What is known of how ``provider`` bills such an instance, or None."""
    mine = (one for one in billing() if one.provider == provider and instance_type.startswith(one.instances))
    return next(mine, None)


def explanation(provider: str, instance_type: str, rule: str) -> str | None:
    """What is known of a finding of this rule about this offer, or None."""
    offers = (("", ""), (provider, instance_type))
    mine = (one for one in remarks() if one.rule == rule and (one.provider, one.instance_type) in offers)
    return next((one.explanation for one in mine), None)


def _billing(row: dict[str, str]) -> Billing:
    minimum, step, disk = (
        float(row[name]) if row[name] else None for name in ("minimum_s", "granularity_s", "disk_usd_per_gb_month")
    )
    boot = {"yes": True, "no": False, "": None}[row["boot_billed"]]
    words = {name: row[name] for name in ("provider", "instances", "as_of", "source", "note")}
    return Billing(terms=Terms(minimum, step, boot, disk), **words)


def _rows(name: str) -> list[dict[str, Any]]:
    with (shared("data/prices") / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))
