"""What ``vastbench study FILE`` does: a study of several conditions, in blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.analysis.plan import effort
from vastbench.answers.designs import read_design, sample_of
from vastbench.bench.workers import run_design
from vastbench.cli.app import print_json
from vastbench.cli.options import Market
from vastbench.errors import Interrupted, NotFound
from vastbench.record.design import Design
from vastbench.record.study import check_plan
from vastbench.render.blocks import as_text
from vastbench.render.designed import design_blocks, effort_blocks
from vastbench.render.progress import study_for_stderr
from vastbench.scenarios import find_scenario
from vastbench.settings import default_store
from vastbench.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from vastbench.bench.bench import Bench
    from vastbench.record.conditions import Conditions
    from vastbench.scenarios.drill import Scenario


def run_file(
    file: Path,
    market: Market,
    agree: Callable[[Bench, Scenario, Conditions, int], None],
    *,
    workers: int,
    minutes: float | None,
    as_json: bool,
) -> None:
    """Make the runs that the study of ``file`` lacks, and print what came of it.

    ``agree`` is asked for each condition of a live study before anything is rented: it shows what so many runs cost.
    """
    design = read_design(file)
    check_plan(design.name, workers=workers)
    if market.budget_usd is None and design.budget_usd is not None:
        market = replace(market, budget_usd=design.budget_usd)
    try:
        with market.bench(design) as bench:
            if market.live:
                made = {study.name: len(study.made) for study in bench.open_design()}
                for study, one in zip(design.studies, design.conditions, strict=True):
                    if missing := design.repeats - made[study]:
                        agree(bench, find_scenario(one.scenario), one.conditions, missing)
            with study_for_stderr() as listener:
                studies = run_design(bench, workers=workers, listener=listener, minutes=minutes)
    except Interrupted as stopped:
        stopped.hint = "Every run that ended is stored; the same command goes on with the study."
        raise
    if as_json:
        print_json([study.to_dict() for study in studies])
    else:
        where = f" --store {market.store}" if market.store else ""
        print(as_text(design_blocks(design.name, studies)))
        print(f"\nTable:  vastbench export {design.name}.parquet --study {design.name}{where}")
        print(f"Report: vastbench report --study {studies[0].name}{where}")
    if error := next(filter(None, (study.shortfall() for study in studies)), None):
        raise error


def show_effort(file: Path, market: Market, workers: int) -> None:
    """Print what the study of ``file`` would take; nothing is rented or stored."""
    design = read_design(file)
    check_plan(design.name, workers=workers)
    missing = dict.fromkeys(design.studies, design.repeats) | _missing(design, market)
    drills = [find_scenario(one.scenario) for one in design.conditions]
    like, runs = sample_of(drills[0].name)
    worst = sum(
        missing[study] * drill.worst_case_usd(one.conditions, one.conditions.max_usd_per_hour)
        for study, drill, one in zip(design.studies, drills, design.conditions, strict=True)
    )
    wanted = sum(missing.values())
    rented = sum(
        missing[study] * drill.at_once(one.conditions)
        for study, drill, one in zip(design.studies, drills, design.conditions, strict=True)
    )
    takes = effort(runs, wanted, workers=workers, machines=rented / wanted if wanted else 1.0)
    print(as_text(effort_blocks(design, missing, takes, like=like, worst_usd=worst)))


def _missing(design: Design, market: Market) -> dict[str, int]:
    found = {}
    try:
        with Store.existing(market.store or default_store()) as store:
            for study in store.studies():
                if study.name in design.studies:
                    found[study.name] = max(0, design.repeats - len(study.made))
    except NotFound:
        return {}
    return found
