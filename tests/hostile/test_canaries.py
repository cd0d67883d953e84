"""No secret lies anywhere after a study with all that comes of it; and the search for them finds planted ones."""

import base64
import gzip
import json
import os
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import traceback
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import nbformat
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nbformat.v4 import new_code_cell, new_notebook

from tests.hostile.between import Answer, Call, between
from tests.hostile.canaries import EMULATOR_KEY, SEED, pem, planted, private_key, search
from tests.hostile.leaping import Leaping
from tests.processes import VASTBENCH, clean_environment, command
from tests.profiles import CERTAIN, certain
from tests.vast.market import KEY, Script, client
from vastbench.emulator import Emulator
from vastbench.errors import VastbenchError
from vastbench.ssh.keys import RunKey
from vastbench.vast.models import CreateRequest

pytestmark = pytest.mark.timeout(600)  # the first test waits for a dozen commands, each with a limit of its own

PLANTED = b"c4nary-51e2/that+must:not~be_seen-anywhere"
TEXT = PLANTED.decode()


def sqlite_with(folder: Path, *, in_log_only: bool) -> None:
    database = sqlite3.connect(folder / "runs.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (text)")
    database.execute("INSERT INTO t VALUES (?)", ("x" * 5000 + TEXT,))
    database.commit()
    if in_log_only:
        KEPT.append(database)  # closing it would fold the log into the file
    else:
        database.close()


KEPT: list[sqlite3.Connection] = []


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.json.gz", gzip.compress(json.dumps({"key": TEXT}).encode()))


PLACES = {
    "a text file": lambda folder: (folder / "log").write_bytes(b"Bearer " + PLANTED),
    "a file's name": lambda folder: (folder / TEXT.replace("/", "-")).touch() or (folder / quote(TEXT, safe="")).touch(),
    "percent-encoded": lambda folder: (folder / "url").write_text(quote(TEXT, safe="")),
    "JSON": lambda folder: (folder / "a.json").write_text(json.dumps({"a": json.dumps({"key": TEXT})})),
    "UTF-16": lambda folder: (folder / "utf16").write_text(TEXT, encoding="utf-16"),
    "base64": lambda folder: (folder / "b64").write_bytes(base64.b64encode(PLANTED)),
    "base64 of a header": lambda folder: (folder / "b64").write_bytes(base64.b64encode(b"user:" + PLANTED + b"!")),
    "wrapped base64": lambda folder: (folder / "b64").write_text(
        "\n".join(textwrap.wrap(base64.b64encode(PLANTED).decode(), 9))
    ),
    "hex": lambda folder: (folder / "hex").write_text(PLANTED.hex()),
    "gzip": lambda folder: (folder / "a.gz").write_bytes(gzip.compress(PLANTED)),
    "gzip in zip": lambda folder: zipped(folder / "a.zip"),
    "parquet": lambda folder: pq.write_table(pa.table({"label": ["x", TEXT]}), folder / "a.parquet", compression="zstd"),
    "SQLite": lambda folder: sqlite_with(folder, in_log_only=False),
    "SQLite's write-ahead log": lambda folder: sqlite_with(folder, in_log_only=True),
    "an image in a page": lambda folder: (folder / "a.html").write_bytes(
        b'<img src="data:image/png;base64,' + base64.b64encode(gzip.compress(b"x" * 200 + PLANTED + os.urandom(64))) + b'">'
    ),
}


@pytest.mark.parametrize("plant", PLACES.values(), ids=PLACES)
def test_the_search_finds_a_key_that_is_planted_in(plant, tmp_path):
    plant(tmp_path)
    assert search({"key": PLANTED}, [tmp_path])


