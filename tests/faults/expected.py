"""How a run may end under each fault, and how many attempts it may take: the one table of both tests and benchmark."""

from collections.abc import Iterable

from vastbench.emulator.faults import FAULTS
from vastbench.record.conditions import Conditions

MOST = Conditions().attempts

_CALLS = {"passed", "api", "lease_not_closed"}
"""A call that fails four times in a row, or a create that fails once, ends a run; else it goes on. When the list cannot be read
after an ambiguous create either, the run says that an instance may be left."""

_ENDS: dict[str, tuple[set[str], int]] = {
    # fault: (ends, most attempts)
    **dict.fromkeys(("429-text", "429-detail", "429-json", "429-message"), ({"passed"}, 10)),  # waited for, not counted
    **dict.fromkeys(("500", "502", "503", "504", "520", "proxy-403"), (_CALLS, 1)),
    "slow-answers": ({"passed"}, 1),
    "api-down": (_CALLS, 1),
    **dict.fromkeys(("key-rejected-401", "key-rejected-404"), ({"passed", "key_rejected"}, 1)),
    **dict.fromkeys(("suspended", "search-quota", "credit-ends", "spend-limit"), ({"passed", "account_refused"}, 1)),
    **dict.fromkeys(("dropped-before-create", "dropped-after-create"), ({"passed", "api"}, 1)),
    "error-with-contract": ({"passed", "refused"}, 1),
    "success-false": ({"passed", "refused"}, 1),
    **dict.fromkeys(("offer-gone-400", "offer-gone-404", "offer-gone-410", "offer-gone-409"), ({"passed", "offer_gone"}, MOST)),
    **dict.fromkeys(("no-user-write", "key-forgotten", "label-cut", "label-null", "by-id-forms"), ({"passed"}, 1)),
    "restricted-key": ({"key_rejected"}, 1),
    "price-rose": ({"passed", "price"}, 1),
    "list-delayed": ({"passed"}, 1),
    "list-truncated": ({"passed"}, 1),
    "list-301": ({"passed", "api"}, 1),
    "list-410": ({"passed", "refused"}, 1),
    "status-null-long": ({"passed"}, 1),
    **dict.fromkeys(("loading-long", "status-flickers"), ({"passed"}, 1)),
    "stuck-loading": ({"deadline"}, 1),
    **dict.fromkeys(
        ("stopped-while-loading", "stopped", "error", "exited", "unknown", "offline", "oci-error", "pull-fails"),
        ({"boot_failed"}, 1),
    ),
    "vanishes": ({"vanished", "passed"}, 1),  # passed: when the work was done before
    **dict.fromkeys(("endpoints-late", "endpoints-change", "direct-late"), ({"passed"}, 1)),
    "onstart-missing": ({"passed"}, 1),
    **dict.fromkeys(("bare-image", "chatty-image"), ({"passed"}, 1)),
    "disk-full": ({"command_failed"}, 1),
    "forgets-files": ({"check_failed"}, 1),
    "clock-skewed": ({"passed"}, 1),
    "port-before-sshd": ({"passed"}, 1),
    "banner-late": ({"passed"}, 1),
    "banner-garbage": ({"passed"}, 1),
    "key-late": ({"passed"}, 1),
    "key-never": ({"deadline"}, 1),
    "host-key-changed": ({"host_key_changed"}, 1),
    "reset-mid-command": ({"passed", "connection_lost"}, 1),
    "half-open": ({"passed", "deadline"}, 1),
    "destroy-ignored": ({"passed", "lease_not_closed"}, 1),
    "destroy-504": ({"passed"}, 1),
    "gone-late": ({"passed"}, 1),
    "charges-late": ({"passed"}, 1),
}

EXPECTED = {name: _ENDS[name] for name in FAULTS}


_INSIDE_A_NAMESPACE = {"disk-full", "clock-skewed"}


def causes_of(faults: Iterable[str], isolation: str) -> set[str]:
    """How a run may end under these faults together: as under any of them, or with a lease that could not be closed in time."""
    faults = list(faults)
    struck = [name for name in faults if isolation == "namespace" or name not in _INSIDE_A_NAMESPACE]
    ends = set[str]().union(*(EXPECTED[name][0] for name in struck)) or {"passed"}
    return ends | {"lease_not_closed"} if len(faults) > 1 else ends


def most_attempts_of(faults: Iterable[str]) -> int:
    """How many attempts a run may take under these faults together."""
    return max(EXPECTED[name][1] for name in faults)
