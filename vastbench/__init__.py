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
    vastbench.columns()                   # what each of its columns holds
    vastbench.summary(phases)             # how long each phase takes
    vastbench.boot_curves(phases)         # a chart; every chart takes a frame and returns matplotlib Axes
    vastbench.compare("Vietnam", "Spain", by="region", data=phases)
    vastbench.report(phases, "out/report")
    with vastbench.emulator() as vast: print(vast.url)

Everything is imported when it is first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vastbench.record.shown import before_showing

if TYPE_CHECKING:
    from vastbench.analysis import measures as measures
    from vastbench.analysis import providers as providers
    from vastbench.analysis.attempts import pool as pool
    from vastbench.analysis.blocks import paired as paired
    from vastbench.analysis.bottleneck import shares as shares
    from vastbench.analysis.bottleneck import what_if as what_if
    from vastbench.analysis.certainty import certainty as certainty
    from vastbench.analysis.columns import columns as columns
    from vastbench.analysis.cost import cost_summary as cost_summary
    from vastbench.analysis.drift import drift as drift
    from vastbench.analysis.frames import only as only
    from vastbench.analysis.frames import phases_table as phases_table
    from vastbench.analysis.frames import runs_from as runs_from
    from vastbench.analysis.frames import runs_table as runs_table
    from vastbench.analysis.horizon import ready_within as ready_within
    from vastbench.analysis.machines import machines as machines
    from vastbench.analysis.summary import outcomes as outcomes
    from vastbench.analysis.typical import median_run as median_run
    from vastbench.answers.check import check as check
    from vastbench.answers.compare import compare as compare
    from vastbench.answers.designs import read_design as read_design
    from vastbench.answers.estimate import estimate as estimate
    from vastbench.answers.plan import plan as plan
    from vastbench.answers.reconcile import reconcile as reconcile
    from vastbench.answers.stored import load_run as load_run
    from vastbench.answers.stored import studies as studies
    from vastbench.answers.summary import summary as summary
    from vastbench.bench.bench import Bench as Bench
    from vastbench.bench.workers import run_design as run_design
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
    from vastbench.io.prices import check as doubtful_prices
    from vastbench.io.prices import prices as price_list
    from vastbench.io.tables import export as export
    from vastbench.io.tables import load as load
    from vastbench.notebooks.running import run_notebook as run_notebook
    from vastbench.record.conditions import Conditions as Conditions
    from vastbench.record.design import Condition as Condition
    from vastbench.record.design import Design as Design
    from vastbench.record.run import Run as Run
    from vastbench.record.study import Study as Study
    from vastbench.record.study import require_passed as require_passed
    from vastbench.render import sentences as sentences
    from vastbench.render.explore import explore as explore
    from vastbench.render.findings import doubts as doubts
    from vastbench.render.frames import format_frame as format_frame
    from vastbench.render.progress import notebook as notebook_progress
    from vastbench.render.progress import notebook_study as notebook_study_progress
    from vastbench.render.text import verdict as verdict
    from vastbench.scenarios.questions import question as question
    from vastbench.store import Store as Store

# It says how runs and studies show themselves.
before_showing(lambda: import_module("vastbench.render"))

