"""``vastbench reconcile``: asks the account with --live, shows what is stored without it, and fails only where they differ."""

import json

import pytest
from typer.testing import CliRunner

from tests.fleet import make_runs, reachable
from tests.profiles import certain
from vastbench.bench.bench import Bench
from vastbench.cli import app
from vastbench.emulator import Emulator
from vastbench.errors import ApiError, ChargesDiffer, NotFound, SettingsError

SPEED = 40


def call(*words):
    """Run the command in this process; raises the error that it ends with."""
    done = CliRunner().invoke(app, ["reconcile", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A marketplace on which two runs of a study and one of none were made, with charges that never come of themselves."""
    folder = tmp_path_factory.mktemp("market")
    with Emulator(certain(folder), seed=5, speed=SPEED) as vast, pytest.MonkeyPatch.context() as patch:
        reachable(vast, SPEED, patch)
        for name, runs in (("first", 2), ("", 1)):
            with Bench(live=True, budget_usd=5, store=folder / "runs.sqlite", study=name) as opened:
                if name:
                    study = opened.open_study(runs)
                    for _ in range(runs):
                        opened.run_next(study)
                else:
                    make_runs(opened, runs, runs)
        for contract in contracts(vast):
            contract.charges_lag = 1e9
        yield vast, folder / "runs.sqlite"


@pytest.fixture
def here(place, monkeypatch):
    vast, store = place
    reachable(vast, SPEED, monkeypatch)
    monkeypatch.setenv("VASTBENCH_STORE", str(store))
    return vast


def contracts(vast):
    return list(vast._engine._market.contracts.values())


def come(vast):
    """Let all charges have come."""
    for contract in contracts(vast):
        contract.charges_lag = 0.0


def test_the_command_goes_from_late_to_agreed_to_different(here, place):
    nothing = call()
    assert nothing.stdout.startswith("No charges are stored.")
    early = call("--live")
    assert f"Asked {here.url}: 0 rows of charges for 3 instances of ours." in early.stderr
    assert early.stdout.count("late: not all of it has come") == 3
    come(here)
    asked = json.loads(call("first", "--live", "--json").stdout)
    assert [run["charge"] for run in asked["runs"]] == ["agrees"] * 2
    assert (asked["asked"]["contracts"], asked["asked"]["rows"]) == (2, 2)
    assert "Of 3 runs that the account was asked about: agrees: 2, late: 1." in call().stdout
    last = contracts(here)[-1]
    start, end, rate = last.meter.spans[-1]
    last.meter.spans[-1] = (start, end + 36_000, rate)
    with pytest.raises(ChargesDiffer, match=r"what the meters do not explain, for 1 run\.") as differ:
        call("--live")
    assert differ.value.exit_code == 19
    with pytest.raises(ChargesDiffer):
        call()  # as it is stored
    assert call("first").exit_code == 0
    said = [early.stdout, early.stderr, *(path.read_bytes().decode("latin-1") for path in place[1].parent.glob("runs.*"))]
    assert not any(here.api_key in text for text in said)


def test_what_is_not_there_is_said(here, tmp_path, monkeypatch):
    with pytest.raises(NotFound, match="no store"):
        call("--live", "--store", tmp_path / "none.sqlite")
    with pytest.raises(NotFound, match="of a study 'none'"):
        call("none", "--live")
    monkeypatch.setenv("VAST_API_KEY", "0" * 64)
    with pytest.raises(ApiError):
        call("--live")
    monkeypatch.setenv("VAST_API_KEY", " ")
    with pytest.raises(SettingsError):
        call("--live")
