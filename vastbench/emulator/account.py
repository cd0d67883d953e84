"""The one account of an emulator: its key, its SSH keys, what was paid in."""

import secrets
from datetime import UTC, datetime
from typing import Any

from vastbench.emulator.replies import Refusal

USER_ID = 424242
"""The account's id."""


class Account:
    """The account. ``api_key`` is drawn anew for each emulator; ``deposited`` is in dollars.

    ``lacks``: the permissions that ``api_key`` lacks, each with the status of the refusal (:mod:`vastbench.emulator.rights`).
    """

    def __init__(self, deposited: float, opened_epoch: float) -> None:
        """Open the account at a Unix time."""
        self.api_key = secrets.token_hex(32)
        self.deposited = deposited
        self.opened_epoch = opened_epoch
        self.lacks: dict[str, int] = {}
        self._keys: dict[int, dict[str, Any]] = {}
        self._next_key = 1

    def __repr__(self) -> str:
        """Say nothing about the key."""
        return f"Account({USER_ID})"

    def ssh_keys(self) -> list[dict[str, Any]]:
        """The SSH keys that new instances get."""
        return list(self._keys.values())

    def add_key(self, public_key: Any, epoch: float) -> dict[str, Any]:
        """Keep an SSH key. The marketplace keeps any text. Raises Refusal (400) for none, and for a private key."""
        key: dict[str, Any] = {
            "id": self.next_key_id(),
            "user_id": USER_ID,
            "public_key": checked_key(public_key),
            "created_at": datetime.fromtimestamp(epoch, UTC).isoformat(),
            "deleted_at": None,
        }
        self._keys[key["id"]] = key
        return key

    def next_key_id(self) -> int:
        """An id for one more key."""
        self._next_key += 1
        return self._next_key - 1

    def replace_key(self, key_id: int, public_key: Any) -> dict[str, Any]:
        """Change the text of a key. Raises Refusal (404) when there is none of that id."""
        self._need(key_id)["public_key"] = checked_key(public_key)
        return self._keys[key_id]

    def remove_key(self, key_id: int) -> None:
        """Forget a key. Raises Refusal (404) when there is none of that id."""
        self._need(key_id)
        del self._keys[key_id]

    def _need(self, key_id: int) -> dict[str, Any]:
        if key_id not in self._keys:
            raise Refusal(404, "not_found", f"SSH key {key_id} not found.")
        return self._keys[key_id]


def checked_key(public_key: Any) -> str:
    """The text of a key. Raises Refusal (400) for none, and for a private key."""
    if not isinstance(public_key, str) or not public_key.strip():
        raise Refusal(400, "no_ssh_key", "ssh_key is required.")
    if "PRIVATE KEY" in public_key:
        raise Refusal(400, "invalid_args", "ssh_key is a private key.")
    return public_key.strip()
