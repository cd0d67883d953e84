"""Frame in, matplotlib Axes out: units and n on every chart, every run drawn, nothing dropped in silence."""

from vastbench.charts.money import cost_meters, provider_costs
from vastbench.charts.outcomes import failures_by_cause, runs_over_time
from vastbench.charts.phases import phase_distributions, phase_waterfall
from vastbench.charts.shares import phase_shares

__all__ = [
    "cost_meters",
    "failures_by_cause",
    "phase_distributions",
    "phase_shares",
    "phase_waterfall",
    "provider_costs",
    "runs_over_time",
]
