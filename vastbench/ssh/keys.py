"""The keys on both sides: ours, made for one run, and the machine's, pinned when it first answers."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from vastbench.errors import HostKeyChanged, UsageError


class RunKey:
    """An ed25519 key pair for one run. It lives in memory and reaches a disk only through :meth:`save`."""

    __slots__ = ("_pem", "pkey", "public_line")

    def __init__(self, private: Ed25519PrivateKey, comment: str) -> None:
        """Wrap ``private``; ``comment`` ends the public line and must be a single word."""
        if not comment or not comment.isprintable() or any(c.isspace() for c in comment):
            raise UsageError(f"The key comment is {comment!r}.", hint="Give one printable word, such as vastbench-20260102.")
        self._pem = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.public_line: str = f"{line} {comment}"
        """The public half as one line of an ``authorized_keys`` file, without a newline."""
        self.pkey: paramiko.PKey = paramiko.Ed25519Key.from_private_key(io.StringIO(self._pem.decode()))
        """The pair as paramiko takes it."""

    @classmethod
    def generate(cls, comment: str = "vastbench") -> RunKey:
        """A new pair from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate(), comment)

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` of the public half, as ``ssh-keygen -l`` prints it."""
        return str(self.pkey.fingerprint)

    def save(self, path: Path) -> None:
        """Write the private half to ``path``, mode 0600, in OpenSSH's format.

        Raises :class:`UsageError` when anything, a link included, is already there, or when the file cannot be written.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(path, flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                # A umask can only take rights away; an ACL inherited from the folder could add some.
                os.fchmod(file.fileno(), 0o600)
                file.write(self._pem)
        except FileExistsError:
            raise UsageError(f"{path} exists.", hint="A private key never replaces a file: give another path.") from None
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}.", hint="Give a path in a writable folder."
            ) from error

    def __repr__(self) -> str:
        """The fingerprint, and nothing of the private half."""
        return f"RunKey({self.fingerprint})"

    def __reduce__(self) -> str:
        """Refuse to be pickled: a copy could reach a disk or another machine."""
        raise TypeError("a RunKey is never pickled: its private half stays in this process")


class HostKeyPin:
    """The host keys of one instance, each pinned when its address first answered.

    Make one per instance: another instance legitimately shows another key behind the same address. Safe to share between
    threads.
    """

    def __init__(self) -> None:
        """Start without any pinned key."""
        self._keys: dict[str, paramiko.PKey] = {}
        self._lock = threading.Lock()

    def check(self, address: str, key: paramiko.PKey) -> None:
        """Pin ``key`` for ``address`` (``host:port``) on first contact; raise :class:`HostKeyChanged` when it is another."""
        with self._lock:
            pinned = self._keys.setdefault(address, key)
        if pinned.asbytes() != key.asbytes():
            raise HostKeyChanged(
                f"{address} showed the host key {key.fingerprint}, not the pinned {pinned.fingerprint}.",
                hint="Somebody else may answer there: destroy the instance and rent another; nothing was sent to it.",
            )

    def algorithms(self, address: str) -> tuple[str, ...]:
        """The signature algorithms that go with the pinned key, to be asked for first; empty before first contact."""
        with self._lock:
            pinned = self._keys.get(address)
        if pinned is None:
            return ()
        return ("rsa-sha2-512", "rsa-sha2-256") if pinned.get_name() == "ssh-rsa" else (pinned.get_name(),)

    def fingerprint(self, address: str) -> str | None:
        """``SHA256:…`` of the key pinned for ``address``; None before first contact."""
        with self._lock:
            pinned = self._keys.get(address)
        return None if pinned is None else str(pinned.fingerprint)
