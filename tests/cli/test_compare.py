"""``vastbench compare A B``: which runs A and B are, what is said, and the exit code that a gate looks at."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.analysis.made import FAILED, made
from tests.processes import clean_environment, command
from vastbench.analysis.comparison import compare
from vastbench.analysis.frames import phases_table
from vastbench.cli import app
from vastbench.errors import NotFound, SettingsError, UsageError
from vastbench.io.tables import export, load
from vastbench.record.phases import PhaseName
from vastbench.store import Store

RUNNING, SSH = PhaseName.WAIT_RUNNING, PhaseName.WAIT_SSH


def runs(name, median, *, n=30, failed=0, version="0.1", image="one:1"):
    """Runs of a study called ``name``, evenly from 0.8 to 1.2 of the median, one every two minutes."""
    times = median * np.linspace(0.8, 1.2, n)
    found = [made(i, {RUNNING: 0.75 * t, SSH: 0.25 * t}) for i, t in enumerate(times)]
    found += [made(n + i, {}, stopped=RUNNING, outcome=FAILED, cause="boot_failed") for i in range(failed)]
    return [
        dataclasses.replace(
            run,
            id=f"{name}-{i:03d}",
            study=name,
            started_at=f"2026-01-02T{i // 30:02d}:{2 * i % 60:02d}:00+00:00",
            conditions={"image": image},
            resources={"region": f"Somewhere, {'AB'[i % 2]}B"},
            instrument={"client_version": version},
        )
        for i, run in enumerate(found)
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a store of five studies, and each of them as a file."""
    folder = tmp_path_factory.mktemp("home")
    groups = {
        "before": runs("before", 100),
        "slow": runs("slow", 150, version="0.2", image="two:2"),
        "fragile": runs("fragile", 60, failed=25),
        "dead": runs("dead", 60, n=0, failed=20),
        "dead-too": runs("dead-too", 60, n=0, failed=20),
    }
    with Store(folder / "runs.sqlite") as store:
        for group in groups.values():
            for run in group:
                store.save_run(run)
    for name, group in groups.items():
        export(phases_table(group), folder / f"{name}.parquet")
        export(group, folder / f"{name}.json")
    return folder


