"""Words of a status column: known ones are read in any case, unknown ones are asked about, invalid rows do not count."""

import pandas as pd
import pytest

import vastbench
from vastbench.analysis.artefacts.detector import RULES
from vastbench.errors import SettingsError

BOOTS = [61.37, 64.02, 70.91, 71.48, 75.66, 79.13, 84.29, 88.05, 93.71, 118.44]


def table(**columns):
    return pd.DataFrame({"boot_s": BOOTS, **columns})


def ends(**columns):
    """The outcome of each row as it is read."""
    return vastbench.check(table(**columns)).tables[0].timings["outcome"].tolist()


@pytest.mark.parametrize("word", ["COMPLETED", "Succeeded", "success", "ok", "PASSED", "true", "Complete"])
@pytest.mark.parametrize("column", ["status", "outcome", "success"])
def test_known_words_of_success_are_read_in_any_case(column, word):
    assert ends(**{column: [word] * 9 + [None]}) == ["passed"] * 9 + [None]


@pytest.mark.parametrize(
    ("column", "words", "ended"),
    [
        ("status", ["FAILED", "Error", "failure", "TIMED_OUT", "Timed out", "cancelled"], ["failed"] * 3 + ["censored"] * 3),
        ("success", [1, 0, "1", "0", True, False], ["passed", "failed"] * 3),
        ("ok", [1.0, 0.0, None, "yes", "no", "y"], ["passed", "failed", None, "passed", "failed", "passed"]),
        ("exit_code", [0, 1, "0", -9, None, 137], ["passed", "failed", "passed", "failed", None, "failed"]),
        (
            "conclusion",
            ["success", "failure", "", "timeout", "n/a", "ok"],
            ["passed", "failed", None, "censored", None, "passed"],
        ),
    ],
)
def test_each_kind_of_column_has_words_of_its_own(column, words, ended):
    assert ends(**{column: words + [None] * 4}) == ended + [None] * 4


def test_an_unknown_word_is_asked_about_with_rows_and_command():
    with pytest.raises(SettingsError) as asked:
        vastbench.check(table(status=["DONE-OK"] * 6 + ["ABENDED"] * 3 + ["failed"]))
    assert "'status'" in asked.value.message
    assert "'DONE-OK' (6 rows), 'ABENDED' (3 rows), 'failed' (1 row)" in asked.value.message
    assert "vastbench check 'the frame' --passed DONE-OK`" in asked.value.hint
    assert "passed=" in str(asked.value)


def test_a_bare_1_in_a_status_is_asked_about_as_it_may_mean_either():
    with pytest.raises(SettingsError, match="'0'"):
        vastbench.check(table(status=[0] * 9 + [1]))
    assert vastbench.check(table(status=[0] * 9 + [1]), passed="0").tables[0].timings["outcome"].tolist()[-2:] == [
        "passed",
        "failed",
    ]


def test_a_named_word_means_passed_and_other_unknown_ones_failed_aloud():
    found = vastbench.check(table(status=["DONE-OK"] * 6 + ["ABENDED"] * 3 + ["success"]), passed=["done_ok"])
    assert found.tables[0].timings["outcome"].tolist() == ["passed"] * 6 + ["failed"] * 3 + ["passed"]
    assert "Taken for failed: ABENDED (column status)." in str(found)


def test_of_several_columns_of_outcomes_the_worst_counts():
    read = ends(status=["completed"] * 10, conclusion=["success"] * 8 + ["failure", "cancelled"])
    assert read == ["passed"] * 8 + ["failed", "censored"]


def test_a_state_is_a_status_only_where_a_word_of_it_is_known():
    assert "outcome" not in vastbench.check(table(state=["CA", "NY"] * 5)).tables[0].timings
    assert ends(state=["succeeded"] * 9 + ["failed"])[-1] == "failed"


@pytest.mark.parametrize(
    ("column", "mark"), [("valid", False), ("is_valid", "no"), ("invalid", 1), ("excluded", "true"), ("valid", 0)]
)
def test_rows_marked_invalid_do_not_count_and_that_is_said(column, mark):
    good = {False: True, "no": "yes", 1: 0, "true": "false"}[mark]
    found = vastbench.check(table(**{column: [good] * 8 + [mark] * 2}))
    assert found.tables[0].timings["seconds"].tolist() == BOOTS[:8]
    assert f"2 rows marked invalid (column {column}) not counted." in str(found)


def test_a_table_of_invalid_rows_alone_and_a_strange_mark_are_refused():
    with pytest.raises(SettingsError, match="all of them marked invalid"):
        vastbench.check(table(valid=False))
    with pytest.raises(SettingsError, match="'perhaps'"):
        vastbench.check(table(valid=[True] * 9 + ["perhaps"]))
    with pytest.raises(SettingsError, match="'sure'"):
        vastbench.check(table(verified="sure"))


def test_a_rule_that_saw_no_row_did_not_apply():
    """All failed: every value is gone, and nothing may look as if it had been examined."""
    columns = {"poll_period_s": 10.0, "timeout_s": 300.0, "bytes": 1e6, "verified": False, "total_s": BOOTS, "machine": None}
    (read,) = vastbench.check(table(status="failed", **columns)).tables
    assert read.applied == []
    assert set(read.silent) == {rule.name for rule in RULES}
    assert "Rules applied: none." in str(vastbench.check(table(status="failed")))
    few = vastbench.check(table()[:3]).tables[0].silent
    assert few["lattice"] == "no phase with 5 values"
    assert "zero for missing" not in few
