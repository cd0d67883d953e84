"""The samples in docs/schedules: their commands exist, and they treat exit codes as docs/scheduling.md says."""

import ast
import configparser
import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import papermill
import papermill.cli
import pytest
import typer
import yaml

from vastbench import errors
from vastbench.bundled import shared
from vastbench.cli import app

DOCS = shared("docs")
SAMPLES = sorted((DOCS / "schedules").iterdir())
GUIDE = (DOCS / "scheduling.md").read_text()
COMMANDS = typer.main.get_command(app)
REPORTED = {0, 10, 11, 17}
LIVE_COMMENT = re.compile(r"^(\s*)#\s?(\s*)((?:Environment=\"|- )?STUDY\b.*--live.*)$", re.MULTILINE)


def text_of(name: str, live: bool = False) -> str:
    """A sample, with its live variant in place of the free one if asked for."""
    text = (DOCS / "schedules" / name).read_text()
    if live:
        text, count = LIVE_COMMENT.subn(r"\1\2\3", text)
        assert count == 1, name
    return text


def crontab(live: bool = False) -> tuple[dict[str, str], str]:
    """The variables and the command of the sample, as cron reads them."""
    lines = [line for line in text_of("crontab", live).splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    (job,) = [line for line in lines if not re.match(r"\w+=", line)]
    command = job.split(maxsplit=5)[5]
    assert "%" not in command.replace("\\%", ""), "a bare percent sign ends cron's command"
    return variables, command.replace("\\%", "%")


def unit(name: str, live: bool = False) -> configparser.ConfigParser:
    """A unit file; the last of several equal keys counts."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(text_of(name, live))
    return parser


def systemd_words(line: str) -> list[str]:
    """A line's words as systemd gives them to the program."""
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)]


def workflow(live: bool = False) -> dict:
    """The workflow's only job."""
    return yaml.safe_load(text_of("github-actions.yml", live).replace("${{ github.run_id }}", "17"))["jobs"]["study"]


def dag_commands(live: bool = False) -> list[str]:
    """The commands that the DAG runs, from its assignments of texts."""
    tree = ast.parse(text_of("airflow_dag.py", live))
    wanted = [
        node
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AugAssign)) and ast.unparse(node).startswith(("NAME", "STUDY", "REPORT"))
    ]
    names: dict[str, str] = {}
    exec(compile(ast.Module(wanted, []), "airflow_dag.py", "exec"), names)
    return [re.sub(r"\{\{.*?\}\}", "2026-01-01", names[name]) for name in ("STUDY", "REPORT")]


PAPERMILL_LIVE = re.compile(r"^#(PARAMETERS=.*)$", re.MULTILINE)


@pytest.fixture
def checkout(tmp_path):
    """A home with a checkout whose vastbench notes its words and ends with STUDY_CODE or REPORT_CODE."""
    program = tmp_path / "vastbench" / ".venv" / "bin" / "vastbench"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@" >> "$HOME/calls"\n[ "$1" = study ] && exit "$STUDY_CODE"\nexit "$REPORT_CODE"\n')
    program.chmod(stat.S_IRWXU)
    return tmp_path


def run(words, home: Path, study: int = 0, report: int = 0, **more: str) -> int:
    """Run a sample's command in that checkout and give its exit code."""
    path = f"{home / 'vastbench/.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(home), "PATH": path, "STUDY_CODE": str(study), "REPORT_CODE": str(report)} | more
    return subprocess.run(words, env=environment, cwd=home / "vastbench", capture_output=True, timeout=30).returncode


def called(home: Path) -> list[list[str]]:
    """The words of every call of the stand-in."""
    calls = home / "calls"
    return [shlex.split(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def run_all(sample: str, home: Path, live: bool = False, study: int = 0, report: int = 0) -> int:
    """Run a sample's commands in the order and under the rules of its scheduler; give the exit code that it sees."""
    if sample == "crontab":
        variables, command = crontab(live)
        return run([variables.pop("SHELL"), "-c", command], home, study, report, **variables)
    if sample == "vastbench-study.service":
        service = unit(sample, live)["Service"]
        name, options = shlex.split(service["Environment"])[0].split("=", 1)
        first = 0
        for step in ("ExecStartPre", "ExecStart"):
            first = first or run(systemd_words(service[step]), home, study, report, **{name: options})
        last = run(systemd_words(service["ExecStopPost"]), home, study, report, EXIT_STATUS=str(first))
        return first or last
    job = workflow(live)
    for step in job["steps"]:
        if step.get("name") in {"study", "report"} and (
            code := run(["bash", "-e", "-c", step["run"]], home, study, report, **job["env"])
        ):
            return code
    return 0


def check_words(words: list[str]) -> dict:
    """The parsed options of a vastbench command. Raises click's error for a command or an option that does not exist."""
    return COMMANDS.commands[words[0]].make_context(words[0], list(words[1:])).params


SHELL_SAMPLES = ["crontab", "vastbench-study.service", "github-actions.yml"]


@pytest.mark.parametrize("live", [False, True], ids=["emulator", "live"])
@pytest.mark.parametrize("sample", [*SHELL_SAMPLES, "airflow_dag.py"])
def test_every_command_of_a_sample_exists_with_its_options(sample, live, checkout):
    if sample in SHELL_SAMPLES:
        assert run_all(sample, checkout, live) == 0
        commands = called(checkout)
    else:
        commands = [shlex.split(line)[1:] for line in dag_commands(live)]
    assert [words[0] for words in commands] == ["study", "report"]
    study, report = (check_words(words) for words in commands)
    assert study["name"] == report["study"]
    assert re.fullmatch(r"[\w.-]{1,80}", study["name"])
    assert study["store"] == report["store"]
    assert study["repeats"] == 12
    assert (study["live"], study["yes"], study["budget_usd"]) == ((True, True, 2) if live else (False, False, None))


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 8, 9, 10, 11, 17, 130])
@pytest.mark.parametrize("sample", SHELL_SAMPLES)
def test_a_report_is_made_after_the_codes_that_have_results_to_show(sample, code, checkout):
    # The report of a study with 10 or 11 ends with the same code.
    seen = run_all(sample, checkout, study=code, report=code if code in REPORTED else 0)
    assert [words[0] for words in called(checkout)] == (["study", "report"] if code in REPORTED else ["study"])
    assert seen == code


