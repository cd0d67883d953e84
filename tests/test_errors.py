"""Errors speak of options on the command line, and of arguments in Python."""

import inspect
from dataclasses import fields

import pytest
from typer.testing import CliRunner

import vastbench
from vastbench.bench.bench import Bench
from vastbench.cli.app import app
from vastbench.errors import ARGUMENTS, BudgetRefused, UsageError, did_you_mean, in_python
from vastbench.io.words import How
from vastbench.record.conditions import Conditions
from vastbench.record.recorder import summary_of


def test_every_option_of_a_run_is_called_in_python_as_its_field_is():
    asked = {one.metadata["option"]: one.name for one in fields(Conditions)}
    assert asked.items() <= ARGUMENTS.items()
    functions = (Bench, Bench.open_study, vastbench.compare, vastbench.estimate)
    taken = {name for function in functions for name in inspect.signature(function).parameters}
    assert {name for option, name in ARGUMENTS.items() if option not in asked} <= taken | set(How.__annotations__)


def test_what_is_raised_in_python_names_the_argument():
    with pytest.raises(UsageError, match=r"^max_usd_per_hour is -1\. It is USD per hour at most"):
        Conditions(max_usd_per_hour=-1)
    with pytest.raises(BudgetRefused, match=r"budget_usd=0\.50\.$"):
        Bench(live=True)


def test_whole_commands_and_unknown_options_stay_as_they_are():
    for text in (
        "Look for ours: `vastai show instances --label vb-1`.",
        "Close what it left: vastbench reap --live --store s.db",
        "Pool them on purpose: vastbench.pool(phases), --pool.",
    ):
        assert in_python(text) == text


def test_a_runs_record_keeps_the_words_of_the_command_line():
    error = UsageError("No.", hint="Raise --max-price.")
    assert summary_of(error, with_hint=True) == "No. Raise --max-price."
    assert str(error) == "No. Raise max_usd_per_hour=."


@pytest.mark.parametrize(("written", "meant"), [("rtx4090", "RTX 4090"), ("4090", "RTX 4090"), ("h100_sxm", "H100 SXM")])
def test_a_name_is_found_in_any_case(written, meant):
    assert did_you_mean(written, ["RTX 4080", "RTX 4090", "H100 SXM"]) == f"Did you mean {meant}? "


def test_help_of_offers_speaks_of_no_money():
    said = " ".join(CliRunner().invoke(app, ["offers", "--help"]).output.split())
    assert "Nothing is rented and nothing is spent." in said
    assert "that is free" in said
    assert "spending money" not in said
