"""The marketplace's filter language, evaluated over rows: ``{"field": {"op": value}}``, orders and limits.

Filter values may be strings where the field is a number, as the official client sends them.
"""

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

from vastbench.emulator.offers import driver_number
from vastbench.emulator.replies import Refusal

Row = dict[str, Any]

CONTROLS = frozenset({"order", "type", "limit", "allocated_storage", "disable_bundling", "sort_option"})
"""The keys of a search that are no filters."""

_IGNORED = frozenset({"rented"})
_BOOLS = {"true": True, "false": False}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
OPERATORS = frozenset({"eq", "neq", "in", "notin", *_COMPARISONS})
"""The comparisons that a filter may use."""


def matching(rows: Iterable[Row], filters: dict[str, Any]) -> list[Row]:
    """The rows that pass every filter; fields that no row has filter nothing. Raises Refusal for a malformed filter."""
    wanted = {field: _checked(field, tests) for field, tests in filters.items() if field not in _IGNORED}
    return [row for row in rows if all(_passes(row, field, tests) for field, tests in wanted.items())]


def ordered(rows: list[Row], order: Any) -> list[Row]:
    """``rows`` in the order ``[["field", "asc"|"desc"], ...]``, missing values last. Raises Refusal for a malformed order."""
    if order is None:
        return rows
    pairs = order if isinstance(order, list) else None
    if pairs is None or not all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
        raise Refusal(400, "invalid_args", "order must be a list of [field, direction] pairs")
    result = list(rows)
    for field, direction in reversed(pairs):
        present = [row for row in result if _comparable(row.get(field))]
        absent = [row for row in result if not _comparable(row.get(field))]
        present.sort(key=lambda row: _sort_key(row[field]), reverse=str(direction).lower() == "desc")
        result = present + absent
    return result


def number(value: Any, name: str) -> float:
    """A finite number given as a number or as a string. Raises Refusal naming ``name`` for anything else."""
    try:
        result = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise Refusal(400, "invalid_args", f"{name} must be a finite number, not {value!r:.60}")
    return result


def _checked(field: str, tests: Any) -> dict[str, Any]:
    if not isinstance(tests, dict):
        raise Refusal(400, "invalid_args", f"filter {field} must be an object of operators, not {tests!r:.60}")
    unknown = set(tests) - OPERATORS
    if unknown:
        raise Refusal(400, "invalid_args", f"filter {field}: unknown operator {sorted(unknown)[0]!r:.60}")
    for op, value in tests.items():
        if isinstance(value, list) is not (op in ("in", "notin")):
            raise Refusal(400, "invalid_args", f"filter {field}: {op} cannot take {value!r:.60}")
        if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise Refusal(400, "invalid_args", f"filter {field}: {value!r} is no number")
    return tests


def _passes(row: Row, field: str, tests: dict[str, Any]) -> bool:
    if field == "id":
        # The marketplace's own behaviour: offers are found by ask_contract_id, a filter on id matches nothing.
        return False
    if field == "verified":
        actual: Any = row.get("verification") == "verified"
    elif field in row:
        actual = row[field]
    else:
        return True
    if field == "driver_version" and all(isinstance(v, int | float) for v in tests.values()):
        actual = driver_number(actual)
    if field == "geolocation":
        return all(_somewhere(op, actual, value) for op, value in tests.items())
    return all(_compare(op, actual, value) for op, value in tests.items())


def _somewhere(op: str, place: str, value: Any) -> bool:
    """Whether ``City, CC`` passes, by its whole text or by its country code."""
    whole, country = _compare(op, place, value), _compare(op, place.rpartition(",")[2].strip(), value)
    return whole and country if op in ("neq", "notin") else whole or country


def _compare(op: str, actual: Any, value: Any) -> bool:
    match op:
        case "eq":
            return bool(actual == _like(actual, value))
        case "neq":
            return bool(actual != _like(actual, value))
        case "in":
            return any(actual == _like(actual, one) for one in value)
        case "notin":
            return all(actual != _like(actual, one) for one in value)
    wanted = _like(actual, value)
    if not (_comparable(actual) and _comparable(wanted)) or isinstance(actual, str) is not isinstance(wanted, str):
        return False
    return _COMPARISONS[op](actual, wanted)


def _like(actual: Any, value: Any) -> Any:
    """``value`` in the type of ``actual``, where it can be read as one."""
    if not isinstance(value, str):
        return value
    if isinstance(actual, bool):
        return _BOOLS.get(value.lower(), value)
    if isinstance(actual, int | float):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _comparable(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _sort_key(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)