_PLACES = {
    "Bench": ("vastbench.bench.bench", "Bench"),
    "boot_curves": ("vastbench.charts", "boot_curves"),
    "certainty": ("vastbench.analysis.certainty", "certainty"),
    "check": ("vastbench.answers.check", "check"),
    "columns": ("vastbench.analysis.columns", "columns"),
    "compare": ("vastbench.answers.compare", "compare"),
    "Condition": ("vastbench.record.design", "Condition"),
    "Conditions": ("vastbench.record.conditions", "Conditions"),
    "cost_meters": ("vastbench.charts", "cost_meters"),
    "cost_summary": ("vastbench.analysis.cost", "cost_summary"),
    "Design": ("vastbench.record.design", "Design"),
    "doubtful_prices": ("vastbench.io.prices", "check"),
    "doubts": ("vastbench.render.findings", "doubts"),
    "drift": ("vastbench.analysis.drift", "drift"),
    "estimate": ("vastbench.answers.estimate", "estimate"),
    "explore": ("vastbench.render.explore", "explore"),
    "export": ("vastbench.io.tables", "export"),
    "failures_by_cause": ("vastbench.charts", "failures_by_cause"),
    "format_frame": ("vastbench.render.frames", "format_frame"),
    "load": ("vastbench.io.tables", "load"),
    "load_run": ("vastbench.answers.stored", "load_run"),
    "machines": ("vastbench.analysis.machines", "machines"),
    "median_run": ("vastbench.analysis.typical", "median_run"),
    "naive_beside_honest": ("vastbench.charts", "naive_beside_honest"),
    "notebook_progress": ("vastbench.render.progress", "notebook"),
    "notebook_study_progress": ("vastbench.render.progress", "notebook_study"),
    "only": ("vastbench.analysis.frames", "only"),
    "outcomes": ("vastbench.analysis.summary", "outcomes"),
    "paired": ("vastbench.analysis.blocks", "paired"),
    "phase_distributions": ("vastbench.charts", "phase_distributions"),
    "phase_shares": ("vastbench.charts", "phase_shares"),
    "phase_waterfall": ("vastbench.charts", "phase_waterfall"),
    "phases_table": ("vastbench.analysis.frames", "phases_table"),
    "plan": ("vastbench.answers.plan", "plan"),
    "poll_timeline": ("vastbench.charts", "poll_timeline"),
    "pool": ("vastbench.analysis.attempts", "pool"),
    "price_list": ("vastbench.io.prices", "prices"),
    "provider_costs": ("vastbench.charts", "provider_costs"),
    "question": ("vastbench.scenarios.questions", "question"),
    "read_design": ("vastbench.answers.designs", "read_design"),
    "ready_within": ("vastbench.analysis.horizon", "ready_within"),
    "reconcile": ("vastbench.answers.reconcile", "reconcile"),
    "require_passed": ("vastbench.record.study", "require_passed"),
    "Run": ("vastbench.record.run", "Run"),
    "run_design": ("vastbench.bench.workers", "run_design"),
    "run_notebook": ("vastbench.notebooks.running", "run_notebook"),
    "run_study": ("vastbench.bench.workers", "run_study"),
    "runs_from": ("vastbench.analysis.frames", "runs_from"),
    "runs_over_time": ("vastbench.charts", "runs_over_time"),
    "runs_table": ("vastbench.analysis.frames", "runs_table"),
    "shares": ("vastbench.analysis.bottleneck", "shares"),
    "Store": ("vastbench.store", "Store"),
    "studies": ("vastbench.answers.stored", "studies"),
    "Study": ("vastbench.record.study", "Study"),
    "summary": ("vastbench.answers.summary", "summary"),
    "VastbenchError": ("vastbench.errors", "VastbenchError"),
    "verdict": ("vastbench.render.text", "verdict"),
    "what_if": ("vastbench.analysis.bottleneck", "what_if"),
}

_MODULES = {
    "emulator": "vastbench.emulator",
    "measures": "vastbench.analysis.measures",
    "providers": "vastbench.analysis.providers",
    "report": "vastbench.report",
    "sentences": "vastbench.render.sentences",
}
"""Modules that are public names; two of them are also called."""

__all__ = [
    "Bench",
    "Condition",
    "Conditions",
    "Design",
    "Run",
    "Store",
    "Study",
    "VastbenchError",
    "boot_curves",
    "certainty",
    "check",
    "columns",
    "compare",
    "cost_meters",
    "cost_summary",
    "doubtful_prices",
    "doubts",
    "drift",
    "emulator",
    "estimate",
    "explore",
    "export",
    "failures_by_cause",
    "format_frame",
    "load",
    "load_run",
    "machines",
    "measures",
    "median_run",
    "naive_beside_honest",
    "notebook_progress",
    "notebook_study_progress",
    "only",
    "outcomes",
    "paired",
    "phase_distributions",
    "phase_shares",
    "phase_waterfall",
    "phases_table",
    "plan",
    "poll_timeline",
    "pool",
    "price_list",
    "provider_costs",
    "providers",
    "question",
    "read_design",
    "ready_within",
    "reconcile",
    "report",
    "require_passed",
    "run_design",
    "run_notebook",
    "run_study",
    "runs_from",
    "runs_over_time",
    "runs_table",
    "sentences",
    "shares",
    "studies",
    "summary",
    "verdict",
    "what_if",
]


def __dir__() -> list[str]:
    """The public names, for Tab; what this file itself needs is not among them."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name == "__version__":
        return version("vastbench")
    if name not in _PLACES:
        raise AttributeError(f"module 'vastbench' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
