"""Result files: texts that the marketplace puts on its file server some time after they were asked for."""

import secrets
from collections.abc import Callable

from vastbench.emulator.pace import Pace


class Files:
    """Texts by an unguessable name, each from the emulated reading at which it is due."""

    def __init__(self, pace: Pace) -> None:
        """Hold nothing."""
        self._pace = pace
        self._held: dict[str, tuple[float, Callable[[], str]]] = {}

    def promise(self, write: Callable[[], str], lag_s: float) -> str:
        """A name under which ``write()``'s text can be read ``lag_s`` emulated seconds from now."""
        name = secrets.token_urlsafe(24)
        self._held[name] = (self._pace.now() + lag_s, write)
        return name

    def read(self, name: str) -> str | None:
        """The text of that name; None when there is none, or not yet."""
        due, write = self._held.get(name, (float("inf"), str))
        return write() if due <= self._pace.now() else None
