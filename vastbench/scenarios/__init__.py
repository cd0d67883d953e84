"""The scenarios by name."""

from vastbench.scenarios.integration import INTEGRATION

SCENARIOS = {one.name: one for one in (INTEGRATION,)}
"""Every scenario that there is; the first is the one that runs unless another is named."""