@pytest.fixture
def call(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("VASTBENCH_STORE", str(home / "runs.sqlite"))

    def run(*words):
        done = CliRunner().invoke(app, ["compare", *words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


@pytest.mark.parametrize(
    ("a", "b", "code", "said"),
    [
        ("before.parquet", "slow.parquet", 13, "B is slower. B takes 1.5 times as long as A (95 % interval 1."),
        ("slow.parquet", "before.parquet", 12, "B is faster. B takes 0.667 times as long as A (95 % interval 0."),
        ("before.parquet", "run:before-000,run:slow-001", 2, "1 run is in both A and B: before-000"),
        ("before-000", "slow-001", 14, "not enough runs to tell. B takes 1.53 times as long as A (no interval)."),
    ],
)
def test_a_gate_sees_the_verdict_in_the_exit_code(home, a, b, code, said):
    environment = clean_environment(home, VASTBENCH_STORE="runs.sqlite")
    done = command("compare", a, b, env=environment, cwd=home)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in (done.stderr if code == 2 else done.stdout)


def test_runs_that_differ_by_nothing_are_equivalent_and_pass_the_gate(call):
    words = ("AB", "BB", "--by", "region", "--study", "before", "--margin", "20%")
    assert call(*words).exit_code == 14  # fifteen of each that passed may yet fail in one of ten
    same = call(*words, "--success-margin", "20%")
    assert same.exit_code == 0
    assert "A and B are equivalent within 20 points of success and 20 % of speed" in same.stdout
    assert "The interval at 0.9" in same.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("before.parquet", "slow.parquet"),
        ("before.json", "slow.json"),
        ("before", "slow"),
        ("study:before", "study:slow"),
        ("before,before-000", "slow-000,slow.json"),
        ("one:1", "two:2", "--by", "image", "--from", "both.parquet"),
        ("one", "two", "--by", "image", "--from", "both.parquet"),
        ("0.1", "0.2", "--by", "client_version", "--from", "both.parquet"),
        ("before", "slow", "--by", "study"),
    ],
)
def test_the_same_runs_by_many_names(call, home, words):
    both = runs("before", 100) + runs("slow", 150, version="0.2", image="two:2")
    export(phases_table(both), home / "both.parquet")
    export(both, home / "both.json")
    shown = json.loads(call(*words, "--json").stdout)
    expected = compare(load(home / "before.parquet"), load(home / "slow.parquet")).effects.iloc[0]
    assert (shown["verdict"], shown["exit_code"]) == ("worse", 13)
    for name in ("ratio", "ratio_low", "ratio_high", "p_value", "n_a", "n_b"):
        assert shown["effects"][0][name] == pytest.approx(expected[name])


def test_versions_of_vastbench_are_told_apart_in_a_store(call):
    done = call("0.1", "0.2", "--by", "client_version")
    assert done.exit_code in (12, 13, 14)
    assert "A: client_version 0.1" in done.stdout
    assert "of 125 runs got there" in done.stdout  # those of four studies


def test_a_data_set_that_comes_with_vastbench_is_a_name_too(call):
    assert json.loads(call("default-300", "slow", "--json").stdout)["effects"][0]["n_a"] == load()["run"].nunique()


def test_a_faster_group_that_fails_more_is_worse(call):
    done = call("before", "fragile", "--phase", "wait SSH")
    assert done.exit_code == 13
    assert "B is worse: it passes less often, although it is faster." in done.stdout
    assert "30 of 30 passed in A, 30 of 55 in B: -45.5 points (95 % interval -" in done.stdout


def test_a_total_outage_is_a_regression_and_never_too_few_runs(call):
    for words, code, headline in (
        (("before", "dead"), 13, "B is worse: it never passed."),
        (("dead", "before"), 12, "B is better: it passes more often"),
        (("dead", "dead-too"), 13, "B never passed."),
        (("dead", "dead-too-000"), 14, "A never passed."),
    ):
        done = call(*words)
        assert done.exit_code == code
        assert headline in done.stdout
        assert "not enough runs" not in done.stdout.lower()


def test_what_is_unfair_is_listed(call):
    done = call("before", "slow")
    assert "  - The image is not the same: A one:1; B two:2." in done.stdout
    assert "Mind:" not in call("one:1", "two:2", "--by", "image", "--from", "both.parquet").stdout


def test_all_phases_make_a_table_in_which_one_is_primary(call):
    text = call("before", "slow", "--all-phases").stdout
    rows = {line.split("  ")[0].strip(): line for line in text.splitlines()[text.splitlines().index("") :]}
    assert {"time to ready", "wait running", "wait SSH", "total"} <= rows.keys()
    assert "slower" in rows["wait SSH"]
    assert "Time to ready is primary. The other rows are secondary, and judged together" in text


def test_programs_get_null_for_what_is_missing(call):
    shown = json.loads(call("before-000", "slow-001", "--json").stdout)
    assert shown["verdict"] == "not enough runs"
    assert shown["effects"][0]["ratio_low"] is None
    assert shown["success"]["difference"] == 0


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("AB", "Mars", "--by", "region"), NotFound, r"no region 'Mars'.*Somewhere, AB \("),
        (("Some", "BB", "--by", "region"), NotFound, "'Some' may be 2 values of region"),
        (("AB", "AB", "--by", "region"), UsageError, "A and B are both region 'Somewhere, AB'"),
        (("a", "b", "--by", "colour"), NotFound, "no column 'colour'.*image"),
        (
            ("before", "nothing"),
            NotFound,
            "no file, data set or study 'nothing'. There is no run.*Studies there: before .30 runs",
        ),
        (("before", "slow-0"), NotFound, "no file, data set or study 'slow-0'. Several runs have an id"),
        (("before", "study:nothing"), NotFound, "no run of a study 'nothing'"),
        (("before", "run:nothing"), NotFound, "no run 'nothing'"),
        (("before", "nothing.parquet"), NotFound, "no 'nothing.parquet'"),
        (("before", ","), UsageError, "names no runs"),
        (("before", "before"), UsageError, "30 runs are in both"),
        (("before", "slow", "--phase", "the boot"), UsageError, "no quantity 'the boot'"),
        (("before", "slow", "--confidence", "0.4"), UsageError, "cannot all be"),
        (("before", "slow", "--margin", "ten"), UsageError, "no share"),
        (("before", "slow", "--from", "default-300"), SettingsError, "are for by="),
        (("a", "b", "--by", "image", "--from", "x", "--store", "y"), UsageError, "both given"),
    ],
)
def test_a_mistake_is_named(call, words, error, said):
    with pytest.raises(error, match=said):
        call(*words)
