"""Where the notebooks and data that come with vastbench lie: in a checkout, or inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shared(kind: str) -> Path:
    """The folder of ``kind``: ``notebooks``, ``data/profiles``, ``data/runs`` …"""
    installed = _PACKAGE / "_share"
    return (installed if installed.is_dir() else _PACKAGE.parent) / kind
