"""Shares that add up, and savings that are recomputed run by run."""

import math
import random
import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests.analysis.made import CENSORED, FAILED, TOP_LEVEL, made
from vastbench.analysis.bottleneck import SHARE_COLUMNS, WHAT_IF_COLUMNS, shares, what_if
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.phases import PhaseName

SEARCH, CREATE, RUNNING, SSH = PhaseName.SEARCH, PhaseName.CREATE, PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH
RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")

SECONDS = st.floats(0, 1e4)
ANY_RUN = st.tuples(st.dictionaries(st.sampled_from(TOP_LEVEL), SECONDS, min_size=1), SECONDS, st.none() | SECONDS)


def study(n: int = 30, seed: int = 4):
    """Runs whose waits differ much and a little, some with a retry; and their parts as plain lists."""
    rng = random.Random(seed)
    rows = [
        (rng.lognormvariate(4, 0.5), rng.lognormvariate(2, 1), rng.uniform(0, 3), rng.choice([0.0, 0.0, 5.0])) for _ in range(n)
    ]
    runs = [
        made(i, {RUNNING: running, SSH: ssh}, rest=rest, earlier={RUNNING: retry} if retry else None)
        for i, (running, ssh, rest, retry) in enumerate(rows)
    ]
    running, ssh, rest, retry = map(list, zip(*rows, strict=True))
    return phases_table(runs), {"wait running": running, "wait SSH": ssh, "retries": retry, "unattributed": rest}


def totals(parts: dict[str, list[float]]) -> list[float]:
    return [sum(run) for run in zip(*parts.values(), strict=True)]


@settings(deadline=None)
@given(st.lists(ANY_RUN, min_size=1, max_size=25))
def test_both_shares_add_up_to_1_whatever_the_runs(drawn):
    runs = [
        made(i, seconds, rest=rest, earlier=None if retry is None else {SEARCH: retry})
        for i, (seconds, rest, retry) in enumerate(drawn)
    ]
    found = shares(phases_table(runs))
    all_totals = [run.total_s for run in runs]
    assert found["mean_s"].sum() == pytest.approx(statistics.fmean(all_totals), abs=1e-6)
    for column, fewest in {"mean_share": 1, "variance_share": 3, "variance_share_trimmed": 20}.items():
        if found[column].notna().any():
            assert len(runs) >= fewest
            assert found[column].sum() == pytest.approx(1, abs=1e-5)
        else:
            kept = [t for t in all_totals if t <= np.quantile(all_totals, 0.95)] if fewest == 20 else all_totals
            assert len(runs) < fewest or max(kept) - min(kept) <= 1e-8 * max(kept), column


def test_shares_are_the_means_and_covariances_of_the_textbook():
    phases, parts = study()
    found = shares(phases).set_index("phase")
    total = totals(parts)
    assert found.index.tolist() == list(parts)
    for name, seconds in parts.items():
        row = found.loc[name]
        assert row["n"] == 30
        assert row["mean_s"] == pytest.approx(statistics.fmean(seconds))
        assert row["mean_share"] == pytest.approx(statistics.fmean(seconds) / statistics.fmean(total))
        assert row["variance_share"] == pytest.approx(statistics.covariance(seconds, total) / statistics.variance(total))
        assert row["spearman"] == pytest.approx(spearmanr(seconds, total).statistic)
        kept = [
            (s, t)
            for s, t in zip(seconds, total, strict=True)
            if t <= statistics.quantiles(total, n=20, method="inclusive")[-1]
        ]
        few, rest = zip(*kept, strict=True)
        assert len(kept) == 28
        assert row["variance_share_trimmed"] == pytest.approx(statistics.covariance(few, rest) / statistics.variance(rest))


def test_the_seed_run_waits_for_running_three_quarters_of_its_time():
    found = shares(phases_table([RUN])).set_index("phase")
    assert found.loc["wait running", "mean_share"] == pytest.approx(0.735, abs=5e-4)
    assert found.loc["wait SSH", "mean_share"] == pytest.approx(0.125, abs=5e-4)
    assert found.loc["unattributed", "mean_s"] == pytest.approx(4.21)


def test_one_run_has_shares_of_its_mean_and_none_of_a_variance():
    found = shares(phases_table([RUN]))
    assert found["mean_share"].sum() == pytest.approx(1)
    assert found[["variance_share", "variance_share_trimmed", "spearman"]].isna().all(axis=None)


def test_two_runs_have_no_variance_to_share_either():
    assert shares(study(2)[0])["variance_share"].isna().all()
    assert shares(study(3)[0])["variance_share"].sum() == pytest.approx(1)


