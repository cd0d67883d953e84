"""The numbers of a report: each in report.md is in report.json, and each there can be computed again from the runs."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vastbench
from vastbench.analysis.artefacts.detector import RULES
from vastbench.analysis.facts import Facts
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.io.prices import prices
from vastbench.render.wording import plain
from vastbench.report.model import report_model
from vastbench.report.page import index_page, markdown_text
from vastbench.report.tables import table

PRICES = prices()
SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
PROSE = {"break_even", "verdict", "text", "sentence", "problems", "resampled", "machines", "consequence"}
"""Strings of the model that are sentences; all others are names and dates."""


NEVER = 1e9
"""Seconds that stand for an end that does not come."""


def model_of(phases, **known):
    known = {"study": None, "asked": None, "problems": []} | known
    made = datetime(2026, 11, 23, tzinfo=UTC).isoformat()
    return report_model(Facts(phases), PRICES, made_at=made, version="0.1.0", **known)


@pytest.fixture(scope="module")
def sample():
    """A hundred runs of the bundled data, failures among them."""
    phases = vastbench.load()
    return phases[phases["run"].isin(phases["run"].unique()[:100])].reset_index(drop=True)


@pytest.fixture(scope="module")
def model(sample):
    return json.loads(json.dumps(model_of(sample), allow_nan=False))


def leaves(value, name=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, name)
    else:
        yield name, value


def shown(number):
    """Every way in which the report writes a number: as it is, rounded, in percent."""
    return {text.lstrip("-") for text in (f"{number}", f"{number:g}", f"{number:.1f}", f"{number:.2f}", f"{number:.4f}")} | {
        f"{abs(100 * number):.1f}",
        f"{abs(100 * number):g}",
        f"{abs(100 * number):.0f}",
    }


def unfounded(model, text):
    """The numbers in ``text`` that are not in the model, names and dates of the model left out."""
    known = {"0.0001", *(form for _, n in leaves(model) if type(n) in (int, float) for form in shown(n))}
    names = {value for name, value in leaves(model) if isinstance(value, str) and name not in PROSE and len(value) > 3}
    names |= {date.replace("T", " ")[:16] for date in names}
    bare = plain(text)
    for word in sorted(names, key=len, reverse=True):
        bare = bare.replace(word, "")
    # The published report of that date is named, and p95 names a quantile.
    bare = bare.replace("2026-01-02", "").replace("p95", "")
    return [number for number in re.findall(r"\d+(?:\.\d+)?", bare) if number not in known]


def test_every_number_of_the_text_is_in_the_data(model):
    text = markdown_text(model)
    assert len(re.findall(r"\d+\.\d+", text)) > 200
    assert unfounded(model, text) == []


def test_a_number_from_nowhere_is_noticed(model):
    assert unfounded(model, markdown_text(model) + "\nIt took 31337.5 s.\n") == ["31337.5"]


def test_an_interval_that_nothing_bounds_says_above():
    row = {"quantity": "wait running", "n": 9, "ended": 9, "unnamed": 9, "machines": 9, "bounds_s": 1.0}
    row |= dict.fromkeys(("never_rate", "never_low_rate", "never_high_rate", "design_effect", "effective_n"), 0.5)
    row |= {"median_s": 80.0, "median_low_s": 70.0, "median_high_s": None, "p90_s": None, "p90_low_s": None, "p90_high_s": None}
    cells = dict(zip(table("certainty", [row]).head, table("certainty", [row]).rows[0], strict=False))
    assert table("certainty", [row]).rows[0][5] == "> 70.00"
    assert cells["p90 s"] == "–"
    assert cells["machines"] == "not named"


def test_the_detector_runs_over_the_runs_of_a_report(sample):
    made = sample.copy()
    waits = made["phase"] == "wait running"
    made.loc[waits, "seconds"] = (made.loc[waits, "seconds"] / 10).round() * 10
    made.loc[waits, ["lower_s", "upper_s"]] = float("nan")
    found = [
        one for one in model_of(made)["artefacts"]["found"] if one["evidence"].get("step_s") == pytest.approx(10, rel=0.01)
    ]
    assert [one["rule"] for one in found] == ["lattice"]
    assert "Wait running" in markdown_text(model_of(made))
    assert any(finding["rule"] == "measured" for finding in model_of(made)["findings"])


def test_it_names_the_effective_n_and_the_rules_that_do_not_apply(model):
    useful = model["certainty"][0]
    text = plain(markdown_text(model))
    assert f"tell as much as {useful['effective_n']:.1f} independent ones" in text
    assert f"design effect {useful['design_effect']:.1f}" in text
    assert model["artefacts"]["rules"] + len(model["artefacts"]["not_applicable"]) == len(RULES)
    assert "Not applied: rate above the link (no column bytes)" in text


def test_every_number_of_a_finding_is_among_its_figures(model):
    for finding in model["findings"]:
        own = {"figures": finding["figures"], "rates": [0.95, 0.9]}
        assert unfounded(own, finding["text"]) == [], finding["rule"]


def ended(runs):
    return runs[~runs["cause"].isin(["interrupted", "killed", "budget"])]


def kaplan_meier_quantile(ended, least, p):
    """The ``p``-quantile of what ended and what took at ``least`` so long, by scipy's Kaplan-Meier curve."""
    curve = stats.ecdf(stats.CensoredData(uncensored=ended, right=least)).sf
    times = curve.quantiles
    there = times[curve.probabilities <= 1 - p + 1e-9][0]
    after = times[curve.probabilities < 1 - p - 1e-9][0]
    return (there + after) / 2