@pytest.mark.parametrize("sample", SHELL_SAMPLES)
def test_a_notebook_that_fails_is_seen(sample, checkout):
    assert run_all(sample, checkout, report=9) == 9


def test_a_second_launch_under_cron_ends_at_the_lock(checkout):
    (checkout / "vastbench/out").mkdir()
    lock = checkout / "vastbench/out/nightly.lock"
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; read line"], stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        assert run_all("crontab", checkout) == 75
        other.communicate(b"\n")
    assert called(checkout) == []


@pytest.mark.parametrize("live", [False, True], ids=["emulator", "live"])
@pytest.mark.parametrize("code", [0, 1, 130])
def test_the_papermill_sample_runs_our_notebook_with_our_engine(code, live, checkout):
    program = checkout / "vastbench/.venv/bin/papermill"
    program.write_text('#!/bin/sh\necho "$@" >> "$HOME/calls"\nexit "$STUDY_CODE"\n')
    program.chmod(stat.S_IRWXU)
    script = PAPERMILL_LIVE.sub(r"\1", text_of("papermill.sh")) if live else text_of("papermill.sh")
    assert run(["/bin/sh", "-c", script], checkout, study=code) == code
    (words,) = called(checkout)
    command = papermill.cli.papermill.make_context("papermill", words).params
    parameters = dict(command["parameters"])
    assert command["engine"] == "vastbench"
    assert parameters.keys() <= papermill.inspect_notebook(DOCS.parent / command["notebook_path"]).keys()
    assert ("live" in parameters) == live
    assert Path(command["output_path"]).parent == Path("out/nightly")


def test_the_timer_starts_every_night_and_the_unit_has_time_to_clean_up():
    assert unit("vastbench-study.timer")["Timer"]["OnCalendar"] == "*-*-* 03:17:00"
    service = unit("vastbench-study.service")["Service"]
    assert (service["KillSignal"], service["KillMode"], service["TimeoutStopSec"]) == ("SIGINT", "mixed", "5min")


def test_the_reaper_watches_with_consent_and_has_time_to_close():
    service = unit("vastbench-reap.service")["Service"]
    container = json.loads(re.search(r"^CMD (.*)$", text_of("reaper.Containerfile"), re.MULTILINE)[1])
    for words in (systemd_words(service["ExecStart"]), container):
        asked = check_words(words[1:])
        assert (asked["live"], asked["yes"], asked["watch"]) == (True, True, True)
    assert (service["KillMode"], service["TimeoutStopSec"], service["Restart"]) == ("mixed", "5min", "always")


def test_systemd_and_airflow_try_the_same_codes_again():
    names: dict = {}
    for node in ast.parse(text_of("airflow_dag.py")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in {"LOOK_FIRST", "GO_ON"}:
            names[node.targets[0].id] = ast.literal_eval(node.value)
    assert names["GO_ON"] == REPORTED
    prevented = unit("vastbench-study.service")["Service"]["RestartPreventExitStatus"]
    assert names["LOOK_FIRST"] == {int(code) for code in prevented.split()}


def test_the_guide_explains_every_exit_code_of_study_and_report():
    explained = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", GUIDE, re.MULTILINE) for code in row.split(",")}
    ours = (errors.VastbenchError, errors.UsageError, errors.StoreError, errors.ApiError, errors.LeaseNotClosed)
    theirs = (errors.NotebookFailed, errors.StudyFailed, errors.StudyIncomplete, errors.AccountRefused, errors.Interrupted)
    assert explained == {0, 75} | {error.exit_code for error in ours + theirs}


def test_the_guide_names_every_sample_and_only_commands_that_exist():
    for sample in SAMPLES:
        assert f"schedules/{sample.name}" in GUIDE
    named = set(re.findall(r"(?:`|^)vastbench ([a-z]+)", GUIDE, re.MULTILINE))
    assert {"study", "report", "doctor"} <= named <= set(COMMANDS.commands)


@pytest.mark.parametrize("path", [*SAMPLES, DOCS / "scheduling.md"], ids=lambda path: path.name)
def test_samples_hold_no_path_of_one_machine_and_no_key(path):
    text = path.read_text()
    assert not re.search(r"(?<![\w~.])/(work|tmp|root|home|opt|Users)\b", text)
    assert not re.search(r"[0-9a-f]{32,}", text)
