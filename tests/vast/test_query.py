"""The query language: what is sent, what is refused, what is checked again here."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vast.market import offer
from vastbench.errors import UsageError
from vastbench.vast.models import Offer
from vastbench.vast.query import OfferQuery


def filters(text):
    return {name: dict(terms) for name, terms in OfferQuery.parse(text, defaults=False).filters.items()}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("num_gpus=1", {"num_gpus": {"eq": 1}}),
        ("num_gpus == 1", {"num_gpus": {"eq": 1}}),
        ("num_gpus eq 1", {"num_gpus": {"eq": 1}}),
        ("num_gpus!=1", {"num_gpus": {"neq": 1}}),
        ("num_gpus not eq 1", {"num_gpus": {"neq": 1}}),
        ("dph_total<0.5", {"dph_total": {"lt": 0.5}}),
        ("dph_total lte 0.5", {"dph_total": {"lte": 0.5}}),
        ("dlperf > 10 dlperf <= 20", {"dlperf": {"gt": 10, "lte": 20}}),
        ("gpu_name=RTX_4090", {"gpu_name": {"eq": "RTX 4090"}}),
        ('gpu_name="RTX 4090"', {"gpu_name": {"eq": "RTX 4090"}}),
        ("gpu_name in [RTX_4090,RTX_3090]", {"gpu_name": {"in": ["RTX 4090", "RTX 3090"]}}),
        ("geolocation in [US, CA]", {"geolocation": {"in": ["US", "CA"]}}),
        ("geolocation not in [CN]", {"geolocation": {"notin": ["CN"]}}),
        ("geolocation nin CN", {"geolocation": {"notin": ["CN"]}}),
        ("static_ip=True", {"static_ip": {"eq": True}}),
        ("gpu_name=null", {"gpu_name": {"eq": None}}),
        ("id=7", {"ask_contract_id": {"eq": 7}}),
        ("dph<1 cuda_vers>=12.1", {"dph_total": {"lt": 1}, "cuda_max_good": {"gte": 12.1}}),
        ("dlperf_usd>1 flops_usd>2", {"dlperf_per_dphtotal": {"gt": 1}, "flops_per_dphtotal": {"gt": 2}}),
        ("display_active=false", {"gpu_display_active": {"eq": False}}),
        ("gpu_ram>=24", {"gpu_ram": {"gte": 24000}}),
        ("cpu_ram>1.5 gpu_total_ram>48", {"cpu_ram": {"gt": 1500}, "gpu_total_ram": {"gt": 48000}}),
        ("duration>=3", {"duration": {"gte": 259200}}),
        ("driver_version>=535.86.05", {"driver_version": {"gte": 535086005}}),
        ("driver_version>=535", {"driver_version": {"gte": 535000000}}),
        ("  ", {}),
    ],
)
def test_a_term_becomes_a_filter_in_the_marketplaces_units(text, sent):
    assert filters(text) == sent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpu_nme=RTX_4090", "gpu_nme"),
        ("num_gpus", "num_gpus"),
        ("num_gpus=", "num_gpus="),
        ("num_gpus=one", "num_gpus=one"),
        ("num_gpus=nan", "num_gpus=nan"),
        ("dph<inf", "dph<inf"),
        ("dph >> 5", "dph >> 5"),
        ("dph=<5", "dph=<5"),
        ("gpu_name>RTX_4090", "gpu_name>RTX_4090"),
        ("gpu_name=[a,b]", "gpu_name=[a,b]"),
        ("gpu_name in [a,b", "gpu_name in [a,b"),
        ("gpu_name in [a,,b]", "gpu_name in [a,,b]"),
        ('gpu_name="RTX 4090', 'gpu_name="RTX'),
        ("verified=yes", "verified=yes"),
        ("num_gpus=1 num_gpus=2", "num_gpus=2"),
        ("num_gpus=1; drop", "num_gpus=1;"),
        ("num_gpus>any", "num_gpus>any"),
        ("num_gpus=any num_gpus=1", "num_gpus"),
        ("driver_version>=new", "driver_version>=new"),
        ("RTX 4090", "RTX 4090"),
    ],
)
def test_what_cannot_be_read_is_named(text, shown):
    with pytest.raises(UsageError) as caught:
        OfferQuery.parse(text)
    assert shown in str(caught.value)


def test_a_misspelt_field_is_answered_with_the_right_one():
    with pytest.raises(UsageError, match="Did you mean gpu_name"):
        OfferQuery.parse("gpu_nme=x")


def test_the_body_has_defaults_order_limit_type_and_storage():
    body = OfferQuery.parse("num_gpus=1", order="score-,dph+", limit=5, allocated_storage_gb=40).body()
    assert body == {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "num_gpus": {"eq": 1},
        "order": [["score", "desc"], ["dph_total", "asc"]],
        "type": "on-demand",
        "limit": 5,
        "allocated_storage": 40,
    }


@pytest.mark.parametrize("word", ["any", "?", "*"])
def test_any_takes_a_default_filter_out(word):
    assert "verified" not in OfferQuery.parse(f"verified={word}").filters


def test_a_default_is_replaced_by_ones_own_filter():
    assert dict(OfferQuery.parse("verified=false").filters["verified"]) == {"eq": False}


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"allocated_storage_gb": math.nan}, {"order": "dph,,score"}, {"order": "cheap"}]
)
def test_control_values_are_checked(options):
    with pytest.raises(UsageError):
        OfferQuery.parse("", **options)


@pytest.mark.parametrize(
    ("text", "fields", "accepted"),
    [
        ("dph<0.5", {"dph_total": "0.4"}, True),
        ("dph<0.5", {"dph_total": 0.6}, False),
        ("num_gpus in [1,2]", {"num_gpus": "2"}, True),
        ("num_gpus notin [1,2]", {"num_gpus": 2}, False),
        ("gpu_name=RTX_3090", {}, False),
        ("gpu_name!=RTX_3090", {}, True),
        ("reliability>0.9", {"reliability": None, "reliability2": 0.95}, True),
        ("reliability>0.9", {"reliability": 0.5}, False),
        ("dlperf>10", {}, True),
        ("dlperf>10", {"dlperf": None}, False),
        ("dlperf>10", {"dlperf": "fast"}, False),
        ("driver_version>=535.86.05", {"driver_version": "550.54.14"}, True),
        ("driver_version>=535.86.05", {"driver_version": "470.1.2"}, False),
        ("verified=true", {"verification": "deverified"}, False),
        ("verified=true", {"verification": "verified"}, True),
        ("geolocation in [CA,US]", {"geolocation": "British Columbia, CA"}, True),
        ("geolocation=SE", {"geolocation": ", CA"}, False),
        ("static_ip=true", {"static_ip": "false"}, False),
        ("static_ip=true", {"static_ip": None}, True),
    ],
)
def test_offers_are_checked_again_as_far_as_they_tell(text, fields, accepted):
    query = OfferQuery.parse(text, defaults=False)
    assert query.accepts(Offer.model_validate(offer(**fields))) is accepted


@given(
    st.text(max_size=80) | st.from_regex(r"(gpu_name|dph|verified) ?(=|<|in|any)* ?[\[\]\"'a-z0-9.,<>= ]{0,20}", fullmatch=True)
)
def test_any_text_is_a_query_or_a_usage_error(text):
    try:
        query = OfferQuery.parse(text)
    except UsageError:
        return
    assert OfferQuery.parse(query.text).filters == query.filters
