"""How other tools look, and what the emulator was asked meanwhile.

A script polls, notes the time when an answer is there, sleeps, and polls again; it tries SSH with a new OpenSSH process each
time. So what it can know of a moment is (the note before, this note], and its figure is the note. Readings are the clock's.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import httpx

from vastbench.clock import Clock
from vastbench.emulator.app import build
from vastbench.record.moments import Moment
from vastbench.ssh.keys import RunKey

SSH_CAP_S, SSH_REST_S = 5.0, 10.0
"""What one try may take, and the rest after one that failed; clock seconds."""

DESTROY_TRIES = 30

STATUS_CALLS = ("GET /api/v0/instances/{id}/", "GET /api/v1/instances/")
"""The calls that ask for a status."""

OFFICIAL = Path(__file__).resolve().parents[1] / ".venv-vastai" / "bin" / "vastai"
"""The marketplace's own command-line client, where ``make test`` puts it."""

Seen = dict[str, Any]
"""An instance as the API describes it."""


class Looking(Protocol):
    """A way to ask about one instance and to destroy it."""

    period_s: float

    def look(self, instance: int) -> Seen | None:
        """The instance; None when there was no answer that says anything (a 429, for instance)."""

    def destroy(self, instance: int) -> bool:
        """Whether the instance is acknowledged to be destroyed."""


class ById:
    """GET by id over one connection, ``period_s`` of sleep between two; an answer other than 200 says nothing."""

    def __init__(self, url: str, api_key: str, period_s: float) -> None:
        self.period_s = period_s
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=20, limits=limits)

    def look(self, instance: int) -> Seen | None:
        reply = self._http.get(f"/api/v0/instances/{instance}/")
        return reply.json()["instances"] if reply.status_code == 200 else None

    def destroy(self, instance: int) -> bool:
        return self._http.delete(f"/api/v0/instances/{instance}/").status_code == 200


class OfficialClient:
    """``vastai show instance ID --raw``: a new process each time, ``period_s`` of sleep between two."""

    def __init__(self, url: str, api_key: str, period_s: float, home: Path) -> None:
        if not OFFICIAL.exists():
            raise SystemExit(f"The official client is not at {OFFICIAL}: `make test` puts it there.")
        self.period_s = period_s
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "XDG_"))}
        self._environment = kept | {"HOME": str(home), "VAST_URL": url, "VAST_API_KEY": api_key, "VASTAI_NO_UPDATE_CHECK": "1"}

    def look(self, instance: int) -> Seen | None:
        try:
            said = json.loads(self._say("show", "instance", str(instance), "--raw"))
        except ValueError:
            return None
        return said if isinstance(said, dict) and "actual_status" in said else None

    def destroy(self, instance: int) -> bool:
        return f"destroying instance {instance}" in self._say("destroy", "instance", str(instance), "-y")

    def _say(self, *words: str) -> str:
        command = [str(OFFICIAL), *words]
        nothing = subprocess.DEVNULL
        done = subprocess.run(command, env=self._environment, stdin=nothing, capture_output=True, text=True, check=False)
        return done.stdout


class OpenSsh:
    """The ``ssh`` program with a key of its own in ``folder``; each command over a connection of its own."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._key = folder / "id"
        key = RunKey.generate("peer")
        key.save(self._key)
        self.public_line = key.public_line

    def run(self, at: Seen, command: str, *, cap_s: float = 60.0) -> subprocess.CompletedProcess[str] | None:
        """Run ``command`` through the proxy's address; None when ``cap_s`` passed first."""
        options = ["BatchMode=yes", "LogLevel=ERROR", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        words = ["ssh", "-F", "none", "-i", str(self._key), "-p", str(at["ssh_port"])]
        words += [word for option in options for word in ("-o", option)]
        try:
            return subprocess.run(
                [*words, f"root@{at['ssh_host']}", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self._clock.socket_timeout(cap_s),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None


def wait_running(way: Looking, instance: int, clock: Clock, *, created: float, deadline_s: float) -> tuple[Moment, Seen | None]:
    """Poll until the status is ``running``; the moment, unseen after ``deadline_s``, and the instance as last seen."""
    no, last = created, None
    while True:
        seen = way.look(instance)
        noted = clock.now()
        last = seen or last
        if seen is not None and seen["actual_status"] == "running":
            return Moment.between(no, noted, "poll"), last
        no = no if seen is None else noted
        if noted > created + deadline_s:
            return Moment.between(no, None, "poll"), last
        clock.sleep(way.period_s)


def wait_ssh(ssh: OpenSsh, at: Seen, clock: Clock, running: Moment, *, deadline_s: float) -> Moment:
    """Try a command until one succeeds. A first try that does proves nothing but that ``running`` came before."""
    no = running.lower
    while True:
        done = ssh.run(at, "true", cap_s=SSH_CAP_S)
        noted = clock.now()
        if done is not None and done.returncode == 0:
            return Moment.between(no, noted, "ssh")
        no = noted
        if noted > running.upper + deadline_s:
            return Moment.between(no, None, "ssh")
        clock.sleep(SSH_REST_S)


def destroy(way: Looking, instance: int, clock: Clock) -> Moment:
    """Destroy the instance, asking again until it is acknowledged: from the last request to its answer."""
    for _ in range(DESTROY_TRIES):
        sent = clock.now()
        if way.destroy(instance):
            return Moment.between(sent, clock.now(), "action")
        clock.sleep(way.period_s)
    raise SystemExit(f"The emulator did not acknowledge in {DESTROY_TRIES} tries that instance {instance} is destroyed.")


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


@dataclass
class Door:
    """What stands before an emulator of this process and keeps count: (call, HTTP status, seconds) of every answer."""

    answers: list[tuple[str, int, float]] = field(default_factory=list)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Stand before the emulators that are started meanwhile."""
        with patch("vastbench.emulator.engine.build", self._build):
            yield

    def _build(self, market: Any) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        application = build(market)

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            began = time.monotonic()

            async def sending(message: Scope) -> None:
                if message["type"] == "http.response.start":
                    call = f"{scope['method']} {re.sub(r'/[0-9]+/', '/{id}/', scope['path'])}"
                    self.answers.append((call, message["status"], time.monotonic() - began))
                await send(message)

            await application(scope, receive, sending)

        return counted
