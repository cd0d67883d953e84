"""How a project tests its own use of Vast.ai: here the official command `vastai`, which reads VAST_URL and VAST_API_KEY.

Run it with `pytest examples/official-client` where vastbench, pytest and vastai are installed.
"""

import json
import subprocess
import time

import pytest

QUERY = "gpu_name=RTX_4090 num_gpus=1"


def vastai(*words):
    """What `vastai WORDS --raw` prints; None where it prints no JSON, which is how it says that something failed."""
    done = subprocess.run(["vastai", *map(str, words), "--raw"], capture_output=True, text=True, timeout=120)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return None


def test_the_cheapest_offer_comes_first(vast_emulator):
    offers = vastai("search", "offers", QUERY, "-o", "dph")
    prices = [offer["dph_total"] for offer in offers]
    assert prices
    assert prices == sorted(prices)


@pytest.mark.vast_emulator(profile="seed", speed=200)
def test_an_instance_runs_and_is_gone_after_its_destruction(vast_emulator):
    offer = vastai("search", "offers", QUERY, "-o", "dph", "--limit", 1)[0]
    rented = vastai("create", "instance", offer["id"], "--image", "ubuntu:22.04", "--disk", 10, "--ssh")["new_contract"]
    deadline = time.monotonic() + 120
    while vastai("show", "instance", rented)["actual_status"] != "running":
        assert time.monotonic() < deadline
    vastai("destroy", "instance", rented, "-y")
    assert vastai("show", "instances") == []
    assert [event["event"] for event in vast_emulator.events if event.get("instance") == rented][-1] == "gone"


@pytest.mark.vast_emulator(faults={"offer-gone-404": 1.0})
def test_an_offer_that_somebody_else_took_rents_nothing(vast_emulator):
    offer = vastai("search", "offers", QUERY, "--limit", 1)[0]
    assert vastai("create", "instance", offer["id"], "--image", "ubuntu:22.04", "--disk", 10) is None
    assert vastai("show", "instances") == []
