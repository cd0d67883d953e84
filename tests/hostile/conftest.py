"""What holds for hostile answers: no back-off sleeps, and one place that says how many examples are tried."""

import os

import pytest
import stamina
from hypothesis import HealthCheck, settings

from vastbench.vast.call import TRIES

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