@pytest.mark.parametrize("width", [64, 70, 76, 1000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\\n", "\n> "])
def test_the_search_finds_a_private_key_in_any_wrapping_without_its_head(width, line_end):
    secrets, other = private_key(pem(b"\7" * 32)), private_key(pem(b"\7" * 31 + b"8"))
    body = "".join(pem(b"\7" * 32).decode().splitlines()[1:-1])
    text = line_end.join(textwrap.wrap(body, width))
    assert search(secrets, [], {"log": text})
    assert not search(other, [], {"log": text})


def test_the_search_finds_nothing_where_nothing_is(tmp_path):
    (tmp_path / "public").write_text(RunKey(Ed25519PrivateKey.from_private_bytes(b"\7" * 32), "canary").public_line)
    assert search(private_key(pem(b"\7" * 32)) | {"key": PLANTED}, [tmp_path], {"log": "nothing"}) == []


IN_EMULATOR = f"""
import secrets
made = secrets.token_hex
secrets.token_hex = lambda n=None: {EMULATOR_KEY!r} + made(8) if n == 32 else made(n)
"""
IN_CLIENT = f"""
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as Key
Key.generate = classmethod(lambda cls: Key.from_private_bytes({SEED!r}))
"""
REPORT = """
import sys
from pathlib import Path
from vastbench.report.build import build_report, of_study
from vastbench.store import Store
with Store(sys.argv[1]) as store:
    source = of_study(store.study("canary"))
build_report(source, Path(sys.argv[2]), notebooks=[sys.argv[3]])
"""
NOTEBOOK = new_notebook(
    cells=[
        new_code_cell("data = None  # type: Optional[str]", metadata={"tags": ["parameters"]}),
        new_code_cell("import os, vastbench\nphases = vastbench.load(data)\nprint(dict(os.environ))\nphases"),
    ],
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
)
"""Small beside ours, and tells all that its kernel was given."""
WITH_FAILURES = CERTAIN.replace("oci_error = { p = 0,", "oci_error = { p = 0.5,")


class Watching(threading.Thread):
    """Notes the command line and the environment of every process below one, while it runs."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.commands: dict[int, str] = {}
        self.environments: dict[int, str] = {}
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.2):  # a look goes through every process of the machine
            try:
                for child in [self._process, *self._process.children(recursive=True)]:
                    self.commands[child.pid] = "\0".join(child.cmdline()) or self.commands.get(child.pid, "")
                    self.environments[child.pid] = repr(child.environ())
            except psutil.Error:
                continue

    def stop(self) -> None:
        self._over.set()
        self.join(5)


def hooked(folder: Path, code: str) -> str:
    """A PYTHONPATH on which ``code`` runs first in every Python."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


class Studied:
    """What a few emulated runs and everything made of them left: folders, outputs, and the processes that were seen."""

    def __init__(self, outside: Path, folder: Path) -> None:
        self.folder, self.texts, self.seen = folder, {}, defaultdict(list)
        (folder / "tmp").mkdir(parents=True)
        profile = outside / "failing.toml"
        profile.write_text(WITH_FAILURES)
        emulator = clean_environment(outside, PYTHONPATH=hooked(outside / "emulator", IN_EMULATOR))
        options = ["--profile", str(profile), "--seed", "3", "--speed", "40"]
        with subprocess.Popen([VASTBENCH, "emulator", *options], stdout=subprocess.PIPE, env=emulator, text=True) as process:
            exports = dict(process.stdout.readline().removeprefix("export ").strip().split("=", 1) for _ in range(3))
            self.environment = clean_environment(folder, PYTHONPATH=hooked(outside / "client", IN_CLIENT)) | exports
            self.environment |= {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "cache")}
            self.key = exports["VAST_API_KEY"]
            self._make()
            process.terminate()

    def _make(self) -> None:
        store = str(self.folder / "runs.sqlite")
        live = ["--live", "--budget", "5", "--yes", "--store", store]
        self.call("study", VASTBENCH, "--debug", "study", "--name", "canary", "--repeats", "4", "--workers", "1", *live)
        parameters = ["-p", "live=True", "-p", "budget_usd=5", "-p", "repeats=1", "-p", f"store={self.folder / 'nb.sqlite'}"]
        self.call("notebook", VASTBENCH, "notebook", "01-integration-test", *parameters, "--out", str(self.folder / "out"))
        self.call("emulated", VASTBENCH, "run", "--profile", "cached", "--seed", "1", "--store", str(self.folder / "nb.sqlite"))
        looks = self.folder / "looks.ipynb"
        nbformat.write(NOTEBOOK, looks)
        self.call("report", sys.executable, "-c", REPORT, store, str(self.folder / "report"), str(looks))
        for name in ("runs.parquet", "runs.json"):
            self.call(f"export {name}", VASTBENCH, "export", str(self.folder / name), "--store", store)
        for name in ("doctor", "runs", "show"):
            self.call(name, VASTBENCH, "--debug", name, "--store", store)
        self.call("reconcile", VASTBENCH, "--debug", "reconcile", "--live", "--store", store)
        self.call("a wrong key", VASTBENCH, "--debug", "offers", "--live", env={"VAST_API_KEY": self.key[:-1] + "x"})

    def call(self, name: str, *command: str, env: dict[str, str] | None = None) -> None:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = self.environment | (env or {})
        with subprocess.Popen(command, env=environment, cwd=self.folder, **pipes) as process:
            watching = Watching(process.pid)
            out, err = process.communicate(timeout=120)
            watching.stop()
        self.texts |= {f"{name}, stdout": out, f"{name}, stderr": err}
        self.texts |= {f"{name}, arguments of {pid}": text for pid, text in watching.commands.items()}
        self.seen[name] = [(watching.commands[pid], text) for pid, text in watching.environments.items()]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    return Studied(tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("study") / "home")


def test_a_study_with_all_that_is_made_of_it_holds_no_secret(studied):
    made = {path.name for path in studied.folder.rglob("*")}
    assert {
        "runs.sqlite",
        "nb.sqlite",
        "report.json",
        "index.html",
        "looks.ipynb",
        "runs.parquet",
        "runs.json",
    } <= made
    assert b"passed" in studied.texts["runs, stdout"]
    assert b"boot_failed" in studied.texts["runs, stdout"]
    assert b"rejected the API key" in studied.texts["a wrong key, stderr"]
    assert b"instances of ours" in studied.texts["reconcile, stderr"]
    assert search(planted(), [studied.folder], studied.texts) == []


def test_the_canaries_were_there_to_be_found(studied):
    """The runs used the planted keys: the public half of one is in the account's log of what it was told."""
    assert studied.key.startswith(EMULATOR_KEY)
    environment = studied.environment | {"CODE": "1"}
    code = "from vastbench.ssh.keys import RunKey; print(RunKey.generate()._pem.decode())"
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60).stdout
    assert search(private_key(pem()), [], {"stdout": shown})


