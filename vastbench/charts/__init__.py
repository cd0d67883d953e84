"""Frame in, matplotlib Axes out: units and n on every chart, every run drawn, nothing dropped in silence."""

from vastbench.charts.curves import boot_curves, naive_beside_honest
from vastbench.charts.money import cost_meters, provider_costs
from vastbench.charts.outcomes import failures_by_cause, runs_over_time
from vastbench.charts.phases import phase_distributions, phase_waterfall
from vastbench.charts.shares import phase_shares
from vastbench.charts.timeline import poll_timeline

__all__ = [
    "boot_curves",
    "cost_meters",
    "failures_by_cause",
    "naive_beside_honest",
    "phase_distributions",
    "phase_shares",
    "phase_waterfall",
    "poll_timeline",
    "provider_costs",
    "runs_over_time",
]