def test_runs_that_all_take_equally_long_have_no_variance_to_share():
    found = shares(phases_table([made(i, {RUNNING: 10.0 + i, SSH: 20.1 - i}) for i in range(20)]))
    assert found["mean_share"].sum() == pytest.approx(1)
    assert found[["variance_share", "variance_share_trimmed"]].isna().all(axis=None)


def test_a_phase_that_does_not_vary_has_no_correlation():
    found = shares(phases_table([made(i, {SEARCH: 1.0, RUNNING: 10.0 + i}) for i in range(5)])).set_index("phase")
    assert math.isnan(found.loc["search offers", "spearman"])
    assert found.loc["wait running", "spearman"] == pytest.approx(1)
    assert found.loc["wait running", "variance_share"] == pytest.approx(1)


def test_a_phase_that_is_shorter_in_long_runs_has_a_negative_share():
    found = shares(phases_table([made(i, {SEARCH: 5.0 - i, RUNNING: 10.0 + 3 * i}) for i in range(5)])).set_index("phase")
    assert found["variance_share"].to_dict() == pytest.approx(
        {"search offers": -0.5, "wait running": 1.5, "retries": 0.0, "unattributed": 0.0}
    )


def test_one_slow_run_does_not_decide_the_trimmed_share():
    ordinary = [made(i, {RUNNING: 60.0 + i, SSH: 10.0}) for i in range(19)]
    found = shares(phases_table([*ordinary, made(19, {RUNNING: 60.0, SSH: 3000.0})])).set_index("phase")
    assert found.loc["wait SSH", "variance_share"] > 0.99
    assert found.loc["wait SSH", "variance_share_trimmed"] == pytest.approx(0)
    assert found.loc["wait running", "variance_share_trimmed"] == pytest.approx(1)


def test_below_20_runs_nothing_is_trimmed():
    assert shares(study(19)[0])["variance_share_trimmed"].isna().all()
    assert shares(study(20)[0])["variance_share_trimmed"].sum() == pytest.approx(1)


def test_only_runs_that_passed_and_add_up_are_counted():
    passed = made(1, {RUNNING: 50.0}, rest=1.0)
    failed = made(2, {RUNNING: 500.0}, rest=1.0, outcome=FAILED, cause="check_failed")
    stopped = made(3, {SEARCH: 1.0}, stopped=RUNNING, outcome=CENSORED, cause="deadline")
    phases = phases_table([passed, failed, stopped])
    assert shares(phases).set_index("phase")["mean_s"].to_dict() == {"wait running": 50.0, "retries": 0.0, "unattributed": 1.0}
    assert set(what_if(phases)["n"]) == {1}


def test_a_passed_run_without_a_total_is_left_out_of_the_shares():
    untimed = replace(made(2, {RUNNING: 500.0}), total_s=None)
    assert shares(phases_table([made(1, {RUNNING: 50.0}), untimed]))["n"].tolist() == [1, 1, 1]


def test_a_phase_that_some_runs_lack_took_none_of_their_time():
    found = shares(phases_table([made(1, {RUNNING: 40.0}), made(2, {RUNNING: 40.0, SSH: 20.0})])).set_index("phase")
    assert found.loc["wait SSH", ["n", "mean_s"]].tolist() == [2, 10.0]
    assert found.loc["wait SSH", "mean_share"] == pytest.approx(0.2)


def test_what_if_recomputes_every_run_s_total():
    phases, parts = study()
    total = totals(parts)
    found = what_if(phases, resamples=50)
    assert found[["phase", "factor"]].values.tolist() == [[name, factor] for name in parts for factor in (0.0, 0.5)]
    for row in found.itertuples():
        changed = [t - s + row.factor * s for t, s in zip(total, parts[row.phase], strict=True)]
        assert row.n == 30
        assert row.median_total_s == pytest.approx(statistics.median(changed))
        assert row.saved_s == pytest.approx(statistics.median(total) - statistics.median(changed))


def test_what_is_saved_is_not_the_phase_s_own_median():
    """Without the wait for SSH the median total falls from 100 to 91 s, by 9; that wait's median is 5 s."""
    runs = [made(1, {RUNNING: 95.0, SSH: 5.0}), made(2, {RUNNING: 91.0, SSH: 5.0}), made(3, {RUNNING: 91.0, SSH: 9.0})]
    row = what_if(phases_table(runs)).set_index(["phase", "factor"]).loc[("wait SSH", 0.0)]
    assert (row["median_total_s"], row["saved_s"]) == (91.0, 9.0)


