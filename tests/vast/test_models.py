"""What comes in, however wild, and what may go out."""

import json
import math

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.vast.market import client, offer, page
from vastbench.errors import ApiUnreadable, UsageError
from vastbench.vast.models import Charge, ChargeItem, CreateRequest, Instance, Offer, SshKey
from vastbench.vast.query import OfferQuery

WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def wild(model, **fixed):
    names = sorted({"ports", "ssh_host", "gpu_ram", "disk_space", "items", *model.model_fields} - fixed.keys())
    return st.dictionaries(st.sampled_from(names), WILD, max_size=8).map(lambda row: row | fixed)


def test_an_offer_costs_its_gpu_and_the_disk_asked_for():
    assert Offer.model_validate(offer(dph_base=0.3, storage_cost=0.36)).usd_per_hour(20) == pytest.approx(0.31)


@pytest.mark.parametrize("price", [math.nan, math.inf, -0.1, None, "", "free", "NaN", True, [1]])
@pytest.mark.parametrize("name", ["dph_base", "dph_total", "storage_cost"])
def test_an_offer_without_a_valid_price_is_none(name, price):
    with pytest.raises(ValidationError):
        Offer.model_validate(offer(**{name: price}))


@pytest.mark.parametrize("price", [math.nan, -0.01, math.inf])
def test_an_offer_with_an_invalid_traffic_price_is_none(price):
    with pytest.raises(ValidationError):
        Offer.model_validate(offer(inet_down_cost=price))


def test_numbers_may_come_as_text_and_ids_under_their_other_name():
    read = Offer.model_validate(offer(id=None, ask_contract_id="7", dph_base="0.25", num_gpus="2", reliability2="0.9"))
    assert (read.id, read.dph_base, read.num_gpus, read.reliability) == (7, 0.25, 2, 0.9)


def test_an_instance_needs_nothing_but_its_id():
    bare = Instance.model_validate({"id": 900})
    assert (bare.actual_status, bare.proxy_endpoint, bare.direct_endpoint, bare.failed) == (None, None, None, None)


def test_both_endpoints_are_read_from_a_running_instance():
    row = {"id": 900, "ssh_host": "ssh5.vast.ai", "ssh_port": "14000", "public_ipaddr": " 1.2.3.4\n"}
    running = Instance.model_validate(row | {"ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41001"}]}})
    assert running.proxy_endpoint == ("ssh5.vast.ai", 14000)
    assert running.direct_endpoint == ("1.2.3.4", 41001)


@pytest.mark.parametrize(
    "ports", [None, {}, [], {"22/tcp": None}, {"22/tcp": []}, {"22/tcp": [{}]}, {"22/tcp": [{"HostPort": "0"}]}]
)
def test_ports_that_are_not_there_yet_are_no_endpoint(ports):
    assert Instance.model_validate({"id": 1, "public_ipaddr": "1.2.3.4", "ports": ports}).direct_endpoint is None


@pytest.mark.parametrize(
    ("env", "noted"),
    [
        ([["A", "1"], ["VASTBENCH_LEASE", "vb-1"], ["-p 80:80", "1"]], "vb-1"),
        ({"A": "1", "VASTBENCH_LEASE": "vb-1"}, "vb-1"),
        ('[["VASTBENCH_LEASE", "vb-1"]]', "vb-1"),
        ([["VASTBENCH_LEASE", None]], None),
        ([["VASTBENCH_LEASE"], "VASTBENCH_LEASE", 7], None),
        *((nothing, None) for nothing in (None, [], {}, "", "A=1", 7)),
    ],
)
def test_the_label_that_an_environment_notes_is_read_in_every_form(env, noted):
    assert Instance.model_validate({"id": 1, "extra_env": env}).noted == noted


@pytest.mark.parametrize("status", ["exited", "unknown", "offline", "error", "stopped", "Error"])
def test_a_status_that_does_not_recover_is_a_failure(status):
    assert status in (Instance.model_validate({"id": 1, "actual_status": status}).failed or "")


