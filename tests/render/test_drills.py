"""Drills in words: the acceptance table and what drills say of an estimate."""

import re

import pytest

from vastbench.analysis.failover import Check
from vastbench.analysis.measures import Line
from vastbench.io.tables import load
from vastbench.record.acceptance import Criterion, Measure
from vastbench.record.phases import PhaseName
from vastbench.render.sentences import acceptance_table, against_drills, measured_table, quantity, sizes, until_answer

CRITERIA = (
    Criterion("a GPU runs", 600.0, "s", PhaseName.WAIT_RUNNING, PhaseName.WAIT_RUNNING, stretch=120.0),
    Criterion("runs pass", 0.99, "share"),
    Criterion("a run costs", 0.05, "USD"),
    Criterion("restored", 30.0, "s", "restore", "restore"),
)


def test_every_criterion_has_its_limit_its_n_its_interval_and_its_verdict():
    words, _, head, line, *rows = acceptance_table(load(), CRITERIA).splitlines()
    assert words == "**2 of 3 criteria** that could be tested are met."
    assert head.count("|") == line.count("|") == 7
    assert {row.count("|") for row in rows} == {7}
    running, passing, cost, restored = rows
    assert running.startswith("| a GPU runs | ≤ 600.0 s (hoped for: 120.0 s) | ")
    assert running.endswith(" s | **met** |")
    assert passing.startswith("| runs pass | ≥ 99 % | ")
    assert passing.endswith("**not met** |")
    assert "≤ <span>&#36;</span>0.05" in cost
    assert restored == "| restored | ≤ 30.0 s | 0 | – | – | **not tested** |"


@pytest.mark.parametrize(("p", "words"), [(0.4, "Nothing speaks against it"), (0.01, "**The drills contradict the estimate**")])
def test_drills_that_contradict_an_estimate_are_said_to(p, words):
    said = against_drills(Check(n=40, inside=35, low=80.5, high=190.0, p=p))
    assert said.startswith("35 of 40 drills lie in the estimate's 90 % interval, from 80.5 to 190.0 s.")
    assert words in said


def test_the_answer_says_within_how_long_half_came_and_how_many_never_did():
    said = until_answer(load(), PhaseName.WAIT_SSH, "a GPU ran commands")
    assert re.match(
        r"\*\*In half of \d+ drills a GPU ran commands within [\d.]+ s\*\* \(95 % interval .+\)\. \d+ of \d+ drills never came",
        said,
    )
    assert until_answer(load(), "restore", "it was there") == "**No attempted run shows how long it takes until it was there.**"


BOOT = Measure("boot", "s", PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH)


def test_every_quantity_has_its_n_its_interval_and_what_is_known_of_one():
    head, line, boot = measured_table(load(), [BOOT, Measure("restored", "MB", place=("restore", "bytes"))]).splitlines()
    assert {row.count("|") for row in (head, line, boot)} == {7}
    number = r"[\d.]+ s"
    assert re.match(rf"\| boot \| \d+, \d+ never \| {number} \| {number} to {number} \| – \| {number} to", boot)
    assert re.search(rf"each known within {number} \|$", boot)


def test_a_quantity_is_said_with_its_interval_or_without_any_number():
    said, number = quantity(load(), BOOT), r"[\d.]+ s"
    assert re.match(rf"Boot: in half of \d+ runs \*\*{number}\*\* at most \(95 % interval .+\)\. ", said)
    assert re.search(rf"The runs that came to its end took {number} to", said)
    assert re.search(r"\d+ runs? never came to its end\.$", said)
    assert "; in nine of ten " in quantity(load(), Measure("created", "s", PhaseName.CREATE, PhaseName.CREATE))
    assert not re.search(r"\d", quantity(load(), Measure("restored", "MB", place=("restore", "bytes"))))


LINE = "**2.0 s whatever the size, and 50.0 s per GB**"
BETWEEN = " (95 % intervals 1.5 to 2.5 s, and 48.0 to 52.0 s per GB)"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (Line(0, 0), "No run says how large it was: no line through sizes."),
        (Line(20, 1), "The 20 runs are of one size: no line through sizes."),
        (Line(20, 2), "The 20 runs are of 2 sizes: no line through sizes."),
        (Line(5, 3, 2.0, per_gb_s=50.0), f"{LINE}, by the line through 5 runs of 3 sizes."),
        (Line(24, 3, 2.0, 1.5, 2.5, 50.0, 48.0, 52.0), f"{LINE}{BETWEEN}, by the line through 24 runs of 3 sizes."),
    ],
)
def test_a_line_through_sizes_is_said_or_why_there_is_none(line, said):
    assert sizes(line) == said