def approximately(value):
    return None if value is None or math.isnan(value) else pytest.approx(value, rel=1e-9, abs=1e-12)


def test_the_phases_can_be_computed_again(sample, model):
    final = ended(sample)[lambda f: f["final"]]
    for row in model["phases"]:
        rows = final[final["phase"] == row["phase"]]
        seconds = rows.loc[(rows["outcome"] == "passed") & rows["seconds"].notna(), "seconds"].to_numpy()
        assert row["n"] == len(seconds)
        assert row["unfinished"] == (rows["outcome"] != "passed").sum()
        # A try that failed never ends, one that was cut off would have ended later than the least that it took.
        failed = np.full((rows["outcome"] == "failed").sum(), NEVER)
        least = rows.loc[rows["outcome"] == "censored", "lower_s"].fillna(rows["seconds"])
        tries = np.concatenate([seconds, failed, least])
        assert row["median_s"] == approximately(kaplan_meier_quantile(np.concatenate([seconds, failed]), least, 0.5))
        assert row["mean_s"] == approximately(seconds.mean())
        assert (row["min_s"], row["max_s"]) == (seconds.min(), seconds.max())
        # The interval's levels are about 1/2 ± 0.98/√n; wider for repeats on a machine, whose effective n is lower.
        near, far = 0.6 / math.sqrt(len(tries)), 1.4 / math.sqrt(row["effective_n"])
        assert np.quantile(tries, 0.5 - far) <= row["median_low_s"] <= np.quantile(tries, 0.5 - near) <= row["median_s"]
        assert row["median_s"] <= np.quantile(tries, 0.5 + near) <= row["median_high_s"] <= np.quantile(tries, 0.5 + far)
        if row["p90_s"] is not None:
            assert row["p90_s"] == approximately(kaplan_meier_quantile(np.concatenate([seconds, failed]), least, 0.9))


def independent(rows, hit):
    """How many independent runs tell the share of ``hit`` as well: its variance between machines over that of such runs."""
    n, sizes, share = len(rows), rows["machine"].value_counts(), hit.mean()
    of_machines = (hit - share).groupby(rows["machine"]).sum()
    variance = len(sizes) / (len(sizes) - 1) * (of_machines**2).sum()
    known = stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, n**2 / (sizes**2).sum() - 1)
    return n / max(1, variance / (n * share * (1 - share))) * known**2


