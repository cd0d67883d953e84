"""``vastbench study FILE``: several conditions in blocks, on the emulator."""

import json
import re
import signal
from collections import Counter

import pytest
from typer.testing import CliRunner

import vastbench
from tests.processes import Started, clean_environment, command
from tests.profiles import certain
from vastbench.analysis.blocks import blocks
from vastbench.cli import app
from vastbench.errors import BudgetRefused, SettingsError, UsageError
from vastbench.store import Store

GPUS = """\
repeats = {repeats}
[conditions]
max_usd_per_hour = 2.0
disk_gb = 12.0
[vary]
gpu_name = {gpus}
"""


@pytest.fixture
def place(tmp_path):
    """A folder to work in, and what calls vastbench there."""
    certain(tmp_path)
    write(tmp_path, 2, ["RTX 3090", "RTX 4090"])
    return tmp_path


def write(folder, repeats, gpus):
    (folder / "gpus.toml").write_text(GPUS.format(repeats=repeats, gpus=json.dumps(gpus, allow_nan=False)))


def words(folder, *more):
    return ["study", folder / "gpus.toml", "--profile", folder / "certain.toml", "--store", folder / "s.sqlite", *more]


def call(folder, *more):
    """Run the command in this process; raises the error that it ends with."""
    done = CliRunner().invoke(app, [*map(str, words(folder, *more))])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def killed_after(folder, runs):
    """Kill the command with SIGKILL once so many of its runs have ended."""
    started = words(folder, "--speed", 60, "--workers", 3, "--seed", 1)
    with Started(*started, env=clean_environment(folder), cwd=folder) as process:
        for _, line in zip(range(runs), process.stderr, strict=False):
            assert "passed" in line
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_killed_twice_and_extended_every_condition_has_its_runs(place):
    write(place, 4, ["RTX 3090", "RTX 4090", "RTX 5090"])
    killed_after(place, 3)
    killed_after(place, 3)
    write(place, 5, ["RTX 3090", "RTX 4090", "RTX 5090", "L40S"])
    done = command(*words(place, "--speed", 60, "--workers", 3, "--seed", 1), env=clean_environment(place), cwd=place)
    assert done.returncode == 0, done.stderr
    with Store(place / "s.sqlite") as store:
        studies = {study.name: study for study in store.studies()}
        assert store.leases(open_only=True) == []
    assert {name: len(study.made) for name, study in studies.items()} == {
        f"gpus.{gpu}": 5 for gpu in ("RTX-3090", "RTX-4090", "RTX-5090", "L40S")
    }
    assert {str(study.ended_by) for study in studies.values()} == {"repeats"}
    runs = [run for study in studies.values() for run in study.runs]
    assert len({run.id for run in runs}) == len(runs)
    phases = vastbench.load("gpus", store=place / "s.sqlite")
    sizes = Counter(blocks(phases)["block"])
    assert max(sizes.values()) == 4
    found = vastbench.paired(phases, against="gpus.RTX-4090").set_index("condition")
    assert found.loc["gpus.RTX-3090", "blocks"] >= 4


def test_it_says_what_came_of_each_condition_and_of_each_beside_the_first(place):
    said = call(place, "--speed", 60, "--seed", 1)
    assert re.search(r"gpus\.RTX-3090 +2 of 2 +2 ", said)
    assert "times as long as gpus.RTX-3090" in said
    assert "vastbench export gpus.parquet --study gpus --store" in said
    complete = json.loads(call(place, "--speed", 60, "--seed", 1, "--json"))
    assert [(one["name"], one["made"], one["ended_by"]) for one in complete] == [
        ("gpus.RTX-3090", 2, "repeats"),
        ("gpus.RTX-4090", 2, "repeats"),
    ]
    rows = vastbench.load("gpus", store=place / "s.sqlite")
    assert sorted(rows["study"].unique()) == ["gpus.RTX-3090", "gpus.RTX-4090"]
    assert vastbench.load(store=place / "s.sqlite", study="gpus")["run"].nunique() == 4


def test_a_dry_run_says_what_it_takes_and_rents_nothing(place):
    said = call(place, "--dry-run", "--workers", 2)
    assert "2 conditions × 2 blocks, 4 runs of 4 missing" in said
    assert "requests and $" in said
    assert "At most $" in said
    assert "Nothing was rented" in said
    assert not (place / "s.sqlite").exists()
    call(place, "--speed", 60, "--seed", 1)
    assert "0 runs of 4 missing" in call(place, "--dry-run")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--repeats", "3"], "--repeats was given"),
        (["--gpu", "L40S"], "--gpu was given"),
        (["--name", "x"], "--name was given"),
        (["--resume"], "--resume was given"),
    ],
)
def test_what_the_file_says_is_no_option(place, more, told):
    with pytest.raises(UsageError) as refused:
        call(place, *more)
    assert told in refused.value.message


def test_without_a_file_a_study_needs_a_name_and_no_dry_run():
    for words, told in ((["study"], "no name"), (["study", "--name", "x", "--dry-run"], "needs a study's file")):
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, UsageError)
        assert told in done.exception.message


def test_a_changed_condition_is_another_study(place):
    call(place, "--speed", 60, "--seed", 1)
    text = (place / "gpus.toml").read_text()
    (place / "gpus.toml").write_text(text.replace("disk_gb = 12.0", "disk_gb = 13.0"))
    with pytest.raises(UsageError, match=r"'gpus.RTX-3090' was begun with disk_gb 12"):
        call(place, "--speed", 60)


def test_live_it_needs_a_budget_which_the_file_may_give(place, monkeypatch):
    monkeypatch.setenv("VAST_API_KEY", "0" * 64)
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    with pytest.raises(BudgetRefused, match="needs a budget"):
        call(place, "--live")
    (place / "gpus.toml").write_text("budget_usd = -1.0\n" + (place / "gpus.toml").read_text())
    with pytest.raises(BudgetRefused, match=r"budget is -1"):
        call(place, "--live")


def test_a_wrong_file_is_named_with_its_line(place):
    (place / "gpus.toml").write_text("repeats = 2\n[vary]\ngpu = ['RTX 3090']\n")
    with pytest.raises(SettingsError, match=r"gpus.toml, line 3: there is no key 'gpu'"):
        call(place)