def test_an_oci_error_is_a_failure():
    row = {"id": 1, "actual_status": "created", "status_msg": "OCI runtime create failed: no nvidia"}
    assert "no nvidia" in (Instance.model_validate(row).failed or "")


@pytest.mark.parametrize(
    ("said", "image_fails"),
    [
        ("Error response from daemon: manifest for a/b:c not found: manifest unknown: manifest unknown", True),
        ("pull access denied for a/b, repository does not exist or may require 'docker login'", True),
        ("unauthorized: authentication required", True),
        ("no matching manifest for linux/amd64 in the manifest list entries", True),
        ("exec /bin/sh: exec format error", True),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("429 Too Many Requests", False),
        ("write /var/lib/docker/tmp/x: no space left on device", False),
        ("failed to register layer: archive/tar: invalid header", False),
        ("Error response from daemon: Get https://registry-1.docker.io/v2/: net/http: TLS handshake timeout", False),
        ("unexpected EOF while reading", False),
        ("nvidia-container-cli: initialization error: nvml error", False),
        ("OCI runtime create failed: no nvidia", False),
    ],
)
@pytest.mark.parametrize("status", [None, "created", "loading"])
def test_what_the_daemon_says_is_a_failure_as_long_as_it_does_not_run(said, image_fails, status):
    row = Instance.model_validate({"id": 1, "actual_status": status, "status_msg": said})
    assert said in (row.failed or "")
    assert row.image_fails is image_fails
    assert Instance.model_validate({"id": 1, "actual_status": "running", "status_msg": said}).failed is None


@pytest.mark.parametrize(
    "said", [None, "", "12.8.1-base: pulling nvidia/cuda", "a1b2: Extracting", "Pulling fs layer", "success, running a_b/ssh"]
)
def test_what_the_daemon_says_on_the_way_is_none(said):
    assert Instance.model_validate({"id": 1, "actual_status": "loading", "status_msg": said}).failed is None


@pytest.mark.parametrize(("status", "failed"), [("loading", True), ("created", True), (None, False), ("running", False)])
def test_stopped_while_loading_is_a_failure(status, failed):
    row = {"id": 1, "actual_status": status, "intended_status": "stopped", "cur_state": "stopped", "next_state": "stopped"}
    assert bool(Instance.model_validate(row).failed) is failed


def test_a_key_is_read_under_both_its_names():
    assert SshKey.model_validate({"id": 1, "key": "ssh-ed25519 A"}).public_key == "ssh-ed25519 A"
    assert SshKey.model_validate({"id": 1, "public_key": "ssh-ed25519 A"}).public_key == "ssh-ed25519 A"


def test_a_charge_names_its_instance_and_the_label_it_had():
    row = {"source": "instance-900", "amount": 0.312, "metadata": {"label": "run-1"}}
    charge = Charge.model_validate(row)
    assert (charge.instance_id, charge.label) == (900, "run-1")
    assert Charge.model_validate(charge.model_dump()) == charge
    bare = Charge.model_validate({"source": "volume-9", "amount": 1, "metadata": None})
    assert (bare.instance_id, bare.label) == (None, None)


@pytest.mark.parametrize(
    ("item", "low", "high"),
    [
        ({"amount": 0.3}, 0.2995, 0.3005),
        ({"amount": 0.3, "description": "1.000 hours at $0.300/hour"}, 0.2995, 0.3005),
        ({"amount": 0.005, "description": "0.017 hours at $0.300/hour"}, 0.0165 * 0.2995, 0.0175 * 0.3005),
        ({"amount": None, "description": "2 hours at $0.5/hour"}, 1.5 * 0.45, 2.5 * 0.55),
        ({"amount": 0.0, "description": "0.010 GB at $0.02/GB"}, 0.0095 * 0.015, 0.0105 * 0.025),
        ({"amount": 0.3, "description": "9.000 hours at $0.300/hour"}, 0.2995, 0.3005),  # a discount: what is paid counts
        ({"amount": 0.3, "description": "9e999 hours at $$$/hour"}, 0.2995, 0.3005),
        ({"amount": 0.3, "description": "9" * 999 + " hours at $1/hour"}, 0.2995, 0.3005),
    ],
)
def test_an_item_is_known_to_what_its_rounded_words_and_amount_leave_open(item, low, high):
    found = ChargeItem.model_validate(item).charged
    assert (found.low, found.high) == pytest.approx((low, high))


