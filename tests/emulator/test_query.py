"""The marketplace's filter language."""

from typing import Any

import pytest

from vastbench.emulator.query import matching, ordered
from vastbench.emulator.replies import Refusal

ROWS: list[dict[str, Any]] = [
    {"name": "a", "price": 0.2, "gpus": 1, "ok": True, "geolocation": "Texas, US", "verification": "verified", "cores": None},
    {"name": "b", "price": 0.5, "gpus": 2, "ok": False, "geolocation": ", SE", "verification": "unverified", "cores": 8},
    {"name": "c", "price": 0.3, "gpus": 1, "ok": True, "geolocation": "Quebec, CA", "verification": "verified", "cores": 4},
]


def names(rows: list[dict[str, Any]]) -> str:
    return "".join(row["name"] for row in rows)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "abc"),
        ({"gpus": {"eq": "1"}}, "ac"),
        ({"price": {"lt": "0.5"}}, "ac"),
        ({"price": {"gte": 0.3, "lte": 0.5}}, "bc"),
        ({"name": {"in": ["a", "b"]}}, "ab"),
        ({"gpus": {"in": ["2"]}}, "b"),
        ({"name": {"notin": ["a"]}}, "bc"),
        ({"name": {"neq": "a"}}, "bc"),
        ({"ok": {"eq": "true"}}, "ac"),
        ({"ok": {"eq": False}}, "b"),
        ({"verified": {"eq": True}}, "ac"),
        ({"geolocation": {"in": ["US", "CA"]}}, "ac"),
        ({"geolocation": {"notin": ["US"]}}, "bc"),
        ({"geolocation": {"eq": "Texas, US"}}, "a"),
        ({"cores": {"gte": "4"}}, "bc"),
        ({"cores": {"eq": None}}, "a"),
        ({"unheard_of": {"eq": 1}}, "abc"),
        ({"rented": {"eq": True}}, "abc"),
        ({"id": {"eq": 1}}, ""),
        ({"price": {"gt": "cheap"}}, ""),
    ],
)
def test_filters_select(filters: dict[str, Any], found: str) -> None:
    assert names(matching(ROWS, filters)) == found


@pytest.mark.parametrize(
    "filters", [{"price": 1}, {"price": {"like": 1}}, {"price": {"in": 1}}, {"price": {"eq": [1]}}, {"price": {"lt": "NaN"}}]
)
def test_malformed_filters_are_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="price"):
        matching(ROWS, filters)


def test_rows_are_ordered_by_several_fields_with_missing_values_last() -> None:
    assert names(ordered(ROWS, [["gpus", "desc"], ["price", "desc"]])) == "bca"
    assert names(ordered(ROWS, [["cores", "asc"]])) == "cba"


@pytest.mark.parametrize("order", ["price", [["price"]], [[1, "asc"]], {"price": "asc"}])
def test_a_malformed_order_is_refused(order: Any) -> None:
    with pytest.raises(Refusal, match="order"):
        ordered(ROWS, order)