def of_rate(rows, hit):
    """The same of a rate, to which a machine counts once as far as too few had the rarer outcome to show how alike runs are."""
    sizes, met = rows["machine"].value_counts(), rows["machine"][hit if hit.mean() <= 0.5 else ~hit].nunique()
    whole, once = independent(rows, hit), len(rows) ** 2 / (sizes**2).sum()
    return min(whole, (1 + met**2) / (met**2 / whole + 1 / once))


def test_what_is_certain_can_be_computed_again(sample, model):
    rows = {row["quantity"]: row for row in model["certainty"]}
    wait = ended(sample)[lambda f: f["final"] & (f["phase"] == "wait running")]
    good = wait[wait["outcome"] == "passed"]
    row = rows["wait running"]
    assert (row["n"], row["ended"]) == (len(wait), len(good))
    k, n = len(wait) - len(good), len(wait)
    assert row["never_rate"] == approximately(k / n)
    never = of_rate(wait, wait["outcome"] != "passed")
    assert row["never_high_rate"] == approximately(stats.beta.isf(0.025, k / n * never + 1, (1 - k / n) * never))
    assert row["bounds_s"] == approximately((good["upper_s"] - good["lower_s"]).median())
    assert (row["machines"], row["unnamed"]) == (good["machine"].nunique(), good["machine"].isna().sum())
    assert row["largest_share"] == approximately(good["machine"].value_counts().iloc[0] / len(good))
    effective = independent(wait, (wait["outcome"] == "passed") & (wait["seconds"] <= row["median_s"]))
    assert row["effective_n"] == approximately(effective)
    assert row["design_effect"] == approximately(n / effective)
    upper = np.concatenate([good["upper_s"], np.full(k, np.inf)])
    lower = np.concatenate([good["lower_s"], np.full(k, np.inf)])
    assert np.median(lower) <= row["median_s"] <= np.median(upper)
    assert row["median_low_s"] < row["median_s"] < row["median_high_s"]
    assert rows["time to ready"]["ended"] == model["counts"]["passed"]


def test_counts_and_rates_can_be_computed_again(sample, model):
    runs = ended(sample[sample["phase"] == "total"])
    good = int((runs["run_outcome"] == "passed").sum())
    assert model["counts"] == {
        "runs": 100,
        "asked": None,
        "attempted": len(runs),
        "passed": good,
        "stopped_by_us": 100 - len(runs),
    }
    for row in model["outcomes"]:
        k = int(((runs["run_outcome"] == row["outcome"]) & (runs["cause"] == row["cause"])).sum())
        assert (row["runs"], row["rate"]) == (k, approximately(k / len(runs)))
        n = of_rate(runs, (runs["run_outcome"] == row["outcome"]) & (runs["cause"] == row["cause"]))
        k = k / len(runs) * n
        assert row["rate_low"] == approximately(stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0)
        assert row["rate_high"] == approximately(stats.beta.isf(0.025, k + 1, n - k) if k < n else 1.0)
    assert model["failed"]["runs"] == len(runs) - good
    assert model["failed"]["low_rate"] == approximately(1 - model["outcomes"][0]["rate_high"])


def parts(sample):
    """Seconds by passed run and part: the last tries of the top-level phases, earlier tries, the rest."""
    top = sample[(sample["run_outcome"] == "passed") & (sample["parent"] == "total")]
    named = top.assign(part=top["phase"].where(top["final"], "retries"))
    return named.pivot_table(index="run", columns="part", values="seconds", aggfunc="sum").fillna(0.0)