def test_the_interval_is_that_of_a_bootstrap_of_whole_runs():
    phases, parts = study(61)
    found = what_if(phases, resamples=10_000).set_index(["phase", "factor"]).loc[("wait running", 0.5)]
    total, changed = totals(parts), totals(parts | {"wait running": [s / 2 for s in parts["wait running"]]})
    drawn = np.random.default_rng(9).integers(61, size=(10_000, 61))
    saved = np.sort(np.array(total)[drawn])[:, 30] - np.sort(np.array(changed)[drawn])[:, 30]
    low, high = np.quantile(saved, [0.025, 0.975])
    assert found["saved_low_s"] < found["saved_s"] < found["saved_high_s"]
    assert found["saved_low_s"] == pytest.approx(low, abs=0.03 * (high - low))
    assert found["saved_high_s"] == pytest.approx(high, abs=0.03 * (high - low))


def test_a_phase_that_always_takes_10_s_saves_exactly_that():
    rng = random.Random(1)
    phases = phases_table([made(i, {RUNNING: rng.uniform(50, 90), SSH: 10.0}) for i in range(8)])
    row = what_if(phases).set_index(["phase", "factor"]).loc[("wait SSH", 0.0)]
    assert row[["saved_s", "saved_low_s", "saved_high_s"]].tolist() == pytest.approx([10.0, 10.0, 10.0])


def test_half_a_phase_saves_half_of_what_is_certain():
    phases = phases_table([made(i, {RUNNING: 60.0 + i, SSH: 10.0}) for i in range(6)])
    assert what_if(phases).set_index(["phase", "factor"]).loc[("wait SSH", 0.5), "saved_high_s"] == pytest.approx(5.0)


@pytest.mark.parametrize(("n", "exists"), [(1, False), (5, False), (6, True)])
def test_below_6_runs_a_saving_has_no_interval(n, exists):
    found = what_if(study(n)[0], resamples=50)
    assert found["saved_s"].notna().all()
    for column in ("saved_low_s", "saved_high_s"):
        assert found[column].notna().tolist() == [exists] * len(found)


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    phases, _ = study()
    pd.testing.assert_frame_equal(what_if(phases, resamples=100), what_if(phases, resamples=100))
    assert not what_if(phases, resamples=100).equals(what_if(phases, resamples=100, seed=2))


@pytest.mark.parametrize("runs", [[], [made(1, {SEARCH: 1.0}, stopped=RUNNING, outcome=CENSORED, cause="deadline")]])
def test_without_a_run_that_passed_there_is_no_row(runs):
    for found, columns in ((shares(phases_table(runs)), SHARE_COLUMNS), (what_if(phases_table(runs)), WHAT_IF_COLUMNS)):
        assert found.empty
        assert {name: str(dtype) for name, dtype in found.dtypes.items()} == columns


def test_runs_that_took_no_time_have_no_shares():
    found = shares(phases_table([made(i, {SEARCH: 0.0}) for i in range(3)]))
    assert found["mean_s"].tolist() == [0, 0, 0]
    assert found[["mean_share", "variance_share"]].isna().all(axis=None)


def test_where_machines_repeat_they_are_drawn_whole():
    rng = np.random.default_rng(2)
    slow = rng.normal(0, 30, 8)
    runs = [made(i, {RUNNING: 200 + slow[i % 8] + rng.normal(0, 1), SSH: 10.0}) for i in range(80)]
    phases = phases_table(runs)
    alone = what_if(phases).set_index(["phase", "factor"]).loc[("wait running", 0.0)]
    machines = phases.assign(machine=phases["run"].str.removeprefix("run-").astype("int64") % 8)
    drawn = what_if(machines).set_index(["phase", "factor"]).loc[("wait running", 0.0)]
    assert drawn["saved_s"] == alone["saved_s"]
    assert drawn["saved_low_s"] < alone["saved_low_s"]
    assert drawn["saved_high_s"] > alone["saved_high_s"]
    few = what_if(phases.assign(machine=machines["machine"] % 5))
    assert few["saved_low_s"].isna().all()


def test_of_many_runs_the_interval_is_that_of_all_of_them():
    """The median of n normal values has a standard error of 1.2533 σ ÷ √n; the phase left is a constant."""
    rng = np.random.default_rng(3)
    phases = phases_table([made(i, {RUNNING: seconds, SSH: 10.0}) for i, seconds in enumerate(rng.normal(200, 20, 4000))])
    row = what_if(phases, resamples=500).set_index(["phase", "factor"]).loc[("wait running", 0.0)]
    width = row["saved_high_s"] - row["saved_low_s"]
    assert row["saved_low_s"] < row["saved_s"] < row["saved_high_s"]
    assert width == pytest.approx(2 * 1.96 * 1.2533 * 20 / math.sqrt(4000), rel=0.25)
