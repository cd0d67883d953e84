"""What other clients expect of the marketplace's less usual answers, beside what the emulator's faults make of them.

The rules of polling are those of the platform's own live test client, written anew: by id an instance is an object or a list of
one, and anything else is none; five statuses and some words of the daemon end a boot; one that runs without ports is polled on.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.contract.emulation import Emulation, emulation
from tests.contract.official import Client
from tests.contract.openssh import OpenSsh
from tests.contract.rental import cheapest, create

TERMINAL = {"stopped", "offline", "error", "exited"}
WORDS = ("error response from daemon", "failed to", "no space left on device", "toomanyrequests", "unexpected eof")
SPEED = 100


@contextmanager
def faulty(*faults: str) -> Iterator[tuple[Emulation, Client, httpx.Client]]:
    """An emulator with these faults, the official client of it, and a bare one."""
    with emulation(speed=SPEED, faults=faults) as running:
        environment = running.environment
        key = {"Authorization": f"Bearer {environment['VAST_API_KEY']}"}
        with httpx.Client(base_url=environment["VAST_URL"], headers=key, timeout=20) as http:
            yield running, Client(environment), http


def by_id(http: httpx.Client, instance: int) -> dict[str, Any] | None:
    """One instance by those rules, as soon as the marketplace lets itself be asked."""
    while (reply := http.get(f"/api/v0/instances/{instance}/")).status_code == 429:
        time.sleep(0.02)
    found = reply.json().get("instances")
    if isinstance(found, list) and found:
        return dict(found[0])
    return found if isinstance(found, dict) and found else None


def ended(http: httpx.Client, instance: int) -> str:
    """How a boot ends by those rules: the status or the words that end it, or ``running`` with its ports."""
    while True:
        row = by_id(http, instance)
        assert row is not None
        words = next((word for word in WORDS if word in (row["status_msg"] or "").lower()), None)
        if row["actual_status"] in TERMINAL or words:
            return words or str(row["actual_status"])
        if row["actual_status"] == "running" and row.get("ports"):
            return "running"


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        ("error", {"error"}),
        ("stopped", {"stopped"}),
        ("pull-fails", set(WORDS)),
        ("loading-long", {"running"}),
        ("endpoints-late", {"running"}),
        ("direct-late", {"running"}),
    ],
)
def test_a_boot_ends_by_the_rules_of_the_platforms_own_client(fault: str, ends: set[str]) -> None:
    with faulty(fault) as (_, vastai, http):
        assert ended(http, create(vastai, cheapest(vastai)[0], "--ssh", "--direct")) in ends


def test_by_id_an_instance_is_a_list_of_one_and_none_is_said_in_five_forms() -> None:
    with faulty("by-id-forms") as (running, vastai, http):
        made = [create(vastai, offer, "--ssh") for offer in cheapest(vastai, 5)]
        for instance in made:
            assert (by_id(http, instance) or {})["id"] == instance
            assert "destroying" in vastai("destroy", "instance", instance, "-y").out
            running.until_event(instance, "gone")
            assert by_id(http, instance) is None
        assert vastai.raw("show", "instances") == []


def test_a_key_without_the_right_registers_no_ssh_key_and_can_attach_it() -> None:
    with faulty("no-user-write") as (running, vastai, _):
        ssh = OpenSsh(running.folder)
        assert "'success': True" not in vastai("create", "ssh-key", ssh.public_key).out
        instance = create(vastai, cheapest(vastai)[0], "--ssh", "--direct")
        assert "'success': True" in vastai("attach", "ssh", instance, ssh.public_key_file).out


def test_an_offer_that_is_gone_with_409_is_told_by_the_official_client() -> None:
    with faulty("offer-gone-409=1") as (_, vastai, _http):
        words = ("--image", "ubuntu:22.04", "--disk", 16, "--ssh")
        told = vastai("create", "instance", cheapest(vastai)[0], *words)
        assert "409" in told.out + told.err
        assert "new_contract" not in told.out
