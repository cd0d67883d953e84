"""``vastbench plan``: what it takes, said before anything is spent."""

import json
import re

import pytest

from tests.processes import clean_environment, command
from vastbench.analysis.plan import plan
from vastbench.io.tables import load


@pytest.fixture
def call(tmp_path):
    def run(*words):
        done = command("plan", *words, env=clean_environment(tmp_path), cwd=tmp_path)
        assert "Traceback" not in done.stderr + done.stdout
        return done

    return run


def test_without_runs_of_ones_own_it_plans_from_the_sample_and_says_so(call, tmp_path):
    done = call("--target-width", "30%")
    assert done.returncode == 0, done.stderr
    expected = plan(load(), 0.3)
    for words, need in (
        ("a number chosen beforehand, each on another machine", expected.fixed),
        ("stopping by itself, each on another machine", expected.stopping),
        ("a number chosen beforehand, on the same 22 machines", expected.fixed_on_these),
        ("stopping by itself, on the same 22 machines", expected.stopping_on_these),
    ):
        row = next(line for line in done.stdout.splitlines() if line.startswith(words))
        assert f"{need.runs} – {need.runs_high}" in row
        assert f"{need.minutes:.0f} – {need.minutes_high:.0f}" in row
        assert f"{need.requests} – {need.requests_high}" in row
        assert f"${need.usd:.4f} – ${need.usd_high:.4f}" in row
    assert "the sample default-300 (emulator default)" in done.stdout
    assert f"{expected.source_runs} runs on {expected.machines} machines" in done.stdout
    assert not list(tmp_path.rglob("*.sqlite"))


def test_it_answers_programs_and_hands_over_what_was_asked(call):
    words = ("--quantile", "0.25", "--of", "wait running", "--workers", "8", "--price", "1", "--seed", "5")
    done = call("--target-width", "0.3", "--from", "default-300", *words, "--json")
    shown = json.loads(done.stdout)
    wanted = {"width": 0.3, "quantile": 0.25, "quantity": "wait running", "confidence": 0.95}
    assert (shown["rule"], shown["workers"]) == (wanted, 8)
    known = {"quantile": 0.25, "quantity": "wait running", "workers": 8, "usd_per_hour": 1.0, "seed": 5}
    assert shown["stopping"]["usd"] == plan(load(), 0.3, **known).stopping.usd
    text = call("--target-width", "0.3", "--from", "default-300", *words).stdout
    assert "--stop-width 0.3 --stop-quantile 0.25 --stop-of 'wait running'" in text


def test_the_command_that_it_names_is_one(call, tmp_path):
    text = call("--target-width", "0.3", "--quantile", "0.25").stdout
    words = re.search(r"vastbench (study .*)", text)[1].replace("NAME", "x").split()
    done = command(*words, "--workers", "0", env=clean_environment(tmp_path), cwd=tmp_path)
    assert "The number of workers is 0" in done.stderr  # all else was understood


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target-width", "15"], "'15' is no share"),
        (["--target-width", "abc%"], "'abc%' is no share"),
        (["--target-width", "10%", "--from", "nowhere.parquet"], "nowhere.parquet"),
        (["--target-width", "10%", "--of", "the boot"], "the boot"),
        (["--target-width", "10%", "--store", "nowhere.sqlite"], "nowhere.sqlite"),
        (["--target-width", "10%", "--store", "a", "--from", "b"], "both"),
        (["--target-width", "10%", "--price", "-1"], "$-1"),
        (["--target-width", "10%", "--from", "2026-01-02-rtx4090"], "a plan needs 6"),
    ],
)
def test_a_mistake_is_named(call, words, said):
    done = call(*words)
    assert done.returncode in (2, 3), done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def test_an_answer_that_no_number_of_runs_gives_is_said(call):
    assert "No number of runs is enough" in call("--target-width", "1%", "--of", "wait SSH").stdout
    assert "> 5000" in call("--target-width", "2.5%").stdout


def test_timings_of_others_are_planned_from_with_what_is_asked_of_them(call, tmp_path):
    rows = "".join(f"{i},boot,{60 + 7 * (i % 13)},DONE\n" for i in range(40))
    (tmp_path / "a.csv").write_text(f"run,phase,elapsed,status\n{rows}")
    done = call(
        "--target-width", "30%", "--of", "boot", "--from", "a.csv", "--column", "elapsed", "--unit", "s", "--passed", "DONE"
    )
    assert done.returncode == 0, done.stderr
    assert "the median of boot" in done.stdout
