"""What belongs to listed prices: each rule and each fact has a source, is needed, and says no more than it knows."""

from datetime import date

import pytest

from vastbench.analysis.billing import VAST
from vastbench.io.prices import check, prices
from vastbench.io.terms import NAMED, billing, billing_of, explanation, place_of, places, remarks

TABLE = prices()


def test_every_row_is_placed_and_says_how():
    assert TABLE["region"].notna().all()
    assert TABLE["placed"].value_counts().to_dict() == {
        "list": 33,
        "marketplace": 34,
        NAMED: 46,
        "one price": 74,
        "table": 35,
    }


def test_a_region_that_the_source_names_is_never_replaced():
    named = TABLE[TABLE["placed"] == NAMED]
    assert "British Columbia, CA" in set(named["region"])
    assert not set(named["region"]) & {one.region for one in places()}


def test_every_rule_places_something_and_has_a_reason_and_a_source():
    used = {id(place_of(*pair)) for pair in zip(TABLE["provider"], TABLE["source"], strict=True)}
    for one in places():
        assert id(one) in used, one
        assert one.because and one.source, one  # noqa: PT018


def test_an_unknown_provider_from_an_unknown_source_is_not_placed():
    assert place_of("Somebody", "a page") is None
    assert billing_of("Somebody", "one") is None


@pytest.mark.parametrize("one", billing(), ids=lambda one: f"{one.provider} {one.instances}")
def test_terms_have_a_provider_in_the_table_and_a_source(one):
    assert one.provider in set(TABLE["provider"])
    assert one.source
    assert len(one.terms.lacking) < 4 or one.note
    assert not one.as_of or date.fromisoformat(one.as_of)
    step, least = one.terms.granularity_s, one.terms.minimum_s
    assert step is None or step > 0
    assert least is None or least >= 0


def test_terms_may_differ_by_the_kind_of_instance():
    assert billing_of("OCI", "VM.GPU.A10.1").terms.minimum_s == 60
    assert billing_of("OCI", "BM.GPU.H100.8").terms.minimum_s == 3600
    assert billing_of("Vast.ai", "offer 29292839").terms is VAST


def test_terms_stand_beside_each_price():
    aws = TABLE[TABLE["instance_type"] == "g5.xlarge"].iloc[0]
    assert (aws["minimum_s"], aws["granularity_s"], aws["boot_billed"]) == (60, 1, False)
    assert "per-second-billing" in aws["billing_source"]
    cudo = TABLE[TABLE["provider"] == "Cudo"].iloc[0]
    assert cudo[["minimum_s", "granularity_s", "boot_billed", "disk_usd_per_gb_month", "billing_source"]].isna().all()


def test_every_finding_is_explained_and_every_explanation_needed():
    found = check(TABLE, today=date(2026, 11, 30))
    assert found["explained"].notna().all()
    for one in remarks():
        offers = TABLE[TABLE["instance_type"].eq(one.instance_type) & TABLE["provider"].eq(one.provider)].index
        of_rule = found[found["rule"] == one.rule]
        assert (of_rule["row"].isin(offers) if one.provider else of_rule["row"]).any(), one
    assert explanation("AWS", "g5.xlarge", "far from peers") is None
