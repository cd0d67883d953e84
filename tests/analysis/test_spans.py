"""A span from one phase to another, as one more phase of the tidy frame, and what is asked of it."""

import numpy as np
import pandas as pd
import pytest

from vastbench.analysis.acceptance import acceptance
from vastbench.analysis.durations import durations
from vastbench.analysis.frames import runs_table
from vastbench.analysis.spans import with_span
from vastbench.io.tables import load
from vastbench.record.acceptance import Criterion
from vastbench.record.phases import PhaseName

BOOT = ("s", PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH)


@pytest.fixture(scope="module")
def phases() -> pd.DataFrame:
    return load()


def test_a_span_lies_between_the_edges_of_its_phases(phases):
    rows = with_span(phases, "whole boot", *BOOT[1:])
    spans = rows[rows["phase"] == "whole boot"].set_index("run")
    start = phases[(phases["phase"] == PhaseName.WAIT_RUNNING) & phases["final"]].set_index("run")["start_s"]
    end = phases[(phases["phase"] == PhaseName.WAIT_SSH) & phases["final"]].set_index("run")["end_upper_s"]
    expected = (end - start.reindex(end.index)).dropna()
    assert len(expected) > 250
    assert np.allclose(spans["seconds"].dropna().sort_index(), expected.sort_index())
    seen = spans[spans["seconds"].notna()]
    assert (seen["lower_s"] <= seen["seconds"]).all()
    assert (seen["seconds"] <= seen["upper_s"]).all()


def test_a_run_that_never_came_to_the_end_of_a_span_took_for_ever(phases):
    rows = with_span(phases, "whole boot", *BOOT[1:])
    failed = rows[(rows["phase"] == "whole boot") & rows["seconds"].isna()]
    assert 0 < len(failed) == (~durations(rows, "whole boot").ended).sum()


def test_a_span_changes_nothing_that_adds_up_to_the_total(phases):
    rows = with_span(phases, "whole boot", *BOOT[1:])
    assert len(rows) > len(phases)
    pd.testing.assert_frame_equal(runs_table(rows), runs_table(phases))


def test_the_same_span_twice_is_one(phases):
    once = with_span(phases, "whole boot", *BOOT[1:])
    pd.testing.assert_frame_equal(with_span(once, "whole boot", *BOOT[1:]), once)


@pytest.mark.parametrize(
    ("criterion", "verdict"),
    [
        (Criterion("boot", 600.0, *BOOT), "met"),
        (Criterion("boot", 30.0, *BOOT), "not met"),
        (Criterion("restore", 30.0, "s", "restore", "restore"), "not tested"),
        (Criterion("runs pass", 0.5, "share"), "met"),
        (Criterion("runs pass", 0.999, "share"), "not met"),
        (Criterion("a run costs", 0.5, "USD"), "met"),
        (Criterion("a run costs", 0.0001, "USD"), "not met"),
    ],
)
def test_a_criterion_is_met_when_the_whole_interval_keeps_it(phases, criterion, verdict):
    (row,) = acceptance(phases, [criterion]).to_dict("records")
    assert row["verdict"] == verdict
    if row["n"]:
        assert row["low"] <= row["value"] <= row["high"]


def test_a_limit_inside_the_interval_and_a_single_run_leave_it_open(phases):
    (row,) = acceptance(phases, [Criterion("boot", 100.0, *BOOT)]).to_dict("records")
    between = Criterion("boot", (row["low"] + row["high"]) / 2, *BOOT)
    assert acceptance(phases, [between])["verdict"].tolist() == ["open"]
    alone = phases[phases["run"] == phases["run"].iloc[0]]
    assert acceptance(alone, [Criterion("boot", 600.0, *BOOT)])["verdict"].tolist() == ["open"]
