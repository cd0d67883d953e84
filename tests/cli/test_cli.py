"""The command line as a newcomer meets it: every mistake gives one clear message and a documented exit code."""

import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from tests.processes import VASTBENCH, Started, clean_environment, command, emulator_process, until
from tests.profiles import certain
from vastbench.bundled import shared
from vastbench.cli import _words, doctor, main
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import Interrupted, StoreError
from vastbench.io.files import read_run
from vastbench.record.document import run_to_dict
from vastbench.record.lease import LeaseRow
from vastbench.report.build import of_places
from vastbench.ssh.keys import RunKey
from vastbench.store import Store
from vastbench.vast.api import VastApi

SEED = shared("data/runs") / "2026-01-02-rtx4090.json"
KEY = "canary-key-3141592653"


@pytest.fixture
def call(tmp_path):
    """Run vastbench with a fresh home and the store in it."""

    def run(*words, **environment):
        merged = clean_environment(tmp_path) | {"VASTBENCH_STORE": str(tmp_path / "runs.sqlite")} | environment
        done = command(*words, env=merged, cwd=tmp_path)
        assert "Traceback" not in done.stderr + done.stdout
        assert KEY not in done.stderr + done.stdout
        return done

    return run


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    with emulator_process(
        tmp_path_factory.mktemp("market"), "--profile", "cached", "--seed", "1", "--speed", "40"
    ) as environment:
        yield {name: environment[name] for name in ("VAST_URL", "VAST_API_KEY", "VASTBENCH_SPEED")}


