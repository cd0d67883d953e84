"""The column dictionary is true of the data."""

import dataclasses

import pandas as pd
import pytest
from typer.testing import CliRunner

import vastbench
from vastbench.analysis.columns import COLUMNS, NEVER, RUN_COLUMNS, columns
from vastbench.cli import app
from vastbench.errors import NotFound
from vastbench.record.cost import Cost

UNITS = {"_s": "s", "_usd": "USD", "_gb": "GB", "_per_hour": "USD/h"}


@pytest.fixture(scope="module")
def every():
    """The bundled data sets, an imported run, and one of which next to nothing is known."""
    names = ["default-300", "failover-40", "snapshot-20", "hibernation-20", "model-12", "2026-01-02-rtx4090"]
    run = vastbench.load_run("2026-01-02-rtx4090")
    bare = dataclasses.replace(
        run, id="bare", phases=(), conditions={}, resources={}, instrument={}, cost=Cost(), total_s=None, validation={}
    )
    return pd.concat([*map(vastbench.load, names), vastbench.phases_table([bare])], ignore_index=True)


def test_a_column_is_missing_only_where_the_dictionary_says_what_that_means(every):
    missing = {name for name in COLUMNS if every[name].isna().any()}
    assert missing == {name for name, column in COLUMNS.items() if column.missing != NEVER}


def test_a_unit_in_a_columns_name_is_its_unit():
    for name, column in COLUMNS.items():
        named = next((unit for end, unit in UNITS.items() if name.endswith(end)), None)
        assert named is None or column.unit == named, name
        assert bool(column.unit) <= (column.dtype not in ("str", "bool", "Int64", "int64")), name


def test_a_column_of_a_run_is_the_same_in_all_its_rows(every):
    assert (every.groupby("run")[list(RUN_COLUMNS)].nunique(dropna=False) <= 1).all().all()


def test_the_command_and_the_function_say_the_same():
    shown = CliRunner().invoke(app, ["columns"]).stdout
    for row in columns().to_dict("records"):
        assert f"  {row['column']} ({row['dtype']}" in shown
        assert f"{row['meaning']}. Missing: {row['missing']}." in shown
    assert CliRunner().invoke(app, ["columns", "upper_s"]).stdout.count("\n") == 2


def test_a_name_that_no_column_has_is_answered_with_those_that_there_are():
    with pytest.raises(NotFound, match=r"There is no column 'machin3'\. Did you mean machine\?"):
        columns("machin3")
