"""Faults of one machine's SSH server."""

import asyncssh

from vastbench.emulator.faults import Faults

_GARBAGE = (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", bytes(range(128, 256)) * 4, b"\n", b"SSH\n")


class SshTrouble:
    """What goes wrong with connections and commands of the account's instance of that ``number``."""

    def __init__(self, faults: Faults, number: int) -> None:
        """Draw whether its host key changes, and whether each connection finds an empty disk."""
        self._faults = faults
        self._number = number
        changes = faults.strikes("host-key-changed", number)
        self.other_host_key = asyncssh.generate_private_key("ssh-ed25519") if changes else None
        self.forgets_files = faults.strikes("forgets-files", number)

    def banner_delay_s(self) -> float:
        """How late the server names itself on a new connection."""
        return self._faults.drawn("banner-late", 1.5, 3.5, self._number)

    def garbage(self) -> bytes | None:
        """What a new connection gets instead of an SSH server, None for nothing."""
        if not self._faults.strikes("banner-garbage", self._number):
            return None
        return _GARBAGE[self._faults.stream("banner-garbage", self._number).below(len(_GARBAGE))]

    def swallows(self) -> bool:
        """Whether the connection swallows everything from this command on."""
        return self._faults.strikes("half-open", self._number)

    def resets(self) -> bool:
        """Whether the connection is reset before this command's exit status."""
        return self._faults.strikes("reset-mid-command", self._number)
