"""Reading runs from JSON files: vastbench's own records and the seed's shape."""

import json
from pathlib import Path
from typing import Any

from vastbench.errors import SettingsError
from vastbench.report.seed import run_from_seed
from vastbench.run import Run, run_from_dict


def read_run(path: Path) -> Run:
    """The run in the file at ``path``. Raises SettingsError when it is missing, malformed or of neither shape."""
    plain = _read(path)
    if "format" in plain:
        return run_from_dict(plain)
    try:
        return run_from_seed(plain)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, StopIteration) as error:
        raise SettingsError(
            f"The file {str(path)!r} is not a run in the seed's shape: {type(error).__name__} at {str(error)[:120]}.",
            hint="It needs test_name, timestamp, resources, ssh, timings, validation and cost; see data/runs/.",
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The file {str(path)!r} cannot be read: {error.strerror}.", hint="Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The file {str(path)!r} is not JSON: {error}.", hint="Was it cut off while copying?") from None
    if not isinstance(plain, dict):
        raise SettingsError(f"The file {str(path)!r} holds a JSON {type(plain).__name__}, not a run.", hint="Check the file.")
    return plain
