"""The scenarios by name."""

from vastbench.errors import NotFound, did_you_mean
from vastbench.scenarios.drill import Scenario
from vastbench.scenarios.failover import FAILOVER
from vastbench.scenarios.hibernation import HIBERNATION
from vastbench.scenarios.integration import INTEGRATION
from vastbench.scenarios.model import MODEL
from vastbench.scenarios.snapshot import SNAPSHOT

SCENARIOS = {one.name: one for one in (INTEGRATION, SNAPSHOT, FAILOVER, HIBERNATION, MODEL)}
"""Every scenario that there is; the first is the one that runs unless another is named."""


def find_scenario(name: str | None = None) -> Scenario:
    """The scenario of that name, by default the first. Raises NotFound, which says which ones there are.

    >>> find_scenario().name == next(iter(SCENARIOS))
    True
    """
    name = next(iter(SCENARIOS)) if name is None else name
    if name not in SCENARIOS:
        raise NotFound(
            f"There is no scenario {name!r}.", hint=f"{did_you_mean(name, SCENARIOS)}Scenarios: {', '.join(SCENARIOS)}."
        )
    return SCENARIOS[name]
