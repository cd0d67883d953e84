"""A stand-in Vast.ai on loopback, for any client. It imports nothing from the client's rooms.

Parameters
----------
profile
    How it behaves: a name in data/profiles or a TOML file.
seed
    The same one repeats the same draws.
speed
    Emulated seconds per real second.
port
    Where it listens; 0 for any free one.
truth
    A file for its log of the truth.
faults
    How often each of its faults happens, by name, as a part of 1.

Examples
--------
>>> with vastbench.emulator(profile="seed") as vast:
...     vast.url, bool(vast.api_key)  # what VAST_URL and VAST_API_KEY are for
('http://127.0.0.1:...', True)
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
