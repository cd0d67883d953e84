"""Reading runs from JSON files: vastbench's own records and the seed's shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.errors import SchemaError, SettingsError
from vastbench.io.seed import run_from_seed
from vastbench.record.document import run_from_dict
from vastbench.record.run import Run

if TYPE_CHECKING:
    import pandas as pd


def read_run(path: Path) -> Run:
    """The one run in the file at ``path``. Raises SettingsError like :func:`read_runs`, and for several runs."""
    runs = read_runs(path)
    if len(runs) != 1:
        raise SettingsError(f"The file {str(path)!r} holds {len(runs)} runs, not one.", hint="Name a file of one run.")
    return runs[0]


def read_runs(path: Path) -> list[Run]:
    """The runs in the file at ``path``: a run's record, or a list of them.

    Raises SettingsError when the file is missing, malformed or of neither shape.
    """
    plain = _read(path)
    return [_run(path, one) for one in (plain if isinstance(plain, list) else [plain])]


def _run(path: Path, plain: Any) -> Run:
    if not isinstance(plain, dict):
        raise SettingsError(f"The file {str(path)!r} holds a JSON {type(plain).__name__}, not a run.", hint="Check the file.")
    if "format" in plain:
        try:
            return run_from_dict(plain)
        except SettingsError as error:
            raise SettingsError(f"The file {str(path)!r}: {error.message}", hint=error.hint) from None
    try:
        return run_from_seed(plain)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, StopIteration) as error:
        raise SettingsError(
            f"The file {str(path)!r} is not a run in the seed's shape: {type(error).__name__} at {str(error)[:120]}.",
            hint="It needs test_name, timestamp, resources, ssh, timings, validation and cost; see data/runs/.",
        ) from None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The file {str(path)!r} cannot be read: {error.strerror}.", hint="Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The file {str(path)!r} is not JSON: {error}.", hint="Was it cut off while copying?") from None


def naming(path: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What ``read`` returns; a SchemaError that it raises names the file."""
    try:
        return read()
    except SchemaError as error:
        raise SchemaError(f"{str(path)!r}: {error.message}", hint=error.hint) from None
