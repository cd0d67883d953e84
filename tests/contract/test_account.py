"""The official client at the account's desk: keys, user, charges, and what a wrong key gets."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.emulation import Emulation, until
from tests.contract.official import Client
from tests.contract.openssh import OpenSsh
from tests.contract.rental import create, show

KEYLESS = "0" * 64


@pytest.fixture(scope="module")
def instance(emulator: Emulation, vastai: Client) -> int:
    """An instance dear enough to run up charges soon."""
    offer = vastai.raw("search", "offers", "gpu_name=H100_SXM num_gpus=1", "-o", "dph", "--limit", 1)[0]
    return create(vastai, offer["id"], "--ssh", "--label", "bill")


@pytest.fixture(scope="module")
def days() -> tuple[str, ...]:
    """Dates around today, wide enough for the emulator's faster clock."""
    today = datetime.now(UTC).date()
    first, last = today - timedelta(days=1), today + timedelta(days=2)
    return ("--start-date", first.isoformat(), "--end-date", last.isoformat())


def test_charges_are_late(instance, vastai, days):
    """Right after the rental there is no row yet, which does not mean that nothing is owed."""
    answer = vastai.raw("show", "invoices-v1", "--charges", *days)
    assert (answer["results"], answer["total"], answer["next_token"]) == ([], 0, None)


def test_keys_are_kept_as_they_were_given(instance, emulator, vastai):
    """``create ssh-key`` stores the key; ``show ssh-keys`` lists it by id and text."""
    ssh = OpenSsh(emulator.folder)
    made = vastai("create", "ssh-key", ssh.public_key)
    assert "ssh-key created {'success': True" in made.out
    keys = vastai.raw("show", "ssh-keys")
    assert [key["public_key"] for key in keys] == [ssh.public_key]
    assert keys[0].keys() == {"id", "user_id", "public_key", "created_at", "deleted_at"}


def test_the_user_has_an_id_and_credit_and_shows_no_key(instance, emulator, vastai):
    """``show user`` as JSON and as a table; the API key is in neither."""
    user = vastai.raw("show", "user")
    assert 0 < user["credit"] <= 25
    table = vastai("show", "user").out
    assert str(user["id"]) in table
    assert user["email"] in table
    assert emulator.environment["VAST_API_KEY"] not in f"{user} {table}"


def test_a_wrong_key_is_refused_and_changes_nothing(instance, emulator, vastai):
    """404 with ``Invalid user key`` whatever is asked, so that a 404 proves nothing about an instance."""
    refused = vastai("show", "instances", "--raw", key=KEYLESS)
    assert refused.out.strip() == ""
    assert '"status_code": 404' in refused.err
    assert "Invalid user key" in refused.err
    assert "Invalid user key" in vastai("destroy", "instance", instance, "-y", key=KEYLESS).err
    assert show(vastai, instance)["id"] == instance
    assert not any(event["event"] == "destroy_effective" for event in emulator.events(instance))


def test_charges_name_instance_items_and_rounded_amounts(instance, emulator, vastai, days):
    """The late row holds the instance's label, GPU and disk items, and amounts of three decimals that agree with its price."""
    ran = emulator.until_event(instance, "status", status="running")["s"]

    def billed():
        rows = vastai.raw("show", "invoices-v1", "--charges", *days)["results"]
        return rows if rows and rows[0]["amount"] >= 0.02 else None

    [row] = until(billed, "a row of charges")
    assert (row["source"], row["type"], row["metadata"]) == (f"instance-{instance}", "instance", {"label": "bill"})
    items = {item["type"]: item for item in row["items"]}
    assert items.keys() == {"gpu", "disk", "bwd", "bwu"}
    for amount in (row["amount"], *(item["amount"] for item in items.values())):
        assert amount == round(amount, 3)
    assert abs(row["amount"] - sum(item["amount"] for item in items.values())) <= 0.002
    hours, price = map(float, re.fullmatch(r"([\d.]+) hours at \$([\d.]+)/hour", items["gpu"]["description"]).groups())
    assert price == round(show(vastai, instance)["dph_base"], 3)
    rounding = 0.0005 + 0.0005 * price  # of the amount, and of the hours
    assert abs(items["gpu"]["amount"] - hours * price) <= rounding + 1e-9
    started = emulator.until_event(instance, "create_effective")["s"]
    assert abs((row["end"] - row["start"]) - hours * 3600 - (ran - started)) <= 3.6


def test_the_bill_outlives_the_instance(instance, emulator, vastai, days):
    """A destroyed instance keeps its row, which the client draws as a table too; the meters have stopped."""
    vastai("destroy", "instance", instance, "-y")
    emulator.until_event(instance, "gone")
    table = vastai("show", "invoices-v1", "--charges", *days).out
    assert re.search(rf"Instance.*{instance}.*\$0\.\d\d\d\b", table)
    assert "Showing 1 of 1 results" in table
    assert vastai("show", "instances", "-q").out.split() == []
    assert vastai.raw("show", "invoices-v1", "--invoices", *days)["results"][0]["amount"] == 25
