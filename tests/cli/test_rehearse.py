"""A live run, rehearsed: what each fault would do is shown, nothing is touched, and nothing is kept."""

import json
import signal

import psutil
import pytest

from tests.processes import Started, clean_environment, command
from tests.profiles import certain
from vastbench.cli.probe import probe
from vastbench.cli.rehearsal import Plan, Rehearsal, fitted
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.emulator.faults import FAULTS, REHEARSED
from vastbench.record.conditions import Conditions
from vastbench.scenarios import find_scenario
from vastbench.vast.api import VastApi
from vastbench.vast.shapes import Shapes

PLAN = Plan(find_scenario(None))


@pytest.fixture
def rehearse(tmp_path):
    """Run ``vastbench rehearse`` where no marketplace is, and no key; it must leave nothing behind."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    environment = clean_environment(tmp_path / "home", TMPDIR=str(tmp_path / "temporary"), VAST_URL="http://127.0.0.1:9")

    def run(*words):
        done = command("rehearse", *words, env=environment, cwd=tmp_path / "home")
        assert "Traceback" not in done.stderr + done.stdout
        assert [*(tmp_path / "home").iterdir(), *(tmp_path / "temporary").iterdir()] == []
        return done

    return run


@pytest.fixture
def probed(tmp_path):
    """The file that a probe of an account with the given faults saves."""

    def save(seed=1, **faults):
        shapes, path = Shapes(), tmp_path / "account.json"
        named = {name.replace("_", "-"): p for name, p in faults.items()}
        with (
            Emulator(certain(tmp_path), seed=seed, speed=60, faults=named) as vast,
            VastApi(vast.url, vast.api_key, clock=Clock(60), observe=shapes) as api,
        ):
            probe(api, Conditions())
        path.write_text(json.dumps(shapes.to_dict()))
        return path

    return save


def test_each_fault_is_shown_with_how_the_run_would_end_and_what_is_left(rehearse):
    wanted = ("pull-fails", "bare-image", "destroy-ignored=1", "credit-ends=0")
    done = rehearse("--json", "--budget", "0.2", *(word for name in wanted for word in ("--fault", name)))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["command"] == ["run", "integration", "--live", "--yes", "--budget=0.2"]
    runs = {one["fault"]: one for one in told["runs"]}
    assert {name: one["exit_code"] for name, one in runs.items()} == {
        "": 0,
        "pull-fails": 6,
        "bare-image": 0,
        "destroy-ignored": 8,
        "credit-ends": 0,
    }
    assert {name for name, one in runs.items() if one["struck"]} == {"pull-fails", "bare-image", "destroy-ignored"}
    assert [name for name, one in runs.items() if one["left"]] == ["destroy-ignored"]
    assert not any(one["wrong"] for one in runs.values())
    assert "will not boot" in runs["pull-fails"]["said"]
    assert any("not armed" in note for note in runs["bare-image"]["notes"])
    assert "vastai destroy instance" in runs["destroy-ignored"]["said"]
    assert 0 < runs[""]["worst_usd"] < runs["destroy-ignored"]["worst_usd"] < 0.2
    assert done.stderr.count("exit code") == 5


def test_the_table_says_in_words_what_vastbench_will_do(rehearse):
    done = rehearse("--fault", "offline", "--fault", "key-forgotten", "--fault", "credit-ends=0")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "Planned: vastbench run integration --live --yes --budget=0.1667" in said
    assert "What could go wrong live, and what vastbench will do:" in said
    assert "Offline instead" not in said
    assert "The host disconnects: offline instead of running. → The run ended: Instance" in said
    assert "It did not come in any of the tries" in said
    assert "Under 2 of 3 faults the run passed; under 1 it ended with its cause and left nothing" in said


def test_with_a_probe_the_emulators_key_may_do_what_the_users_may(rehearse, probed):
    done = rehearse("--json", "--shapes", str(probed(seed=2, no_user_write=1)), "--fault", "key-late")
    assert done.returncode == 0, done.stderr
    for one in json.loads(done.stdout)["runs"]:
        assert one["exit_code"] == 0
        assert any("attached to the instance alone" in note and "team" in note for note in one["notes"])


def test_a_key_that_may_rent_nothing_is_told_by_the_plain_run_alone(rehearse, probed):
    done = rehearse("--shapes", str(probed(restricted_key=1)))
    assert done.returncode == 8
    assert "lacks the permission instance_write" in " ".join(done.stdout.split())
    assert "no fault was rehearsed" in done.stdout
    assert done.stderr.count("exit code") == 1


def test_a_budget_below_the_worst_case_is_said_and_ends_the_rehearsal(rehearse):
    done = rehearse("--budget", "0.01")
    said = " ".join(done.stdout.split())
    assert done.returncode == 2
    assert "at most $0.1667" in said
    assert "The budget of $0.0100 is less: offers above $0.0300/h would be refused." in said
    assert "above the budget of $0.0100" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "nan"], "budget is nan"),
        (["--shapes", "nowhere.json"], "nowhere.json"),
        (["--fault", "nonsense"], "nonsense"),
        (["--max-price", "-1"], "--max-price"),
        (["integration", "--files", "100"], "--files"),
        (["nothing"], "nothing"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_before_anything_happens(rehearse, words, said):
    done = rehearse(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_what_the_emulators_market_lacks_is_replaced_and_named(rehearse):
    done = rehearse("--gpu", "B300 NVL", "--max-price", "9", "--budget", "5", "--fault", "key-late=0")
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "'--gpu=B300 NVL' --max-price=9.0" in said
    assert "The emulator's market has no such offer. Rehearsed with --gpu any instead of B300 NVL" in said


@pytest.mark.parametrize(
    ("asked", "instead"),
    [
        ({}, {}),
        ({"max_usd_per_hour": 0.001}, {"max_usd_per_hour"}),
        ({"image": "me/mine:cuda19.1"}, {"image"}),
        ({"gpu_name": "B300 NVL", "max_usd_per_hour": 0.001}, {"gpu_name", "max_usd_per_hour"}),
        (
            {"disk_gb": 90_000.0, "num_gpus": 64, "gpu_name": "B300 NVL"},  # with so much missing, all that may hinder
            {"disk_gb", "num_gpus", "gpu_name", "max_usd_per_hour", "min_reliability"},
        ),
    ],
)
def test_only_what_the_emulators_market_lacks_is_replaced(asked, instead):
    possible, put = fitted(Plan(PLAN.scenario, Conditions(**asked), budget_usd=0.001))
    assert set(put) == set(instead)
    assert all(getattr(possible.conditions, name) == value for name, value in put.items())
    assert possible.budget_usd == (None if put else 0.001)


def test_every_fault_of_a_rehearsal_exists_and_may_strike():
    assert set(REHEARSED) <= set(FAULTS)
    assert all(0 < probability <= 1 for probability in REHEARSED.values())


@pytest.mark.parametrize(
    ("exit_code", "left", "wrong"),
    [(0, (), False), (6, (), False), (8, ("x",), False), (1, (), True), (None, (), True), (0, ("x",), True), (6, ("x",), True)],
)
def test_what_no_run_should_do_is_a_mistake_of_ours(exit_code, left, wrong):
    assert Rehearsal("x", "about", True, exit_code, "", (), 1, left, 1.0, 0.0).wrong is wrong


def test_an_interruption_ends_it_and_leaves_nothing(tmp_path):
    (tmp_path / "temporary").mkdir()
    environment = clean_environment(tmp_path, TMPDIR=str(tmp_path / "temporary"))
    with Started("rehearse", env=environment, cwd=tmp_path) as process:
        assert "without a fault: exit code 0" in process.stderr.readline()
        process.stderr.readline()  # the others are under way
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130, said
    assert "Stopped by SIGINT" in said
    assert started
    assert not [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert list((tmp_path / "temporary").iterdir()) == []
