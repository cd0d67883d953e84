"""For nbval (``-p tests.kernels``): its kernels listen on files.

A port that is free when it is chosen may be taken by another test by the time that the kernel listens on it.
"""

import itertools
import tempfile
from typing import Any

from jupyter_client.manager import KernelManager

_PLACE = tempfile.TemporaryDirectory(prefix="kernels-")
_NUMBERS = itertools.count()
_begin = KernelManager.__init__


def _on_files(self: KernelManager, *args: Any, **known: Any) -> None:
    _begin(self, *args, **{"transport": "ipc", "ip": f"{_PLACE.name}/{next(_NUMBERS)}"} | known)


KernelManager.__init__ = _on_files  # type: ignore[method-assign]
