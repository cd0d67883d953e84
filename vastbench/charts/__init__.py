"""Frame in, matplotlib Axes out: units and n on every chart, every run drawn, nothing dropped in silence."""

from vastbench.charts.phases import phase_distributions, phase_waterfall

__all__ = ["phase_distributions", "phase_waterfall"]
