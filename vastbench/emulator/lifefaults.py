"""Faults of one instance's life, drawn when it is rented."""

from dataclasses import dataclass
from typing import Any

from vastbench.emulator.faults import Faults


@dataclass(frozen=True, slots=True)
class Fate:
    """What goes wrong with one instance; seconds, 0 where nothing does.

    ``ends_as``: the fault that comes instead of running, ``words`` what its message says then. ``vanishes_s``: how long after
    running it is gone. ``silent_s``: how long its ports accept before SSH answers there. ``unnamed_s``, ``direct_unnamed_s``,
    ``astray_s``: how long after running no address is named, not the direct one, and wrong ones. ``flickers``: from when until
    when after the create fields are shown that are not true, and these. ``label_length``: what is shown of its label.
    """

    price_factor: float
    list_lag_s: float
    null_s: float
    loading_s: float
    ends_as: str | None
    words: str
    flickers: tuple[float, float, dict[str, str]] | None
    unnamed_s: float
    astray_s: float
    direct_unnamed_s: float
    proxy_dead: bool
    label_length: int | None
    vanishes_s: float
    no_onstart: bool
    full_disk: bool
    bare_image: bool
    chatty_image: bool
    skewed_clock: bool
    silent_s: float
    key_lag_s: float
    gone_lag_s: float
    charges_lag_s: float


_ENDS = ("stopped-while-loading", "stopped", "error", "unknown", "offline", "pull-fails")

_PULLS = (
    "Error response from daemon: manifest for nvidia/cuda:gone not found: manifest unknown: manifest unknown",
    "toomanyrequests: You have reached your unauthenticated pull rate limit.",
    "failed to register layer: write /usr/lib/libcublas.so: no space left on device",
    "Error response from daemon: pull access denied for me/private, repository does not exist or may require 'docker login'",
    "unexpected EOF while reading the layer",
)
_NOWHERE = 1
"""A port of the loopback on which nothing listens."""


def fate(faults: Faults, number: int, *, proxy_dead: bool) -> Fate:
    """The fate of the account's instance of that ``number``. ``proxy_dead``: whatever else, the proxy leads nowhere."""
    return Fate(
        price_factor=faults.drawn("price-rose", 1.5, 3, number) or 1.0,
        list_lag_s=faults.drawn("list-delayed", 20, 45, number),
        null_s=faults.drawn("status-null-long", 60, 240, number),
        loading_s=faults.drawn("loading-long", 60, 240, number),
        ends_as=next((name for name in _ENDS if faults.strikes(name, number)), None),
        words=_PULLS[faults.stream("pull-fails", number).below(len(_PULLS))],
        flickers=_flicker(faults, number),
        unnamed_s=faults.drawn("endpoints-late", 5, 20, number),
        astray_s=faults.drawn("endpoints-change", 5, 20, number),
        direct_unnamed_s=(late := faults.drawn("direct-late", 5, 20, number)),
        proxy_dead=proxy_dead or late > 0,
        label_length=0 if faults.strikes("label-null", number) else int(faults.drawn("label-cut", 10, 40, number)) or None,
        vanishes_s=faults.drawn("vanishes", 2, 20, number),
        no_onstart=faults.strikes("onstart-missing", number),
        full_disk=faults.strikes("disk-full", number),
        bare_image=faults.strikes("bare-image", number),
        chatty_image=faults.strikes("chatty-image", number),
        skewed_clock=faults.strikes("clock-skewed", number),
        silent_s=faults.drawn("port-before-sshd", 5, 20, number),
        key_lag_s=faults.drawn("key-late", 20, 60, number),
        gone_lag_s=faults.drawn("gone-late", 20, 60, number),
        charges_lag_s=faults.drawn("charges-late", 600, 3600, number),
    )


def shown(row: dict[str, Any], fate: Fate, since_created_s: float, since_running_s: float | None) -> dict[str, Any]:
    """What the marketplace shows of an instance in place of its true ``row``."""
    if fate.label_length is not None and row["label"] is not None:
        row["label"] = row["label"][: fate.label_length] or None
    if since_running_s is None:
        if fate.flickers is not None and fate.flickers[0] <= since_created_s < fate.flickers[1]:
            row |= fate.flickers[2]
        return row
    if fate.proxy_dead or since_running_s < fate.astray_s:
        row["ssh_port"] = _NOWHERE
    if since_running_s < fate.astray_s and "22/tcp" in row.get("ports", {}):
        row["ports"]["22/tcp"][0]["HostPort"] = str(_NOWHERE)
    if since_running_s < max(fate.unnamed_s, fate.direct_unnamed_s):
        row.pop("ports", None)
    if since_running_s < fate.unnamed_s:
        row |= {"ssh_host": None, "ssh_port": None}
    return row


def _flicker(faults: Faults, number: int) -> tuple[float, float, dict[str, str]] | None:
    if not faults.strikes("status-flickers", number):
        return None
    stream = faults.stream("status-flickers", number)
    begins = stream.between(5, 10)
    fields = ({"actual_status": "offline"}, {"actual_status": "exited"}, {"status_msg": _PULLS[1]})
    return begins, begins + stream.between(2, 3.5), fields[stream.below(3)]