def test_shares_and_savings_can_be_computed_again(sample, model):
    seconds = parts(sample)
    total = seconds.sum(axis=1)
    for row in model["shares"]:
        part = seconds.get(row["phase"], 0.0 * total)
        assert row["mean_share"] == approximately(part.mean() / total.mean())
        assert row["variance_share"] == approximately(np.cov(part, total)[0, 1] / total.var())
    for row in model["what_if"]:
        part = seconds.get(row["phase"], 0.0 * total)
        then = np.median(total - (1 - row["factor"]) * part)
        assert row["median_total_s"] == pytest.approx(then)
        assert row["saved_s"] == pytest.approx(np.median(total) - then)


def test_costs_can_be_computed_again(sample, model):
    runs = ended(sample[sample["phase"] == "total"])
    columns = {"gpu": "gpu_usd", "storage": "storage_usd", "transfer": "transfer_usd", "naive": "naive_usd"}
    for row in model["costs"]:
        if row["meter"] in columns:
            usd = runs[columns[row["meter"]]].dropna()
            assert row["n"] == len(usd)
            assert row["total_usd"] == approximately(usd.sum())
            assert row["per_run_usd"] == approximately(usd.mean())
            assert row["per_success_usd"] == approximately(usd.sum() / model["counts"]["passed"])
    meters = {row["meter"]: row["total_usd"] for row in model["costs"]}
    assert meters["all meters"] == approximately(meters["gpu"] + meters["storage"] + meters["transfer"])
    assert model["cost_per_run"]["median_usd"] == approximately(runs["cost_usd"].median())


def test_the_comparison_can_be_computed_again(sample, model):
    runs = sample[sample["phase"] == "total"]
    ours, *others = model["providers"]["shown"]
    assert ours["ours"]
    assert ours["usd_per_hour"] == approximately(runs["usd_per_hour"].median())
    for row in others:
        listed = PRICES[(PRICES["instance_type"] == row["instance_type"]) & (PRICES["region"] == row["region"])]
        assert row["usd_per_hour"] in set(listed["price_usd_per_hour"])
        assert row["ratio_per_hour"] == approximately(row["usd_per_hour"] / ours["usd_per_hour"])
        assert row["usd_per_gb_hour"] == approximately(row["usd_per_hour"] / row["gpu_count"] / row["gpu_memory_gb"])
    assert {("AWS", "g5.xlarge"), ("GCP", "a2-highgpu-1g")} <= {(row["provider"], row["instance_type"]) for row in others}
    assert [row["ratio"] for row in model["providers"]["seed_ratios"]] == [approximately(a / b) for a, b in RATIOS]


RATIOS = ((1.006, 0.1689), (3.67339, 0.1689), (3.67339, 1.006))


def test_the_median_run_is_the_one_nearest_the_median(sample, model):
    totals = sample[(sample["phase"] == "total") & (sample["run_outcome"] == "passed")].set_index("run")["seconds"]
    found = model["median_run"]
    assert found["median_total_s"] == approximately(totals.median())
    assert abs(found["total_s"] - totals.median()) == approximately((totals - totals.median()).abs().min())
    top = [row["seconds"] for row in found["tree"] if row["depth"] == 0]
    assert sum(top) == pytest.approx(found["total_s"])


def test_a_cost_that_is_not_known_of_every_run_is_a_least_one(model):
    row = {"meter": "gpu", "n": 3, "attempted": 4, "total_usd": 0.01, "per_success_usd": 0.005}
    (least,) = table("costs", [row]).rows
    (exact,) = table("costs", [row | {"n": 4}]).rows
    (none,) = table("costs", [row | {"per_success_usd": None}]).rows
    assert (least[2], least[5]) == ("at least 0.0100", "at least 0.0050")
    assert (exact[2], exact[5], none[5]) == ("0.0100", "0.0050", "–")
    assert all(row["attempted"] == model["counts"]["attempted"] for row in model["costs"])