class Scripted(BaseHTTPRequestHandler):
    """Answers everything with the server's status, headers and body."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, body = self.server.script
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def say(status, headers, body):
        server.script = (status, headers, body)
        return {"VAST_URL": f"http://127.0.0.1:{server.server_port}", "VAST_API_KEY": KEY}

    yield say
    server.shutdown()
    server.server_close()


def expect(done, code, *words):
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("vastbench: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_help_names_every_command_and_is_light():
    check = (
        "import sys, typer; from vastbench.cli import app; typer.main.get_command(app);"
        "heavy = 'pandas matplotlib paramiko scipy sqlalchemy httpx asyncssh pydantic'.split();"
        "assert not set(heavy) & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
    said = subprocess.run([VASTBENCH, "--help"], check=True, capture_output=True, text=True, timeout=60).stdout
    for name in ("run", "study", "runs", "show", "offers", "import", "emulator", "notebook", "doctor"):
        assert f"\n  {name} " in said


def test_an_unreachable_marketplace(call):
    nowhere = {"VAST_URL": "http://127.0.0.1:9", "VAST_API_KEY": KEY, "VASTBENCH_SPEED": "50"}
    done = call("run", "--live", "--budget", "1", "--yes", **nowhere)
    expect(done, 4, "127.0.0.1", "VAST_URL")


def test_a_wrong_key(call, market):
    done = call("run", "--live", "--budget", "1", "--yes", **(market | {"VAST_API_KEY": KEY}))
    expect(done, 4, "rejected the API key", "VAST_API_KEY")


def test_no_key_at_all(call):
    expect(call("run", "--live", "--budget", "1"), 2, "no API key", "VAST_API_KEY")


def test_a_redirect_is_an_error(call, scripted):
    answer = scripted(301, {"Location": "https://elsewhere.example/"}, b'{"offers": []}')
    expect(call("offers", "--live", **answer), 4, "301")


@pytest.mark.parametrize("body", [b'{"offers": [', b"", b"[]", b"<html>", b"null", b'{"offers": null}', b"\xff\xfe"])
def test_an_answer_that_cannot_be_read_is_not_an_empty_market(call, scripted, body):
    expect(call("offers", "--live", **scripted(200, {"Content-Type": "application/json"}, body)), 4)


def test_offers_without_usable_prices_are_left_out_and_counted(call, scripted):
    good = {"id": 1, "gpu_name": "RTX 4090", "num_gpus": 1, "dph_base": 0.2, "dph_total": 0.21, "storage_cost": 0.1}
    rows = [
        good,
        good | {"id": 2, "dph_base": float("nan")},
        good | {"id": 3, "dph_base": -1.0},
        good | {"id": 4, "dph_base": None},
    ]
    body = json.dumps({"offers": rows}).encode()
    done = call("offers", "--live", **scripted(200, {"Content-Type": "application/json"}, body))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "3 more left out" in done.stderr


def test_no_matching_offer(call):
    done = call("run", "--gpu", "RTX 9999", "--speed", "50")
    assert done.returncode == 5
    assert "No offer" in done.stdout
    assert "vastbench offers" in done.stdout


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--max-price", "nan"], "--max-price is"),
        (["--max-price", "-1"], "--max-price is"),
        (["--disk", "1"], "disk"),
        (["--speed", "0"], "speed"),
        (["--profile", "nowhere"], "nowhere"),
        (["--image", "two words"], "image"),
        (["--live"], "budget"),
        (["--live", "--budget", "nan"], "budget"),
        (["--live", "--budget", "-1"], "budget"),
    ],
)
def test_an_impossible_run_is_refused_before_anything_happens(call, options, word):
    expect(call("run", *options, VAST_API_KEY=KEY), 2, word)


def test_a_budget_below_the_worst_case_is_refused(call, market):
    expect(call("run", "--live", "--budget", "0.001", "--yes", **market), 2, "at most", "budget")


def test_without_a_terminal_and_without_yes_nothing_is_rented(call, market):
    expect(call("run", "--live", "--budget", "1", **market), 2, "--yes")


def test_a_live_run_on_an_emulator_started_by_hand(call, market):
    done = call("run", "--live", "--budget", "1", "--yes", "--json", **market)
    run = json.loads(done.stdout)
    assert run["source"] == "emulator"
    assert run["outcome"] in {"passed", "failed", "censored"}
    assert call("runs", "--json").stdout.count('"scenario"') == 1


def test_a_live_study_is_agreed_to_once_with_the_estimate_for_all_its_runs(call, market):
    study = ("study", "--name", "live", "--repeats", "2", "--live")
    expect(call(*study, VAST_API_KEY=KEY), 2, "budget")
    expect(call(*study, "--budget", "0.001", "--yes", **market), 2, "at most", "budget")
    expect(call(*study, "--budget", "1", **market), 2, "2 runs of two minutes", "--yes")
    made = call(*study, "--budget", "1", "--yes", **market)
    assert made.stderr.count("2 runs of two minutes") == 1
    assert made.returncode in {0, 10}, made.stderr
    shown = json.loads(call(*study, "--budget", "1", "--json", **market).stdout)  # complete: nobody is asked
    assert (shown["made"], shown["conditions"]["source"]) == (2, "emulator")


def test_a_profile_that_is_not_toml(call, tmp_path):
    (tmp_path / "bad.toml").write_text("not = [toml")
    expect(call("run", "--profile", str(tmp_path / "bad.toml")), 2, "bad.toml")


def test_the_seed_run_is_imported_shown_and_written_back(call):
    assert call("import", SEED).returncode == 0
    assert "already" in call("import", SEED).stdout
    shown = call("show", "seed").stdout
    assert "bottleneck" in shown
    assert "4.21" in shown
    assert json.loads(call("show", "last", "--format", "seed").stdout) == json.loads(SEED.read_text())
    assert "98.98" in call("runs").stdout
    assert call("show", "last", "--beside", "seed").stdout.count("72.77") == 3


READING = [
    "runs",
    "studies",
    "show last",
    "show first",
    "export runs.csv",
    "report",
    "report --study first",
    "compare first second",
    "compare a b --by region",
    "check first",
    "plan --target-width 15%",
    "plan --target-width 15% --study first",
    "reap",
    "reap --live --dry-run",
    "reconcile",
    "reconcile first --live",
    "webhooks list",
    "webhooks deliveries",
    "webhooks remove 1",
]


@pytest.mark.parametrize("words", READING)
def test_reading_makes_no_store_and_says_that_there_is_none(call, tmp_path, words):
    done = call(*words.split(), "--store", "typo/runs.sqlite")
    expect(done, 2, "There is no store typo/runs.sqlite", "vastbench run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["runs", "studies"])
def test_before_the_first_run_a_list_is_empty(call, tmp_path, command):
    done = call(command, VASTBENCH_STORE="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "yet. Make one: vastbench" in done.stdout
    assert json.loads(call(command, "--json", VASTBENCH_STORE="").stdout) == []
    expect(call(command), 2, "There is no store")  # one that VASTBENCH_STORE names
    assert call("doctor", VASTBENCH_STORE="").stdout.count("the first run makes it") == 1
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "runs.sqlite").exists()


def test_the_version_is_said(call):
    assert call("--version").stdout == f"vastbench {version('vastbench')}\n"


def test_a_study_is_listed_shown_and_found_by_its_name(call, tmp_path):
    assert (
        call("study", "--name", "first", "--repeats", "2", "--profile", "cached", "--seed", "1", "--speed", "50").returncode
        == 0
    )
    call("import", SEED)
    assert re.search(r"first +2 of 2 +\d +20\d\d-.*emulator, cached, RTX 4090", call("studies").stdout)
    assert [one["name"] for one in json.loads(call("studies", "--json").stdout)] == ["first"]
    assert [line.split()[1] for line in call("runs").stdout.splitlines()[1:]] == ["first", "first", "–"]
    assert "2 of 2 runs made" in call("show", "first").stdout
    assert json.loads(call("show", "first", "--json").stdout)["name"] == "first"
    expect(call("show", "first", "--beside", "last"), 2, "'first' is a study")
    expect(call("show", "frist"), 2, "no run or study 'frist'", "vastbench studies")
    assert "study first: " in call("check", "first").stdout
    assert "2 of 2 runs got there" in call("compare", "first", "default-300").stdout
    # Their names go with runs that another store imports.
    call("export", "first.json", "--study", "first")
    call("import", "first.json", "--store", "other.sqlite")
    assert re.search(r"first +2 of 2 .*emulator, cached", call("studies", "--store", "other.sqlite").stdout)


def test_a_csv_is_a_table_wherever_runs_are_named(call, tmp_path):
    call("import", SEED)
    assert "Exported 1 run to runs.csv" in call("export", "runs.csv").stdout
    same = call("compare", "runs.csv", "default-300")
    assert same.returncode == 14, same.stderr
    expect(call("compare", "runs.csv", "runs.csv"), 2, "1 run is in both")
    assert call("check", "runs.csv").stdout.startswith("runs.csv: 12 rows of 1 run")
    assert of_places([tmp_path / "runs.csv"]).phases["run"].nunique() == 1
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    for words in (("compare", "notes.csv", "runs.csv"), ("plan", "--target-width", "15%", "--from", "notes.csv")):
        expect(call(*words), 2, "'notes.csv': The table lacks 46 columns")
    expect(call("runs", "--store", "runs.csv"), 3, "The file runs.csv is not a store")
    expect(call("export", "runs.ods"), 2, "runs.ods")


def test_malformed_run_files_lose_nothing(call, tmp_path):
    call("import", SEED)
    hostile = tmp_path / "evil\x1b[2J\n name.json"
    hostile.write_text('{"test_name": ')
    done = call("import", SEED, str(hostile))
    expect(done, 2, "not JSON")
    assert "\x1b" not in done.stderr
    assert len(json.loads(call("runs", "--json").stdout)) == 1


def test_a_newer_store_is_left_alone(call, tmp_path):
    call("import", SEED)
    with sqlite3.connect(tmp_path / "runs.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    expect(call("run", "--profile", "cached"), 2, "9999", "newer vastbench")


def test_a_store_deleted_under_a_study_is_said_and_the_run_is_kept(tmp_path):
    profile = str(certain(tmp_path))
    words = ["study", "--name", "s", "--workers", "1", "--profile", profile, "--store", "s.sqlite"]
    with Started(*words, env=clean_environment(tmp_path), cwd=tmp_path) as process:
        process.stderr.readline()  # a first run is stored
        with Store(tmp_path / "s.sqlite") as store:
            until(lambda: store.leases(open_only=True))  # and the next is under way
        (tmp_path / "s.sqlite").unlink()
        said = process.stderr.read()
        assert process.wait() == StoreError.exit_code, said
    assert "its file was deleted" in said
    (kept,) = (tmp_path / "s.sqlite.unsaved").glob("*.json")
    assert str(kept) in said
    done = command("run", "--profile", profile, "--store", "s.sqlite", env=clean_environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Store(tmp_path / "s.sqlite") as store:
        assert kept.stem in {run.id for run in store.runs()}


@pytest.mark.parametrize("name", ["..", "-x", "", "a/b"])
def test_a_name_that_no_study_can_have_is_refused(call, name):
    expect(call("study", f"--name={name}"), 2, "cannot have the name", "hyphens")


def test_an_empty_name_selects_nothing(call):
    call("import", SEED)
    for words in (["runs"], ["export", "runs.csv"], ["report"]):
        expect(call(*words, "--study="), 2, "names no study")


def test_a_foreign_record_brings_no_study_of_an_impossible_name(call, tmp_path):
    call("import", SEED)
    call("export", "runs.json")
    (record,) = json.loads((tmp_path / "runs.json").read_text())
    (tmp_path / "foreign.json").write_text(json.dumps(record | {"id": "foreign", "study": "../../etc"}))
    expect(call("import", "foreign.json"), 2, "cannot have the name", "../../etc")


def test_a_store_that_cannot_be_written_stops_a_run_before_it_rents(call, tmp_path):
    path = tmp_path / "read-only.sqlite"
    Store(path).close()
    expect(call("run", "--store", f"sqlite:///file:{path}?mode=ro&uri=true"), 3, "readonly")


def test_unknown_and_unfit_notebook_parameters_are_refused(call):
    expect(call("notebook", "01-integration-test", "-p", "repeat=3"), 2, "repeat", "repeats")
    expect(call("notebook", "01-integration-test", "-p", "repeats=three"), 2, "int")
    expect(call("notebook", "01-integration-test", "-p", "speed=nan"), 2, "float")
    expect(call("notebook", "nowhere"), 2, "01-integration-test")


@pytest.mark.parametrize(
    "words", [["show", "nowhere"], ["show", "last"], ["show", "last", "--format", "xml"], ["offers", "gpu_name==="]]
)
def test_what_is_not_there_is_named(call, words):
    expect(call(*words), 2)


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "--study", "x"],
        ["runs", "--study", "x", "--json"],
        ["export", "x.parquet", "--study", "x"],
        ["export", "x.json", "--study", "x"],
        ["report", "--study", "x"],
        ["report", "--study", "x", "--data", "runs.json"],
        ["plan", "--target-width", "15%", "--study", "x"],
        ["compare", "x", "study:first"],
        ["compare", "study:x", "first"],
        ["compare", "a", "b", "--by", "gpu", "--study", "x"],
        ["study", "--resume", "--name", "x"],
    ],
    ids=" ".join,
)
def test_a_study_without_runs_is_an_error_that_lists_the_studies(call, tmp_path, words):
    (tmp_path / "runs.json").write_text(json.dumps([run_to_dict(read_run(SEED)) | {"study": "first"}]))
    assert call("import", "runs.json").returncode == 0
    done = call(*words)
    expect(done, 2, "'x'", "Studies there: first (1 run).")
    assert done.stdout == ""


def test_a_gpu_without_a_price_is_an_error_that_says_which_there_are(call):
    expect(call("prices", "--gpu", "H999"), 2, "'H999'", "A100 SXM", "RTX 4090")


@pytest.mark.parametrize(
    "words",
    [
        ["export", "x.parquet"],
        ["report", "--data", "runs.sqlite"],
        ["plan", "--target-width", "15%", "--from", "runs.sqlite"],
        ["compare", "runs.sqlite", "default-300"],
        ["runs", "--study", "x"],
        ["show"],
    ],
    ids=" ".join,
)
def test_a_store_without_a_run_is_an_error_where_runs_are_needed(call, tmp_path, words):
    Store(tmp_path / "runs.sqlite").close()
    expect(call(*words), 2, "There is no run", "runs.sqlite", "Make one: vastbench run")
    assert not list(tmp_path.glob("x.*"))


def test_doctor_checks_everything_and_names_the_isolation(call):
    findings = json.loads(call("doctor", "--json").stdout)
    assert [finding["subject"] for finding in findings] == ["key", "URL", "store", "SSH", "kernel", "isolation", "disk"]
    assert all(finding["fix"] for finding in findings if finding["state"] != "ok")
    assert any(name in findings[5]["found"] for name in ("namespace", "plain"))


def test_doctor_says_what_the_key_may_do_and_changes_nothing(call, tmp_path):
    def permissions(seed, **faults):
        with Emulator(certain(tmp_path), seed=seed, speed=50, faults=faults) as vast:
            variables = {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key, "VASTBENCH_SPEED": "50"}
            found = {one["subject"]: one for one in json.loads(call("doctor", "--json", **variables).stdout)}["permissions"]
            assert {event["event"] for event in vast.events} == set()
            return found["state"], found["found"]

    state, found = permissions(1)
    assert (state, found.startswith("misc, instance_read, instance_write, user_read, user_write")) == ("ok", True)
    state, found = permissions(1, **{"no-user-write": 1.0})
    assert (state, "user_write" in found, "attach" in found) == ("warn", True, True)


def test_doctor_live_names_what_a_key_lacks_that_may_do_almost_nothing(call, tmp_path):
    with Emulator(certain(tmp_path), seed=1, speed=50, faults={"restricted-key": 1.0}) as vast:
        variables = {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key, "VASTBENCH_SPEED": "50"}
        done = call("doctor", "--live", "--json", **variables)
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    assert (found["URL"]["state"], found["permissions"]["state"], done.returncode) == ("ok", "fail", 1)
    assert found["permissions"]["found"].startswith("the key lacks instance_write, without which nothing can be rented")
    assert "(and user_read, user_write)" in found["permissions"]["found"]
    assert {found[name]["state"] for name in ("account", "SSH key")} == {"warn"}


@pytest.mark.parametrize(
    ("faults", "states"),
    [({}, {"ok"}), ({"no-user-write": 1.0}, {"ok", "warn"})],
    ids=["a key that may do all", "a key that may not register SSH keys"],
)
def test_doctor_live_tells_what_is_told_for_nothing_and_rents_nothing(call, tmp_path, faults, states):
    with Emulator(certain(tmp_path), seed=1, speed=50, faults=faults) as vast:
        variables = {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key, "VASTBENCH_SPEED": "50"}
        done = call("doctor", "--live", "--json", "--save", str(tmp_path / "shapes.json"), **variables)
        assert vast.alive == []
        assert vast.api_key not in done.stdout + (tmp_path / "shapes.json").read_text()
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    asked = {name: found[name] for name in ("permissions", "account", "SSH key", "instances", "gone", "cost")}
    assert {one["state"] for one in asked.values()} == states
    assert "credit is $25" in asked["account"]["found"]
    assert "RTX 4090 at $" in asked["cost"]["found"]
    assert "GET /api/v1/instances/" in json.loads((tmp_path / "shapes.json").read_text())["answers"]


def test_doctor_live_removes_the_key_of_one_that_was_killed_and_no_other(call, tmp_path):
    with Emulator(certain(tmp_path), seed=1, speed=50) as vast, VastApi(vast.url, vast.api_key, clock=Clock(50)) as api:
        for name in ("vastbench-doctor", "laptop"):
            api.create_ssh_key(RunKey.generate(name).public_line)
        call("doctor", "--live", "--json", VAST_URL=vast.url, VAST_API_KEY=vast.api_key, VASTBENCH_SPEED="50")
        assert [one.public_key.split()[2] for one in api.list_ssh_keys().value] == ["laptop"]


def test_doctor_live_without_a_marketplace_says_why_and_asks_no_more(call, tmp_path):
    done = call("doctor", "--live", "--json", "--save", "shapes.json", VAST_URL="http://127.0.0.1:9", VAST_API_KEY="k")
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    assert (found["URL"]["state"], done.returncode) == ("fail", 1)
    assert "refused" in found["URL"]["found"]
    assert "cost" not in found
    assert "shapes.json is not written" in done.stderr
    assert not (tmp_path / "shapes.json").exists()


def test_doctor_fails_with_what_to_fix(call, tmp_path):
    (tmp_path / "file").write_text("x")
    done = call("doctor", "--store", str(tmp_path / "file" / "runs.sqlite"))
    assert done.returncode == 1
    assert "fail" in done.stdout
    assert "--store" in done.stdout


@pytest.mark.parametrize(
    "broken",
    [
        {"NO_PROXY": "fe80::/10", "HTTPS_PROXY": "http://127.0.0.1:1"},
        {"ALL_PROXY": "socks6://127.0.0.1:1"},
        {"HTTPS_PROXY": "foo:bar"},
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        {"LC_ALL": "xx_YY.ISO-8859-99"},
    ],
)
def test_doctor_outlives_what_it_is_there_to_diagnose(call, broken):
    done = call("doctor", "--json", VAST_API_KEY="k", VAST_URL="https://vast.example.invalid", **broken)
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert findings["URL"]["state"] == "warn"
    assert findings["URL"]["fix"]
    assert findings["kernel"]["state"] == "ok"
    for name, value in broken.items():
        if name not in ("NO_PROXY", "LC_ALL") and "127.0.0.1:1" not in value.replace("socks6", ""):
            assert name in findings["URL"]["found"]


def test_no_temporary_folder_is_named_with_its_cure(monkeypatch, capsys):
    monkeypatch.setattr("vastbench.interrupts.raise_on_signals", lambda: None)  # of this process, too
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    for words, said in ((["run", "--speed", "50"], "Set TMPDIR"), (["rehearse"], "TMPDIR"), (["emulator"], "TMPDIR")):
        monkeypatch.setattr(sys, "argv", ["vastbench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert "/nowhere" in told
        assert said in told


def test_a_check_of_doctor_that_fails_itself_is_a_finding(monkeypatch):
    def broken():
        raise ImportError("paramiko is broken")

    monkeypatch.setattr(doctor, "_ssh", broken)
    found = {finding.subject: finding for finding in doctor.examine()}
    assert found["SSH"].state == "fail"
    assert "paramiko is broken" in found["SSH"].found


def test_a_list_that_cannot_be_read_is_not_said_to_be_empty(call):
    for words in ((), ("--json",), ("--dry-run",)):
        done = call("reap", "--live", *words, VAST_URL="http://127.0.0.1:1", VAST_API_KEY=KEY, VASTBENCH_SPEED="50")
        assert (done.returncode, done.stdout) == (4, "")
        assert "127.0.0.1" in done.stderr


def test_a_store_that_is_not_there_is_not_said_to_hold_no_lease(call, tmp_path):
    done = call("reap", "--store", tmp_path / "mistyped.sqlite")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mistyped.sqlite" in done.stderr
    assert not (tmp_path / "mistyped.sqlite").exists()


def test_a_dry_run_closes_no_lease_of_a_dead_emulator(call, tmp_path):
    code = "import json; from vastbench.owner import owner; print(json.dumps(owner(emulator=True)))"
    ended = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    then = "2026-01-01T00:00:00+00:00"
    with Store(tmp_path / "runs.sqlite") as store:
        store.open_lease(LeaseRow("vb-x", "run-1", 1, "http://127.0.0.1:1", 1, 0.1, then, then, owner=ended))
        assert "Open: 1 lease" in call("reap", "--dry-run").stdout
        assert store.leases()[0].state == "intended"
        assert "No lease is open" in call("reap").stdout
        assert store.leases()[0].verdict == "already gone"


def test_a_signal_that_broke_something_on_its_way_is_told_as_one():
    broken = RuntimeError("cannot release un-acquired lock")
    broken.__context__ = Interrupted("Stopped by SIGINT.")
    assert _words(broken) == ("Stopped by SIGINT.", "", 130)
    assert _words(RuntimeError("x"))[2] == 1
