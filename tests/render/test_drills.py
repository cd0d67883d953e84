"""Drills in words: the acceptance table and what drills say of an estimate."""

import re

import pytest

from vastbench.analysis.failover import Check
from vastbench.io.tables import load
from vastbench.record.acceptance import Criterion
from vastbench.record.phases import PhaseName
from vastbench.render.sentences import acceptance_table, against_drills, until_answer

CRITERIA = (
    Criterion("a GPU runs", 600.0, "s", PhaseName.WAIT_RUNNING, PhaseName.WAIT_RUNNING, stretch=120.0),
    Criterion("runs pass", 0.99, "share"),
    Criterion("a run costs", 0.05, "USD"),
    Criterion("restored", 30.0, "s", "restore", "restore"),
)


def test_every_criterion_has_its_limit_its_n_its_interval_and_its_verdict():
    words, _, head, line, *rows = acceptance_table(load(), CRITERIA).splitlines()
    assert words == "**2 of the 3 criteria** that could be tested are met."
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
        r"\*\*In half of \d+ drills a GPU ran commands within [\d.]+ s\*\* \(95 % interval .+\)\. In \d+ of \d+ it", said
    )
    assert until_answer(load(), "restore", "it was there") == "**No attempted run shows how long it takes until it was there.**"
