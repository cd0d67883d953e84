"""A stand-in Vast.ai on loopback. It imports nothing from the client's rooms.

::

    with vastbench.emulator(profile="seed") as vast:
        ...  # vast.url, vast.api_key
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from vastbench.emulator.server import Emulator, serve

__all__ = ["Emulator", "serve"]


class _CallableModule(ModuleType):
    # The package is called emulator, and so is what an analyst wants to write: vastbench.emulator(...). A module can be both
    # only if its class has a __call__.
    def __call__(
        self,
        profile: str | Path = "default",
        *,
        seed: int | None = None,
        speed: float = 1.0,
        port: int = 0,
        truth: Path | None = None,
        faults: Mapping[str, float] | None = None,
    ) -> Emulator:
        """An emulator with these settings; see :class:`Emulator`."""
        return Emulator(profile, seed=seed, speed=speed, port=port, truth=truth, faults=faults)


sys.modules[__name__].__class__ = _CallableModule