def test_an_item_without_amount_and_words_is_not_0():
    assert ChargeItem.model_validate({"type": "gpu", "amount": "free"}).charged is None
    row = {"amount": 0.3, "items": [{"type": "gpu"}, {"type": "disk", "amount": 0.1}]}
    found = Charge.model_validate(row).charged
    assert {name: one.usd for name, one in found.items()} == {"storage": 0.1, "transfer": 0.0, "total": 0.3}


def test_items_of_one_kind_are_summed_and_bytes_are_one_meter():
    items = [{"type": kind, "amount": amount} for kind, amount in (("gpu", 0.1), ("gpu", 0.2), ("bwd", 0.01), ("bwu", 0.02))]
    found = Charge.model_validate({"amount": 0.33, "items": items}).charged
    assert {name: one.usd for name, one in found.items()} == pytest.approx(
        {"gpu": 0.3, "storage": 0.0, "transfer": 0.03, "total": 0.33}
    )


def test_a_create_request_sends_only_known_keys():
    body = CreateRequest("ubuntu:22.04", 16, "run-1", onstart="echo hi", env={"A": "1"}).body()
    assert body == {
        "client_id": "me",
        "image": "ubuntu:22.04",
        "disk": 16,
        "label": "run-1",
        "onstart": "echo hi",
        "env": {"A": "1", "VASTBENCH_LEASE": "run-1"},
        "runtype": "ssh_direc ssh_proxy",
        "cancel_unavail": True,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": ""},
        {"image": "x" * 1025},
        {"image": "two words"},
        {"disk_gb": 7.9},
        {"disk_gb": math.nan},
        {"label": ""},
        {"label": "x" * 257},
        {"label": " padded"},
        {"onstart": "é" * 2025},
        {"env": {"": "x"}},
        {"env": {"A": "x" * 257}},
        {"env": {f"V{i:03}": "x" * 250 for i in range(140)}},
        {"price": 0.0},
        {"price": math.nan},
        {"price": 129.0},
    ],
)
def test_what_the_marketplace_would_refuse_is_not_sent(wrong):
    with pytest.raises(UsageError):
        CreateRequest(**({"image": "ubuntu", "disk_gb": 10, "label": "l"} | wrong)).body()


def test_environment_and_onstart_stay_out_of_the_repr():
    assert "hunter2" not in repr(CreateRequest("i", 8, "l", onstart="echo hunter2", env={"PASSWORD": "hunter2"}))


@settings(deadline=None)
@given(wild(Offer, id=1) | WILD)
def test_any_offer_row_is_read_or_dropped(row):
    api = client(lambda request: httpx.Response(200, content=_json({"offers": [row]})))
    found = api.search_offers(OfferQuery.parse("", defaults=False)).value
    assert len(found) + api.usage.dropped_offers == 1
    assert all(math.isfinite(one.usd_per_hour(10)) for one in found)


@settings(deadline=None)
@given(wild(Instance, id=1) | WILD)
def test_any_instance_row_is_read_or_the_list_is_unreadable(row):
    api = client(lambda request: httpx.Response(200, content=_json(page(row))))
    try:
        (found,) = api.list_instances().value
    except ApiUnreadable:
        return
    assert isinstance(found.failed, str | None)
    for endpoint in (found.proxy_endpoint, found.direct_endpoint):
        assert endpoint is None or 0 < endpoint[1] < 65536


def _json(value):
    return json.dumps(value).encode()
