"""A restic repository that the machine itself reaches: incremental, encrypted, verified; on S3, over SFTP or REST.

The data go straight from the machine to the repository. What a snapshot held, and that it is whole, is kept in a place here, as
for archives. The repository's address, its password and the store's keys reach the machine on the standard input of the command
that needs them and live in that one process's environment: not in a process list, a history, or on the machine's disk.
"""

from __future__ import annotations

import io
import json
import os
import platform
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from pathlib import Path

from vastbench.errors import CommandFailed, SnapshotError, SnapshotRefused, UsageError
from vastbench.snapshots.place import Place, Writable
from vastbench.snapshots.snapshot import Snapshot
from vastbench.ssh.command import Readable
from vastbench.ssh.session import CommandResult, Session

RESTIC = "restic"
"""What a snapshot is compressed by that lies in a repository."""

PASSWORD = "RESTIC_PASSWORD"  # noqa: S105 (the name of a variable)

PASSED_ON = (
    PASSWORD,
    "RESTIC_REST_USERNAME",
    "RESTIC_REST_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
)
"""Variables of this process that restic is given on the machine."""

SHORT_S = 120.0
"""Clock seconds that a command may take which moves no data."""

INSTALL_S = 300.0
"""Clock seconds that installing restic may take."""

_WITH_SECRETS = 'while IFS= read -r line && [ -n "$line" ]; do export "$line"; done; exec "$0" "$@"'

_APT = "{ apt-get install -y -q restic || { apt-get update -q && apt-get install -y -q restic; }; } >/dev/null 2>&1 </dev/null"


