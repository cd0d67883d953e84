"""The report as data: what ``report.json`` holds, and what the page and the Markdown text are made of.

The shape's history (``SCHEMA``), newest first:

6. ``charges``: in a sentence, what the account charged beside what the meters say; null where nobody asked.
   ``providers`` says what each provider bills (``billing``), what runs and successes cost on its terms, with intervals, and
   from which share of failed runs on it is cheaper elsewhere (``break_even``); ``usd_per_run`` counts all attempted runs.
5. ``certainty`` and the drill's ``measures`` hold what was waited, as ``phases`` does; ``time to ready`` is the new name of
   ``time until useful``, and ``ready_at`` says up to what it goes; measures and the fresh boot say of how many ``machines``
   they are. ``verdict`` is shorter.
4. ``drill``: what the runs of a drill found out (null for others), with its ``measures``, ``acceptance``, ``estimate``;
   ``next_steps``: the drills of which there is no run here. ``failover`` is null where a drill says more of it.
3. ``pending``: how many notifications were not delivered yet when the report was made.
2. ``certainty``: a row per quantity with its quantiles of all attempted runs and the effective n;
   ``machines``: the latter in words; ``artefacts``: what the detector found in the timings, and the rules that could not be
   applied.
1. The first one: ``schema, made_at, vastbench, study, emulated, conclusion, problems, basis, verdict, counts, failed, trend,
   outcomes, instrument, method, phases, median_run, shares, what_if, costs, cost_per_run, providers, findings, failover,
   figures, files``.

Seconds are clock seconds, names carry their units as in the tidy frame, shares and rates are 0–1, and what is missing is null.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vastbench.analysis.artefacts.detector import RULES, not_applicable, timings_of
from vastbench.analysis.attempts import begun
from vastbench.analysis.billing import TERMS
from vastbench.analysis.columns import SCHEMA as FRAME_SCHEMA
from vastbench.analysis.drift import halves
from vastbench.analysis.durations import exact
from vastbench.analysis.findings import Finding, findings
from vastbench.analysis.frames import runs_from
from vastbench.analysis.providers import compare, same_gpu, seed_ratios, without_region
from vastbench.analysis.summary import attempted, passed
from vastbench.analysis.survival.intervals import CONFIDENCE
from vastbench.analysis.survival.quantiles import quantile_estimate
from vastbench.analysis.typical import median_run
from vastbench.analysis.useful import until_useful
from vastbench.record.numbers import quotient
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.stopping import USEFUL
from vastbench.render import sentences
from vastbench.render.findings import spoken
from vastbench.report.drills import drill_section, next_steps, question_of

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.analysis.facts import Facts
    from vastbench.analysis.survival.durations import Durations

SCHEMA = 6

WELL_KNOWN = (
    ("AWS", "g5.xlarge"),
    ("GCP", "a2-highgpu-1g"),
    ("Nebius", "gpu-l40s-a_1gpu-8vcpu-32gb"),
    ("Nebius", "gpu-h100-sxm_1gpu-16vcpu-200gb"),
    ("Vast.ai", "1x-A100_PCIE-32-65536"),
    ("Vast.ai", "1x-H100_SXM-32-65536"),
)
"""Instance types that readers know, the two of the published report of 2026-01-02 first; shown where the price table has them
with a region, without their spot prices, in their cheapest and in their dearest region."""

INSTRUMENT = ("source", "profile", "scale", "poll_period_s", "scenario", "gpu", "num_gpus", "image", "disk_gb")


def report_model(
    facts: Facts,
    prices: pd.DataFrame,
    *,
    study: str | None,
    asked: int | None,
    problems: list[str],
    made_at: str,
    version: str,
    pending: int = 0,
) -> dict[str, Any]:
    """What the report of ``facts`` says, without its figures and files, as plain JSON values.

    ``asked`` is how many runs the study was to have (None when unknown), ``problems`` why data could not be used, ``made_at``
    the time in ISO form, ``version`` that of vastbench, ``pending`` how many notifications are not delivered yet.
    ``conclusion`` is ``passed``, ``none passed``, ``incomplete`` (fewer runs than asked, or none) or ``unreadable``.
    """
    question = question_of(facts.phases) if facts.attempted else None
    drill = drill_section(facts.phases, question) if question else None
    verdict = sentences.study_verdict(facts.phases) if drill is None else _drill_verdict(facts, drill["text"])
    return {
        "schema": SCHEMA,
        "made_at": made_at,
        "vastbench": version,
        "study": study,
        "emulated": facts.emulated,
        "conclusion": _conclusion(facts, asked, problems),
        "problems": problems,
        "basis": sentences.source(facts.phases),
        "verdict": " ".join(problems) or verdict,
        "counts": {
            "runs": int(facts.phases["run"].nunique()),
            "asked": asked,
            "attempted": facts.attempted,
            "passed": facts.passed,
            "stopped_by_us": facts.stopped,
        },
        "pending": pending,
        "failed": _failed(facts),
        "trend": _trend(facts.phases),
        "outcomes": records(facts.outcomes),
        "instrument": _instrument(facts),
        "method": {
            "confidence_rate": CONFIDENCE,
            "tail_rate": 0.9,
            "frame_schema": FRAME_SCHEMA,
            "resampled": "whole runs (whole machines where they repeat), 2000 times",
        },
        "phases": _phases(facts),
        "ready_at": sentences.ready_at(facts.phases),
        "certainty": records(facts.certainty),
        "machines": sentences.clusters(facts.phases, phase=USEFUL),
        "artefacts": _artefacts(facts),
        "median_run": _median_run(facts.phases),
        "shares": records(facts.shares),
        "what_if": records(facts.what_if),
        "costs": records(facts.costs.assign(attempted=facts.attempted)),
        "cost_per_run": _interval(exact(facts.runs["cost_usd"], facts.runs["machine"]), "usd"),
        "charges": sentences.charges(facts.phases) if facts.phases["charge"].notna().any() else None,
        "providers": _providers(facts, prices),
        "findings": [_finding(one) for one in findings(facts)],
        "drill": _cleaned(drill),
        "failover": None if drill else _failover(facts),
        "next_steps": next_steps(facts.phases),
        "figures": [],
        "files": [],
    }


def records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a frame as JSON values: what is missing or infinite is None, dates are in ISO form."""
    return [clean_values(row) for row in frame.to_dict("records")]


