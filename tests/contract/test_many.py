"""More instances than a page of the list holds, the client's Python interface, and queued starts."""

import pytest

from tests.contract.emulation import emulation
from tests.contract.rental import show
from tests.profiles import CERTAIN

COUNT = 28


@pytest.fixture(scope="module")
def emulator():
    """An emulator on which none of these many machines ever boots, however long the test takes."""
    profile = CERTAIN.replace('running = { kind = "fixed", value = 15,', 'running = { kind = "fixed", value = 3600,')
    assert profile != CERTAIN
    with emulation(profile, speed=2) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(vastai) -> list[int]:
    """Instances rented in one call; the ids that the list says they have."""
    offers = [offer["id"] for offer in vastai.raw("search", "offers", "num_gpus=1", "-o", "dph", "--limit", COUNT)]
    made = vastai("create", "instances", *offers, "--image", "ubuntu:22.04", "--disk", 16, "--ssh", "--label", "fleet")
    assert made.out.count("'new_contract'") == COUNT
    return sorted(row["id"] for row in vastai.raw("show", "instances"))


def test_every_page_of_the_list_is_followed(fleet, vastai):
    """A list longer than a page is whole, without doubles, and its filtered form too."""
    assert len(fleet) == len(set(fleet)) == COUNT
    labelled = vastai("show", "instances", "-q", "--label", "fleet").out.split()
    assert sorted(map(int, labelled)) == fleet


def test_instances_that_no_host_has_yet_are_listed(fleet, vastai):
    """Before anything is on the host the status is null, and the client still draws its row."""
    row = show(vastai, fleet[0])
    assert row["actual_status"] in (None, "created", "loading")
    assert "ports" not in row
    assert f"Total: {COUNT} instances" in vastai("show", "instances").out


def test_the_python_interface_searches_lists_and_destroys(fleet, vastai, emulator):
    """``VastAI()`` takes the exported variables; search, list and destroy agree with the command line."""
    victim = fleet[3]
    program = f"""
import json
from vastai import VastAI
vast = VastAI()
offers = vast.search_offers(query="gpu_name=RTX_3090 num_gpus=1 gpu_ram>=24", order="dph_total", limit=3)
before = vast.show_instances()
answer = vast.destroy_instance(id={victim})
print(json.dumps([offers, [row["id"] for row in before], answer]))
"""
    offers, before, answer = vastai.python(program)
    assert [offer["gpu_name"] for offer in offers] == ["RTX 3090"] * 3
    prices = [offer["dph_total"] for offer in offers]
    assert prices == sorted(prices)
    assert sorted(before) == fleet
    assert answer["success"] is True
    emulator.until_event(victim, "gone")
    assert vastai.raw("show", "instance", victim) == {"instances": None}


def test_many_are_destroyed_in_one_call(fleet, vastai, emulator):
    """``destroy instances`` empties the list, page after page."""
    left = [row["id"] for row in vastai.raw("show", "instances")]
    vastai("destroy", "instances", "-y", *left)
    for instance in left:
        emulator.until_event(instance, "gone")
    assert vastai.raw("show", "instances") == []
