"""Charges beside the meters, in words: what has not come is said to be late, and no residual is shown for it."""

import re
from dataclasses import replace

import pytest

from tests.analysis.test_cost import charged, spent
from vastbench.analysis.cost import reconciliation
from vastbench.analysis.frames import phases_table
from vastbench.record.cost import Bill
from vastbench.render import sentences
from vastbench.render.reconciled import NOBODY_ASKED

LATE = replace(spent(3, 1.0), bill=Bill(match="late"))
THREE = phases_table([charged(1, "agrees", 1.375), charged(2, "differs", 3.375, gpu=2.0), LATE])


def lines(phases):
    return str(reconciliation(phases, "a test")).splitlines()


def test_each_run_has_its_residuals_by_meter():
    shown = [re.sub(r" +", " ", line) for line in lines(THREE) if line.startswith("run-")]
    assert shown == [
        "run-1 agrees $1.3750 $1.3750 +$0.0000 +$0.0000 +$0.0000 +$0.0000",
        "run-2 differs by more than rounding $2.3750 $3.3750 +$1.0000 +$0.0000 +$0.0000 +$1.0000",
        "run-3 late: not all of it has come $1.3750 – – – – –",
    ]


def test_the_sums_are_of_what_has_come_and_the_counts_of_all():
    text = "\n".join(lines(THREE))
    assert "Of 3 runs that the account was asked about: agrees: 1, differs: 1, late: 1." in text
    assert "the account was charged $4.7500 (rounded: ± $0.0010 at most), our meters say $3.7500." in text
    assert "Late and missing rows are normal" in text


def test_where_nobody_asked_it_says_how():
    assert lines(phases_table([spent(1, 1.0)])) == [NOBODY_ASKED]


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        (THREE, "The charges of **1 of 3 runs** lie within the bounds of the meters"),
        (THREE, "(differs: 1, late: 1). In sum the account charged 4.7500 USD, to within 0.0010 USD, where the meters say"),
        (phases_table([LATE]), "(late: 1)."),
        (phases_table([]), "Nobody asked for the account's charges"),
    ],
)
def test_a_notebook_says_how_many_agree(phases, said):
    assert said in sentences.charges(phases)
    assert "nan" not in sentences.charges(phases)