def test_a_fresh_boot_is_known_and_the_rest_of_a_failover_has_no_figure(sample, model):
    ready = sample[(sample["phase"] == "wait SSH") & sample["final"] & (sample["run_outcome"] == "passed")]["end_upper_s"]
    # No machine is fresh for those that never came, and those that were cut off had waited longer than half of the others.
    vain = np.full(model["counts"]["attempted"] - len(ready), np.inf)
    assert model["failover"]["fresh_boot"]["median_s"] == approximately(np.median([*ready, *vain]))
    assert all(isinstance(words, str) for words in model["failover"]["not_measured"])


def test_emulated_runs_are_called_so_from_the_first_lines(model):
    assert model["emulated"]
    assert "EMULATED" in model["verdict"]
    assert "EMULATED" in markdown_text(model).splitlines()[2]
    assert markdown_text(model).partition("## ")[0].count("EMULATED") == 1
    assert "EMULATED" not in markdown_text(model_of(phases_table([SEED])))


@pytest.mark.parametrize(("pending", "said"), [(0, ""), (1, "1 notification is"), (3, "3 notifications are")])
def test_notifications_that_are_pending_are_named_and_none_are_not(pending, said, tmp_path):
    model = model_of(phases_table([SEED]), pending=pending)
    assert model["pending"] == pending
    for text in (markdown_text(model), index_page(model, tmp_path)):
        assert text.count("vastbench webhooks deliveries") == bool(pending)
        assert not said or f"{said} pending" in text


def test_without_runs_there_is_no_number_at_all():
    model = model_of(phases_table([]), study="idle", asked=12)
    figures = {name: value for name, value in leaves(model) if type(value) in (int, float) and value}
    assert figures == {"schema": 6, "asked": 12, "confidence_rate": 0.95, "tail_rate": 0.9, "frame_schema": 5}
    assert model["conclusion"] == "incomplete"
    assert model["findings"] == []
    assert "There is no run" in markdown_text(model)


def test_without_success_no_duration_of_a_whole_run_is_claimed(sample):
    model = model_of(sample[sample["run_outcome"] != "passed"])
    assert model["conclusion"] == "none passed"
    assert model["median_run"] is None
    assert (model["shares"], model["what_if"], model["trend"]) == ([], [], [])
    assert model["failover"]["fresh_boot"]["median_s"] is None
    assert all(row["per_success_usd"] is None for row in model["costs"])
    assert unfounded(model, markdown_text(model)) == []


def test_a_single_run_has_its_numbers_and_no_interval():
    model = model_of(phases_table([SEED]))
    assert model["conclusion"] == "passed"
    assert {row["median_low_s"] for row in model["phases"]} == {None}
    assert next(row for row in model["phases"] if row["phase"] == "total")["median_s"] == pytest.approx(98.98)
    assert [f["rule"] for f in model["findings"] if f["rule"] == "few"] == ["few"]
    assert unfounded(model, markdown_text(model)) == []


def test_runs_that_we_ended_are_no_attempts(sample):
    dead = replace(SEED, id="k", source="emulator", phases=(), total_s=None, outcome="censored", cause="killed", instrument={})
    killed = phases_table([dead])
    model = model_of(pd.concat([sample, killed], ignore_index=True))
    assert (model["counts"]["attempted"], model["counts"]["stopped_by_us"]) == (100, 1)


def test_fewer_runs_than_asked_are_incomplete_before_anything_else(sample):
    assert model_of(sample, asked=101)["conclusion"] == "incomplete"
    assert model_of(sample, asked=100)["conclusion"] == "passed"


def test_what_the_account_charged_is_said_where_somebody_asked(sample, model, tmp_path):
    assert model["charges"] is None
    asked = sample.assign(charge="agrees", charged_usd=sample["cost_usd"], charged_rounding_usd=0.0001)
    billed = model_of(asked)
    assert billed["charges"].startswith("The charges of **100 of 100 runs** lie within")
    for text in (markdown_text(billed), index_page(billed, tmp_path)):
        assert "100 of 100 runs" in plain(text)
    assert "The charges of" not in markdown_text(model)
