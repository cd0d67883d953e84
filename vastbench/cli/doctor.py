"""What this machine has for a run, and what to fix: key and its permissions, URL, store, SSH, kernel, isolation, disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from vastbench.clock import Clock
from vastbench.errors import ApiError, KeyRejected, NotFound, Refused, SettingsError, VastbenchError
from vastbench.settings import LIVE_URL, Settings, default_store

if TYPE_CHECKING:
    from vastbench.vast.api import VastApi

MIN_FREE_GB = 1.0

NEEDED = ("misc", "instance_read", "instance_write")
"""The permissions of a key without which nothing can be rented."""

OPTIONAL = {
    "user_read": "leases name no account",
    "user_write": "runs attach their SSH keys to the instance alone",
}
"""What happens without the others."""

NOBODYS = 0
"""An id that neither an instance nor an SSH key has."""


class Finding(NamedTuple):
    """One check. ``state``: ok, warn (only some uses are hindered) or fail. ``fix`` is empty when there is nothing to do."""

    subject: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def examine(
    store: str | None = None, api_key_file: Path | None = None, more: Callable[[Settings], list[Finding]] | None = None
) -> list[Finding]:
    """Check everything; nothing is rented and nothing is left behind. Never raises for what it finds.

    ``more`` checks what else there is to know of the marketplace, once it has answered; that it does not is a failure then.
    """
    try:
        settings = Settings.from_environment(api_key_file=api_key_file)
    except VastbenchError as error:
        return [Finding("settings", "fail", error.message, error.hint)]
    place = store or str(default_store())
    checks: dict[str, Callable[[], Finding | None]] = {
        "key": lambda: _key(settings),
        "URL": lambda: _url(settings),
        "permissions": lambda: None if more else _permissions(settings),
        "store": lambda: _store(place),
        "SSH": _ssh,
        "kernel": _kernel,
        "isolation": _isolation,
        "disk": lambda: _disk(place),
    }
    found = [one for subject, check in checks.items() if (one := whatever_happens(subject, check)) is not None]
    if more is None:
        return found
    if any(one.subject == "URL" and one.state == "ok" for one in found):
        return found + more(settings)
    return [one._replace(state="fail") if one.subject in ("key", "URL") and one.state == "warn" else one for one in found]


def whatever_happens(subject: str, check: Callable[[], Finding | None]) -> Finding | None:
    """What ``check`` finds of ``subject``; what it raises is a finding too."""
    try:
        return check()
    except VastbenchError as error:
        return Finding(subject, "fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001 (a broken machine is what this is there to describe)
        return Finding(subject, "fail", f"could not be checked: {type(error).__name__}: {error}", "Mend that first.")


def _key(settings: Settings) -> Finding:
    if settings.vast_api_key is None:
        fix = "Only --live needs one: set VAST_API_KEY or run `vastai set api-key`."
        return Finding("key", "warn", "no API key found", fix)
    return Finding("key", "ok", "an API key is set (not shown)")


def _url(settings: Settings) -> Finding:
    from vastbench.vast.api import VastApi

    if settings.vast_api_key is None:
        return Finding("URL", "warn", f"{settings.vast_url} (not tried without a key)", "Only --live needs it.")
    try:
        with VastApi(settings.vast_url, settings.vast_api_key, clock=Clock(settings.vastbench_speed)) as api:
            try:
                api.current_user()
            except KeyRejected:
                if permissions(api) is None:  # it is no key at all, or one for nothing
                    raise
    except VastbenchError as error:
        return Finding("URL", "warn", error.message, error.hint or f"Only --live needs it; the real one is {LIVE_URL}.")
    return Finding("URL", "ok", f"{settings.vast_url} answers and knows the key")


def _permissions(settings: Settings) -> Finding | None:
    from vastbench.vast.api import VastApi

    if settings.vast_api_key is None:
        return None
    try:
        with VastApi(settings.vast_url, settings.vast_api_key, clock=Clock(settings.vastbench_speed)) as api:
            return permissions(api)
    except SettingsError:  # what keeps us from asking at all is said of the URL
        return None


def permissions(api: VastApi) -> Finding | None:
    """What the key may do, as far as that can be asked for nothing and changes nothing; None when nobody answers."""
    from vastbench.vast.query import OfferQuery

    asked: dict[str, Callable[[], object]] = {
        "misc": lambda: api.search_offers(OfferQuery.parse("num_gpus=1", limit=1)),
        "instance_read": api.list_instances,
        "instance_write": lambda: api.label_instance(NOBODYS, "doctor"),
        "user_read": api.current_user,
        "user_write": lambda: api.delete_ssh_key(NOBODYS),
    }
    lacking = []
    for name, ask in asked.items():
        try:
            ask()
        except ApiError as error:
            if error.status in (401, 403) or error.code == "team_ssh_keys_not_supported":
                lacking.append(name)
            elif not isinstance(error, Refused):  # of what does not exist, which only those are told who may ask
                return None
    if set(lacking) == set(asked):
        return None
    if needed := [name for name in lacking if name in NEEDED]:
        more = f" (and {', '.join(name for name in lacking if name in OPTIONAL)})" * (len(lacking) > len(needed))
        found = f"the key lacks {', '.join(needed)}, without which nothing can be rented{more}"
        return Finding("permissions", "fail", found, "Make one that has them: docs/live.md.")
    found = f"the key lacks {' and '.join(lacking)}: {', '.join(OPTIONAL[name] for name in lacking)}"
    if lacking:
        return Finding("permissions", "warn", found, "docs/live.md says what each is for.")
    return Finding("permissions", "ok", f"{', '.join(asked)}, as far as free calls tell")


def _store(place: str) -> Finding:
    from vastbench.store import Store

    try:
        with Store.existing(place) as store:
            still = store.leases(open_only=True)
    except NotFound as missing:
        folder = _first_folder(place)
        if folder.is_dir() and os.access(folder, os.W_OK):
            return Finding("store", "ok", f"{missing.message.rstrip('.')} yet; the first run makes it")
        return Finding("store", "fail", f"{missing.message} It cannot be made in {folder}.", "Name another with --store.")
    except VastbenchError as error:
        return Finding("store", "fail", error.message, error.hint)
    if still:
        from vastbench.record.formats import counted

        labels = ", ".join(f"{lease.label} until {lease.deadline_at[:19]}Z" for lease in still[:5])
        fix = "`vastbench reap --live` closes those of processes that have ended."
        return Finding("store", "warn", f"{counted(len(still), 'lease', 'is open')}: {labels}", fix)
    return Finding("store", "ok", f"{store.place}, no open lease")


def _ssh() -> Finding:
    try:
        import paramiko

        from vastbench.ssh.keys import RunKey

        RunKey.generate("doctor")
    except (ImportError, VastbenchError) as error:
        return Finding("SSH", "fail", f"no SSH: {error}", "Reinstall vastbench: pip install -e .")
    return Finding("SSH", "ok", f"paramiko {paramiko.__version__}, ed25519 keys")


def _kernel() -> Finding:
    from importlib.metadata import entry_points

    with warnings.catch_warnings(action="ignore"):  # of a home that cannot be written: they are content with another folder
        from jupyter_client.kernelspec import KernelSpecManager

        kernels = KernelSpecManager().find_kernel_specs()
    if "python3" not in kernels:
        return Finding("kernel", "fail", "no python3 Jupyter kernel", "Run: python -m ipykernel install --sys-prefix")
    if "vastbench" not in {entry.name for entry in entry_points(group="papermill.engine")}:
        return Finding("kernel", "fail", "the papermill engine is not registered", "Install vastbench: pip install -e .")
    return Finding("kernel", "ok", "python3, papermill engine vastbench")


def _isolation() -> Finding:
    from vastbench.emulator.choosing import choose_isolation

    found = asyncio.run(choose_isolation())
    if found.name == "namespace":
        if found.own_network:
            return Finding("isolation", "ok", f"namespace ({found.reason})")
        fix = "Emulated instances share this machine's network; allow network namespaces for full isolation."
        return Finding("isolation", "warn", f"namespace ({found.reason})", fix)
    return Finding(
        "isolation",
        "warn",
        f"{found.name} ({found.reason})",
        "Emulated instances are plain directories; allow unprivileged user namespaces for full isolation.",
    )


def _first_folder(place: str) -> Path:
    """The folder of the store's file, or what is there of the way to it; of a database server nothing is known."""
    folder = Path.cwd() if "://" in place else Path(place).expanduser().absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder


def _disk(place: str) -> Finding:
    folder = _first_folder(place)
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < MIN_FREE_GB:
        return Finding("disk", "fail", f"{free_gb:.2f} GB free in {folder}", f"Free at least {MIN_FREE_GB:g} GB.")
    return Finding("disk", "ok", f"{free_gb:.1f} GB free in {folder}")