class Repository:
    """A place whose archives lie in a restic repository.

    ``url``: as restic takes it: ``s3:https://…``, ``sftp:…``, ``rest:…``, or a folder of the machine. ``place``: keeps what
    the snapshots held. ``environment``: password and keys, by default those of :data:`PASSED_ON` in this process's own.
    """

    def __init__(self, url: str, place: Place, environment: Mapping[str, str] | None = None) -> None:
        """Raises UsageError without a password."""
        known = os.environ if environment is None else environment
        self._environment = {name: known[name] for name in PASSED_ON if known.get(name)}
        if PASSWORD not in self._environment:
            raise UsageError("The restic repository has no password.", hint=f"Set {PASSWORD}; without it nothing is restored.")
        self._environment["RESTIC_REPOSITORY"] = url
        if wrong := next((name for name, value in self._environment.items() if "\n" in value or "\0" in value), None):
            raise UsageError(f"{wrong} has more than one line.", hint="Give a value of one line.")
        self._place = place
        self._programs: dict[str, str] = {}

    def described_in(self, place: Place) -> Repository:
        """The same repository, with another place that says what its snapshots held."""
        other = copy(self)
        other._place = place
        return other

    @property
    def where(self) -> str:
        """Where the snapshots are described."""
        return self._place.where

    def write(self, name: str) -> AbstractContextManager[Writable]:
        """As the place does."""
        return self._place.write(name)

    def read(self, name: str) -> AbstractContextManager[Readable]:
        """As the place does."""
        return self._place.read(name)

    def names(self) -> list[str]:
        """As the place does."""
        return self._place.names()

    def remove(self, name: str) -> None:
        """As the place does."""
        self._place.remove(name)

    def store(self, session: Session, folder: str, begun: Snapshot, limit: float) -> Snapshot:
        """Back ``folder`` up: the snapshot with its size and restic's id of it, which is a SHA-256.

        Raises SnapshotError when restic fails, and what a stream raises.
        """
        self._made(session)
        words = ["backup", "--json", "--host=vastbench", f"--tag={begun.id}", folder]
        said, done = self._said(session, words, limit)
        summary = next((one for one in said if one.get("message_type") == "summary"), {})
        stored, found = summary.get("data_added_packed", summary.get("data_added")), summary.get("snapshot_id")
        if not isinstance(stored, int) or not isinstance(found, str):
            raise SnapshotError("restic ended without a summary.", hint="Install a newer restic on the image: 0.14 or later.")
        return replace(begun, bytes_stored=stored, sha256=self._whole_id(session, found), stream_s=done.received - done.sent)

    def lay(self, session: Session, snapshot: Snapshot, part: str, limit: float) -> tuple[str, float]:
        """Restore into the folder ``part``: the folder in it that is the snapshot's, and the clock seconds."""
        paths = self._described(session, snapshot).get("paths")
        if not isinstance(paths, list) or len(paths) != 1 or not str(paths[0]).startswith("/"):
            raise SnapshotRefused(
                f"The snapshot {snapshot.id} is refused: restic says it is of {paths!r}.", hint="Take another."
            )
        done = self._run(session, ["restore", snapshot.sha256, f"--target={part}"], limit)
        return f"{part}{paths[0]}", done.received - done.sent

    def check(self, session: Session, snapshots: Sequence[Snapshot], limit: float) -> None:
        """Have the whole repository read and hashed. Raises SnapshotRefused when that fails or one of ``snapshots`` is gone."""
        for one in snapshots:
            self._described(session, one)
        try:
            # Without a lock: it would have to be the only one, and others may be taking snapshots.
            self._run(session, ["check", "--no-lock", "--read-data"], limit)
        except SnapshotError as error:
            if "contains errors" not in error.message:
                raise
            raise SnapshotRefused(error.message, hint="The repository is damaged: restore another snapshot.") from error

    def _described(self, session: Session, snapshot: Snapshot) -> Mapping[str, object]:
        """What the repository says of the snapshot. Raises SnapshotRefused when it does not have it."""
        rows, _ = self._said(session, ["snapshots", "--json", f"--tag={snapshot.id}"], SHORT_S)
        found = next((row for row in rows if row.get("id") == snapshot.sha256), None)
        if found is None:
            raise SnapshotRefused(
                f"The snapshot {snapshot.id} is refused: the repository does not have it.", hint="Restore another one."
            )
        return found

    def _whole_id(self, session: Session, short: str) -> str:
        rows, _ = self._said(session, ["snapshots", "--json", short], SHORT_S)
        return str(next((row["id"] for row in rows if str(row.get("id")).startswith(short)), short))

    def _made(self, session: Session) -> None:
        """Make the repository if there is none. Raises SnapshotError for a wrong password and a place that is not reached."""
        try:
            self._run(session, ["cat", "config"], SHORT_S)
        except SnapshotError as missing:
            if "wrong password" in missing.message or "no key found" in missing.message:
                raise
            try:
                self._run(session, ["init"], SHORT_S)
            except SnapshotError:
                raise missing from None

    def _said(self, session: Session, words: Sequence[str], limit: float) -> tuple[list[Mapping[str, object]], CommandResult]:
        """The objects that restic prints, one in a line or in a list."""
        heard = bytearray()
        done = self._run(session, words, limit, heard)
        try:
            said = [json.loads(line) for line in bytes(heard).splitlines() if line.startswith((b"{", b"["))]
        except ValueError as error:
            raise SnapshotError(f"What restic {words[0]} said cannot be read: {error}.", hint="Use another image.") from error
        rows = [row for one in said for row in (one if isinstance(one, list) else [one])]
        return [row for row in rows if isinstance(row, dict)], done

    def _run(self, session: Session, words: Sequence[str], limit: float, heard: bytearray | None = None) -> CommandResult:
        program = self._program(session)
        command = " ".join(map(shlex.quote, [program, "--no-cache", "--quiet", *words]))
        secret = "".join(f"{name}={value}\n" for name, value in self._environment.items()) + "\n"
        try:
            return session.stream(
                f"sh -c {shlex.quote(_WITH_SECRETS)} {command}",
                source=io.BytesIO(secret.encode()),
                sink=None if heard is None else heard.extend,
                timeout_s=limit,
            )
        except CommandFailed as failed:
            last = " ".join(failed.stderr_tail.split())[-300:]
            raise SnapshotError(
                f"{session.endpoint}: restic {words[0]} ended with exit code {failed.exit_code_remote}: {last or 'no word'}.",
                hint=f"Does the machine reach the repository, and is {PASSWORD} the right one?",
            ) from failed

    def _program(self, session: Session) -> str:
        """restic on the machine: the image's own, else this machine's if it can run there, else what apt installs."""
        key = session.pin.fingerprint(session.endpoint.address) or ""
        if key not in self._programs:
            self._programs[key] = next(filter(None, self._found(session)), "")
        if not self._programs[key]:
            raise SnapshotError("The machine has no restic, and none can be installed.", hint="Choose an image that has it.")
        return self._programs[key]

    def _found(self, session: Session) -> Iterator[str]:
        yield session.run("command -v restic", check=False).stdout.strip()
        ours, uname = shutil.which("restic"), platform.uname()
        if ours and session.run("uname -sm").stdout.split() == [uname.system, uname.machine]:
            sent = f"/tmp/vastbench-restic-{secrets.token_hex(6)}"  # noqa: S108 (on the machine; a random name)
            session.put(Path(ours), sent, timeout_s=INSTALL_S)
            runs = session.run(f"chmod 700 {sent} && {sent} version >/dev/null", check=False)
            yield sent if runs.exit_code == 0 else ""
        yield session.run(f"{_APT}; command -v restic", check=False, timeout_s=INSTALL_S).stdout.strip()
