"""What the account's key may do: the marketplace's permissions, and which of them a call needs."""

from collections.abc import Mapping

from vastbench.emulator.faults import Faults
from vastbench.emulator.replies import Refusal

MISC, INSTANCE_READ, INSTANCE_WRITE = "misc", "instance_read", "instance_write"
USER_READ, USER_WRITE = "user_read", "user_write"

TEAM = 400
"""The status with which a team's key is refused what only a person's account has: SSH keys."""

_SEARCHES = ("/api/v0/bundles/", "/api/v0/search/")
_RENTALS = ("/api/v0/instances/", "/api/v1/instances/", "/api/v0/asks/", "/api/v0/launch_instance/")


def right_of(method: str, path: str) -> str | None:
    """The permission that a call needs; None for what any key may do."""
    if path.startswith(_SEARCHES):
        return MISC
    if path.startswith(_RENTALS):
        return INSTANCE_READ if method == "GET" else INSTANCE_WRITE
    if path.startswith("/api/v0/users/") or (path == "/api/v0/ssh/" and method == "GET"):
        return USER_READ
    return USER_WRITE if path.startswith("/api/v0/ssh/") else None


def check(lacks: Mapping[str, int], method: str, path: str) -> None:
    """Raise the Refusal of a key that ``lacks`` the permission for a call, with the status that goes with it."""
    right = right_of(method, path)
    if right is None or right not in lacks:
        return
    if lacks[right] == TEAM:
        raise Refusal(TEAM, "team_ssh_keys_not_supported", "A team has no SSH keys of its own.")
    raise Refusal(lacks[right], "not_authorized", f"This key lacks the permission {right}.")


def taken_by(faults: Faults, seed: int) -> dict[str, int]:
    """The permissions that faults take from the key, each with the status that its calls are refused with."""
    lacks: dict[str, int] = {}
    if faults.strikes("restricted-key"):
        lacks |= dict.fromkeys((INSTANCE_WRITE, USER_READ, USER_WRITE), 403)
    if faults.strikes("no-user-write"):
        lacks[USER_WRITE] = 403 if seed % 2 else TEAM
    return lacks
