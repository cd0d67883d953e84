"""Faults of one instance's life, drawn when it is rented."""

from dataclasses import dataclass

from vastbench.emulator.faults import Faults


@dataclass(frozen=True, slots=True)
class Fate:
    """What goes wrong with one instance; seconds, 0 where nothing does.

    ``ends_as``: the status that comes instead of running (``stopped``: it is stopped while it loads). ``vanishes_s``: how long
    after running it is gone. ``silent_s``: how long its ports accept before SSH answers there.
    """

    price_factor: float
    list_lag_s: float
    null_s: float
    ends_as: str | None
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


_ENDS = {"stopped-while-loading": "stopped", "unknown": "unknown", "offline": "offline"}


def fate(faults: Faults, number: int) -> Fate:
    """The fate of the account's instance of that ``number``."""
    return Fate(
        price_factor=faults.drawn("price-rose", 1.5, 3, number) or 1.0,
        list_lag_s=faults.drawn("list-delayed", 20, 45, number),
        null_s=faults.drawn("status-null-long", 60, 240, number),
        ends_as=next((status for name, status in _ENDS.items() if faults.strikes(name, number)), None),
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
