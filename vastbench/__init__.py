"""vastbench: how long until a rented GPU is useful, what it costs, where the time goes, and how sure we are.

The few names an analyst types in a notebook::

    import vastbench

    with vastbench.Bench(profile="default", seed=1, speed=20) as bench:
        run = bench.run(vastbench.Conditions(gpu_name="RTX 4090"), vastbench.notebook_progress())
    run                                   # the phase tree
    with vastbench.Bench(study="first", speed=20) as bench:
        study = vastbench.run_study(bench, bench.open_study(repeats=12), listener=vastbench.notebook_study_progress())
    study                                 # counts and medians
    phases = vastbench.load()             # a tidy pandas frame: of a file, a store, a study's name, or the sample
    vastbench.runs_table(phases)          # one row per run
    with vastbench.emulator() as vast: print(vast.url)

Everything is imported when it is first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vastbench.record.shown import before_showing

if TYPE_CHECKING:
    from vastbench.analysis.attempts import pool as pool
    from vastbench.analysis.frames import phases_table as phases_table
    from vastbench.analysis.frames import runs_from as runs_from
    from vastbench.analysis.frames import runs_table as runs_table
    from vastbench.bench.bench import Bench as Bench
    from vastbench.bench.workers import run_study as run_study
    from vastbench.charts import boot_curves as boot_curves
    from vastbench.charts import cost_meters as cost_meters
    from vastbench.charts import failures_by_cause as failures_by_cause
    from vastbench.charts import naive_beside_honest as naive_beside_honest
    from vastbench.charts import phase_distributions as phase_distributions
    from vastbench.charts import phase_shares as phase_shares
    from vastbench.charts import phase_waterfall as phase_waterfall
    from vastbench.charts import poll_timeline as poll_timeline
    from vastbench.charts import provider_costs as provider_costs
    from vastbench.charts import runs_over_time as runs_over_time
    from vastbench.errors import VastbenchError as VastbenchError
    from vastbench.io.tables import load as load
    from vastbench.notebooks.running import run_notebook as run_notebook
    from vastbench.record.conditions import Conditions as Conditions
    from vastbench.record.run import Run as Run
    from vastbench.record.study import Study as Study
    from vastbench.record.study import require_passed as require_passed
    from vastbench.render.progress import notebook as notebook_progress
    from vastbench.render.progress import notebook_study as notebook_study_progress
    from vastbench.render.text import verdict as verdict
    from vastbench.store import Store as Store

# It says how runs and studies show themselves.
before_showing(lambda: import_module("vastbench.render"))

_PLACES = {
    "Bench": ("vastbench.bench.bench", "Bench"),
    "Conditions": ("vastbench.record.conditions", "Conditions"),
    "Run": ("vastbench.record.run", "Run"),
    "Store": ("vastbench.store", "Store"),
    "Study": ("vastbench.record.study", "Study"),
    "VastbenchError": ("vastbench.errors", "VastbenchError"),
    "notebook_progress": ("vastbench.render.progress", "notebook"),
    "notebook_study_progress": ("vastbench.render.progress", "notebook_study"),
    "require_passed": ("vastbench.record.study", "require_passed"),
    "run_study": ("vastbench.bench.workers", "run_study"),
    "run_notebook": ("vastbench.notebooks.running", "run_notebook"),
    "verdict": ("vastbench.render.text", "verdict"),
    "load": ("vastbench.io.tables", "load"),
    "boot_curves": ("vastbench.charts", "boot_curves"),
    "cost_meters": ("vastbench.charts", "cost_meters"),
    "failures_by_cause": ("vastbench.charts", "failures_by_cause"),
    "naive_beside_honest": ("vastbench.charts", "naive_beside_honest"),
    "phase_distributions": ("vastbench.charts", "phase_distributions"),
    "phase_shares": ("vastbench.charts", "phase_shares"),
    "phase_waterfall": ("vastbench.charts", "phase_waterfall"),
    "pool": ("vastbench.analysis.attempts", "pool"),
    "poll_timeline": ("vastbench.charts", "poll_timeline"),
    "provider_costs": ("vastbench.charts", "provider_costs"),
    "runs_over_time": ("vastbench.charts", "runs_over_time"),
    "phases_table": ("vastbench.analysis.frames", "phases_table"),
    "runs_from": ("vastbench.analysis.frames", "runs_from"),
    "runs_table": ("vastbench.analysis.frames", "runs_table"),
}

__all__ = [
    "Bench",
    "Conditions",
    "Run",
    "Store",
    "Study",
    "VastbenchError",
    "boot_curves",
    "cost_meters",
    "emulator",
    "failures_by_cause",
    "load",
    "naive_beside_honest",
    "notebook_progress",
    "notebook_study_progress",
    "phase_distributions",
    "phase_shares",
    "phase_waterfall",
    "phases_table",
    "poll_timeline",
    "pool",
    "provider_costs",
    "require_passed",
    "run_notebook",
    "run_study",
    "runs_from",
    "runs_over_time",
    "runs_table",
    "verdict",
]


def __dir__() -> list[str]:
    """The public names, for Tab; what this file itself needs is not among them."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "emulator":
        return import_module("vastbench.emulator")
    if name == "__version__":
        return version("vastbench")
    if name not in _PLACES:
        raise AttributeError(f"module 'vastbench' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
