"""What holds for hostile answers: no back-off sleeps, and one place that says how many examples are tried."""

import os
from types import SimpleNamespace

import pytest
import stamina
from hypothesis import HealthCheck, settings

from tests.hostile.meddling import SPEED
from tests.profiles import certain
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.record.conditions import Conditions
from vastbench.rental.offers import choose, query
from vastbench.vast.api import VastApi
from vastbench.vast.call import TRIES
from vastbench.vast.models import CreateRequest

EXAMPLES = int(os.environ.get("VASTBENCH_EXAMPLES", "24"))
"""Examples per property; ``VASTBENCH_EXAMPLES=1000`` for a thorough search."""

settings.register_profile(
    "hostile",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="VASTBENCH_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True, scope="package")
def without_back_off():
    with stamina.set_testing(True, attempts=TRIES, cap=True):
        yield


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A marketplace, and the instance of somebody else on the same account."""
    with (
        Emulator(certain(tmp_path_factory.mktemp("market")), seed=4, speed=SPEED) as vast,
        VastApi(vast.url, vast.api_key, clock=Clock(SPEED)) as api,
    ):
        conditions = Conditions()
        offer = choose(api.search_offers(query(conditions)).value, conditions)
        stranger = api.create_instance(offer.id, CreateRequest("ubuntu:22.04", 20.0, "somebody else's")).value.new_contract
        yield SimpleNamespace(vast=vast, api=api, stranger=stranger)