def clean_values(row: Any) -> dict[str, object]:
    """A mapping's values as JSON values."""
    return {str(name): _plain(value) for name, value in row.items()}


def _cleaned(value: Any) -> Any:
    """JSON values all the way down."""
    if isinstance(value, dict):
        return {str(name): _cleaned(one) for name, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else _plain(value)


def _plain(value: Any) -> Any:
    import pandas as pd

    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat() if value == value.normalize() else value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _conclusion(facts: Facts, asked: int | None, problems: list[str]) -> str:
    if problems:
        return "unreadable"
    if not facts.attempted or (asked is not None and facts.attempted < asked):
        return "incomplete"
    return "passed" if facts.passed else "none passed"


def _drill_verdict(facts: Facts, answer: str) -> str:
    """The answer to what the drill asks, and what every study says besides."""
    return f"{sentences.source(facts.phases)} {answer} {sentences.failures_by_cause(facts.phases)}"


def _instrument(facts: Facts) -> dict[str, object]:
    """With what was measured: for each column its different values, and between which dates."""
    totals = facts.phases[facts.phases["phase"] == PhaseName.TOTAL]
    found: dict[str, object] = {name: [_plain(v) for v in sorted(totals[name].dropna().unique())] for name in INSTRUMENT}
    started = begun(totals)
    found["first_start"] = None if started.empty else started.min().isoformat(timespec="seconds")
    found["last_start"] = None if started.empty else started.max().isoformat(timespec="seconds")
    found["regions"], found["machines"] = int(totals["region"].nunique()), int(totals["machine"].nunique())
    return found


def _failed(facts: Facts) -> dict[str, object]:
    """The attempted runs that did not pass, with the interval of their rate."""
    good = (
        facts.outcomes.to_dict("records")[0] if facts.attempted else dict.fromkeys(("rate", "rate_low", "rate_high"), math.nan)
    )
    known = {"rate": 1 - good["rate"], "low_rate": 1 - good["rate_high"], "high_rate": 1 - good["rate_low"]}
    return clean_values({"runs": facts.attempted - facts.passed} | known)


def _trend(phases: pd.DataFrame) -> list[dict[str, object]]:
    """The median total of the earlier and of the later half of the runs that passed; none for fewer than two."""
    return [_interval(half, "s") for half in halves(phases)]


def _interval(values: Durations, unit: str) -> dict[str, object]:
    """The median of the ``values`` with its interval, or None where there is none."""
    found = quantile_estimate(values, 0.5)
    known = {f"median_{unit}": found.value, f"low_{unit}": found.low, f"high_{unit}": found.high}
    return clean_values({"n": found.n} | known)


def _finding(found: Finding) -> dict[str, object]:
    figures = clean_values(found.figures)
    return {"rule": found.rule, "kind": str(found.kind), "text": spoken(found), "figures": figures}


def _artefacts(facts: Facts) -> dict[str, object]:
    """What the detector found in the timings of the attempted runs, with its evidence, and why some rules say nothing."""
    found = [
        {
            "rule": one.rule,
            "rows": len(one.rows),
            "text": one.text,
            "consequence": one.consequence,
            "evidence": clean_values(one.evidence),
        }
        for one in facts.artefacts
    ]
    lacking = not_applicable(timings_of(attempted(facts.phases))) if facts.attempted else {}
    return {
        "found": found,
        "rules": len(RULES) - len(lacking) if facts.attempted else 0,
        "not_applicable": [{"rule": name, "missing": missing} for name, missing in lacking.items()],
    }


def _phases(facts: Facts) -> list[dict[str, object]]:
    """The summary of each phase with its shares of the mean and of the variance of the total."""
    shares = facts.shares[["phase", "mean_share", "variance_share"]]
    return records(facts.summary.merge(shares, on="phase", how="left"))


def _median_run(phases: pd.DataFrame) -> dict[str, object] | None:
    """The tree of the passed run whose total is nearest the median total; None when none passed."""
    rows = median_run(phases)
    if rows.empty:
        return None
    good = passed(phases)
    totals = good.loc[good["phase"] == PhaseName.TOTAL, "seconds"]
    (run,) = runs_from(rows)
    tree = [
        {
            "phase": str(row.name),
            "depth": row.depth,
            "seconds": row.seconds,
            "lower_s": row.lower,
            "upper_s": row.upper,
            "share": row.share,
            "attempt": row.attempt,
            "outcome": str(row.outcome),
            "bottleneck": row.bottleneck,
        }
        for row in run.rows()
    ]
    return {
        "run": run.id,
        "median_total_s": float(totals.median()),
        "total_s": run.total_s,
        "tree": [clean_values(row) for row in tree],
    }


def _providers(facts: Facts, prices: pd.DataFrame) -> dict[str, object] | None:
    """What the runs paid beside list prices, and the published ratios; None when there is no run to compare."""
    if not facts.attempted:
        return None
    shown = compared(prices, facts.phases)
    ours, listed = shown[shown["ours"]]["usd_per_gpu_hour"], shown[~shown["ours"]]["usd_per_gpu_hour"]
    price = float(ours.iloc[0]) if len(ours) else math.nan
    summary = {"listed": len(listed), "lower": int((listed < price).sum()), "median_ratio": quotient(listed.median(), price)}
    bills = shown.drop_duplicates(["provider", *TERMS, "billing_note"])
    return {
        "shown": records(shown),
        "billing": records(bills[["provider", *TERMS, "lacking", "billing_note", "billing_source"]]),
        "break_even": sentences.break_even(shown),
        "summary": clean_values(summary),
        "catalogued": len(prices),
        "without_region": len(without_region(prices)),
        "seed_ratios": records(seed_ratios(prices)),
    }


def compared(prices: pd.DataFrame, phases: pd.DataFrame) -> pd.DataFrame:
    """What is worth showing of the runs beside ``prices``: ours, the same GPU elsewhere, and the well-known types; ours first,
    then the cheapest.
    """
    import pandas as pd

    comparison = compare(prices, phases)
    posted = comparison[comparison["tier"] != "spot"].sort_values("usd_per_hour", kind="stable")
    known = [posted[(posted["provider"] == one) & (posted["instance_type"] == kind)] for one, kind in WELL_KNOWN]
    ends = [rows.iloc[[0, -1]] for rows in known if len(rows)]
    shown = pd.concat([comparison[comparison["ours"]], same_gpu(comparison), *ends]).drop_duplicates()
    return shown.sort_values(["ours", "usd_per_gpu_hour"], ascending=[False, True], kind="stable").reset_index(drop=True)


def _failover(facts: Facts) -> dict[str, object]:
    """What is known of replacing a dead machine: a fresh boot of this study's runs; nothing else was measured."""
    (row,) = records(until_useful(facts.phases))
    lost = facts.outcomes[facts.outcomes["outcome"] != Outcome.PASSED]
    return {
        "fresh_boot": row,
        "boots_in_vain": int(lost["runs"].sum()),
        "attempted": facts.attempted,
        "not_measured": ["detecting that a machine is dead", "taking and restoring a snapshot", "data lost since the snapshot"],
    }
