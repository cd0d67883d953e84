"""The public keys that one instance accepts, and the moments from which it does."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import asyncssh

from vastbench.emulator.truth import TruthLog

if TYPE_CHECKING:
    from vastbench.emulator.contract import Contract


def fingerprint(public_key: str) -> str | None:
    """``SHA256:…`` of a public key in OpenSSH's one-line form; None when it is no key."""
    try:
        return asyncssh.import_public_key(public_key.strip()).get_fingerprint()
    except (asyncssh.KeyImportError, ValueError):
        return None


class Keyring:
    """Installs keys on an instance's machine and records when each could first be used.

    ``sealed``: nothing is ever installed (a machine on which authentication never works).
    """

    def __init__(self, contract: "Contract", truth: TruthLog, *, sealed: bool) -> None:
        """Start with no key."""
        self._contract = contract
        self._truth = truth
        self._sealed = sealed
        self._installed: dict[str, tuple[str, int, int]] = {}
        self._open: tuple[int, int] | None = None

    def install(self, public_keys: Iterable[str]) -> None:
        """Accept these keys as well, from now on; texts that are no keys are kept out."""
        if self._sealed:
            return
        known = {mark: text for text in public_keys if (mark := fingerprint(text)) is not None}
        new = {mark: text for mark, text in known.items() if mark not in self._installed}
        if not new:
            return
        before = time.monotonic_ns()
        self._contract.machine.authorize([*(text for text, _, _ in self._installed.values()), *new.values()])
        after = time.monotonic_ns()
        for mark, text in new.items():
            self._installed[mark] = (text, before, after)
            self._record("key_installed", before, after, mark)
            if self._open is not None:
                self._record("ssh_ready", before, after, mark)

    def remove(self, public_key: str) -> None:
        """Accept this key no longer."""
        self._installed.pop(fingerprint(public_key) or "", None)
        self.renew()

    def renew(self) -> None:
        """Tell the machine again what it accepts (after it was replaced, or a key was removed)."""
        self._contract.machine.authorize([text for text, _, _ in self._installed.values()])

    def opened(self, *, late: bool) -> None:
        """SSH answers: since the truth log's last ``ssh_open``, or (``late``) since now; so are installed keys usable."""
        mine = self._contract.id
        event = next(e for e in reversed(self._truth.events) if e["event"] == "ssh_open" and e["instance"] == mine)
        now = time.monotonic_ns()
        self._open = (now, now) if late else (event["not_before_ns"], event["ns"])
        for mark, (_, before, after) in self._installed.items():
            self._record("ssh_ready", max(before, self._open[0]), max(after, self._open[1]), mark)

    def closed(self) -> None:
        """SSH is closed."""
        self._open = None

    def _record(self, event: str, before_ns: int, after_ns: int, mark: str) -> None:
        at = after_ns * self._truth.speed / 1e9
        self._truth.write(event, self._contract.id, at_s=at, not_before_ns=before_ns, key=mark)
