"""The scenarios by name."""

from vastbench.errors import NotFound, did_you_mean
from vastbench.scenarios.drill import Scenario
from vastbench.scenarios.integration import INTEGRATION

SCENARIOS = {one.name: one for one in (INTEGRATION,)}
"""Every scenario that there is."""


def find_scenario(name: str) -> Scenario:
    """The scenario of that name. Raises NotFound, which says which ones there are.

    >>> find_scenario("integration").name
    'integration'
    """
    if name not in SCENARIOS:
        raise NotFound(
            f"There is no scenario {name!r}.", hint=f"{did_you_mean(name, SCENARIOS)}Scenarios: {', '.join(SCENARIOS)}."
        )
    return SCENARIOS[name]