LINKERS = {"sh", "gcc", "cc", "collect2", "ld", "objdump", "ldconfig"}
"""What Python's ctypes calls to find a library, as an SSH library does when it is imported."""


def children(studied, name):
    """The processes below a command, without linkers and those that became nothing else yet: command line and environment."""
    (own, _), *below = studied.seen[name]
    others = [(command, environment) for command, environment in below if command != own]
    return [one for one in others if not (Path(one[0].split("\0")[0]).name in LINKERS and "lib" in one[0])]


@pytest.mark.parametrize("name", ["report", "doctor", "emulated", "study", "runs"])
def test_no_child_of_a_command_gets_the_key_unless_it_rents(studied, name):
    below = children(studied, name)
    assert below or name not in {"report", "emulated"}  # a doctor's probes may be over between two looks
    assert not below or name not in {"study", "runs"}
    assert [command for command, environment in below if studied.key in environment] == []


def test_the_kernel_of_a_notebook_that_rents_live_gets_the_key(studied):
    kernels = [environment for command, environment in children(studied, "notebook") if "ipykernel" in command]
    assert any(studied.key in environment for environment in kernels)


def test_what_is_left_in_temporary_folders_is_nothing(studied):
    assert list((studied.folder / "tmp").rglob("*")) == []


def test_a_saved_private_key_is_for_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        RunKey.generate().save(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


FAILING = [
    (401, {"error": "auth_error", "msg": f"Invalid user key {KEY}"}),
    (404, {"error": "no_such_ask", "msg": KEY}),
    (410, {"error": KEY}),
    (429, KEY),
    (302, KEY),
    (503, KEY),
    (200, {"success": False, "msg": KEY}),
    (200, "\x00" + json.dumps({"success": True, "instance_api_key": "its-own-key"})),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("late"),
    httpx.RemoteProtocolError("garbled"),
]
CALLS = [
    lambda api: api.create_instance(7, CreateRequest("ubuntu", 10, "run-1")),
    lambda api: api.list_instances(),
    lambda api: api.destroy_instance(900),
    lambda api: api.logs(900),
]


@pytest.mark.parametrize("reply", FAILING, ids=lambda reply: str(reply)[:40])
@pytest.mark.parametrize("call", CALLS)
def test_no_error_shows_a_key_not_even_with_its_local_variables(call, reply):
    with pytest.raises(VastbenchError) as caught:
        call(client(Script(reply), Leaping()))
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in frames.stack if "vastbench" in frame.filename and "tests" not in frame.filename]
    locals_ = "".join(repr(frame.locals) for frame in ours)
    shown = {
        "str": str(caught.value),
        "repr": repr(caught.value),
        "traceback": "".join(traceback.format_exception(caught.value)),
    }
    assert search({"key": KEY.encode(), "instance's key": b"its-own-key"}, [], shown) == []
    if isinstance(reply, Exception):  # otherwise the marketplace itself repeated the key in what it sent
        assert KEY not in locals_


