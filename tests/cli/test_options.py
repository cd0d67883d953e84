"""An option is the same wherever it stands: on both commands that rent, in the notebook that rents, in the library."""

import inspect
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from papermill import inspect_notebook
from typer.main import get_command
from typer.testing import CliRunner

from vastbench.bench.bench import Bench
from vastbench.cli import app
from vastbench.cli.options import Market
from vastbench.errors import NotFound, UsageError
from vastbench.record.conditions import Conditions

COMMANDS = get_command(app).commands
ASKED = {one.name: one for kind in (Conditions, Market) for one in fields(kind)}
RENTS = Path(__file__).parents[2] / "notebooks/01-integration-test.ipynb"


@pytest.mark.parametrize("command", ["run", "study"])
@pytest.mark.parametrize("name", ASKED)
def test_both_commands_take_every_option_with_its_words_and_default(command, name):
    option = next(one for one in COMMANDS[command].params if one.name == name)
    about = ASKED[name].metadata["about"]
    assert option.opts == [ASKED[name].metadata["option"]]
    assert (option.default, option.help.lower()) == (ASKED[name].default, f"{about}.".lower())


def test_the_notebook_that_rents_has_the_same_words_and_defaults():
    shown = inspect_notebook(str(RENTS))
    common = shown.keys() & ASKED.keys()
    assert {"gpu_name", "max_usd_per_hour", "image", "profile", "live", "budget_usd", "store"} <= common
    for name in common - {"seed"}:  # a notebook shall show the same every time
        assert shown[name]["default"].strip('"') == str(ASKED[name].default), name
        assert shown[name]["help"].strip() == ASKED[name].metadata["about"], name


def test_a_bench_has_the_defaults_of_the_command_line():
    takes = inspect.signature(Bench.__init__).parameters
    assert {one.name: takes[one.name].default for one in fields(Market)} == {one.name: one.default for one in fields(Market)}


def test_scenarios_are_listed_with_their_phases_and_found_by_name():
    done = CliRunner().invoke(app, ["scenarios"])
    assert done.output.startswith("integration: ")
    assert "\n  wait running\n    allocate\n" in done.output
    with pytest.raises(NotFound, match="Did you mean integration"):
        CliRunner().invoke(app, ["run", "integraton"], catch_exceptions=False)


def test_an_option_of_other_drills_is_refused_before_anything_is_opened(tmp_path):
    for words in (["run"], ["study", "--name", "x"]):
        with pytest.raises(UsageError, match="The scenario integration does not know files="):
            CliRunner().invoke(app, [*words, "--files", "30", "--store", str(tmp_path / "s")], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_each_scenario_are_listed_with_their_defaults():
    output = CliRunner().invoke(app, ["scenarios"]).output
    assert (
        "\n  options: --files (by default 200), --size (by default 16.0), --place, --repository, --hedge, --stagger\n" in output
    )


def test_conditions_from_before_the_drills_are_read():
    of_drills = {one.name for one in fields(Conditions) if one.metadata["of_drills"]}
    old = {name: value for name, value in asdict(Conditions()).items() if name not in of_drills}
    assert Conditions.of(old) == Conditions()
    assert Conditions().to_dict() == old


def test_a_study_of_a_drill_keeps_what_its_options_were(tmp_path):
    with Bench(store=tmp_path / "s", study="x", speed=40) as opened:
        study = opened.open_study(1, Conditions(files=30), scenario="snapshot")
        assert (study.conditions["files"], study.conditions["size_mb"]) == (30, 16.0)
        assert opened.open_study(1, Conditions.of(study.conditions), scenario="snapshot").conditions == study.conditions
        with pytest.raises(UsageError, match="size_mb"):
            opened.open_study(1, Conditions(files=30, size_mb=8), scenario="snapshot")