def echoing(key: str, rng: random.Random) -> Callable[[Call], Answer]:
    """A gateway that repeats the key, in ever another form, in every text of every answer, and answers itself now and then."""
    forms = [
        key,
        "".join(f"\\u{ord(c):04x}" for c in key),
        "".join(f"%{ord(c):02x}" for c in key),
        base64.b64encode(f"Bearer {key}".encode()).decode(),
        key.encode().hex(),
        key[:40],
        "x" * 240 + key,
    ]

    def echo(call: Call) -> Answer:
        said = rng.choice(forms)
        if not call.is_create and call.method != "DELETE" and rng.random() < 0.2:
            body = rng.choice(
                [f'{{"error": "{said}", "msg": "no: {said}"}}', f"<p>{said}</p>", f'{{"success": false, "msg": "{said}"']
            )
            return rng.choice([200, 400, 404, 429, 500, 502]), body.encode()
        status, body = call.send()
        value = json.loads(body)
        for row in [value, *(value.get("instances") or []), *(value.get("offers") or [])] if isinstance(value, dict) else []:
            if isinstance(row, dict):
                row |= dict.fromkeys(["msg", "status_msg", "geolocation", "cpu_name", "email"], "ECHO") | {"ECHO": 1}
        return status, json.dumps(value).replace("ECHO", said).encode()

    return echo


def test_answers_that_echo_the_key_leave_it_nowhere(tmp_path):
    home, texts = tmp_path / "home", {}
    home.mkdir()
    with (
        Emulator(certain(tmp_path), seed=4, speed=60) as vast,
        between(vast.url, echoing(vast.api_key, random.Random(1))) as url,
    ):
        environment = clean_environment(home, VAST_URL=url, VAST_API_KEY=vast.api_key, VASTBENCH_SPEED="60")
        environment |= {"VASTBENCH_STORE": str(home / "runs.sqlite")}
        live = ["--live", "--budget", "5", "--yes"]
        for words in (
            ["study", "--name", "e", "--repeats", "3", *live],
            ["offers", "--live"],
            ["reap", "--live", "--yes"],
            ["doctor"],
        ):
            done = command("--debug", *words, env=environment, cwd=home, timeout_s=150)
            texts |= {f"{words[0]}, stdout": done.stdout.encode(), f"{words[0]}, stderr": done.stderr.encode()}
        for name in ("runs.parquet", "runs.json"):
            assert command("export", home / name, env=environment, cwd=home).returncode == 0
        key = vast.api_key.encode()
    assert b"***" in b"".join(texts.values())
    pieces = {"the key": key, **{f"from {start} on": key[start : start + 11] for start in range(len(key) - 10)}}
    assert search(pieces, [home], texts) == []
