"""JSON that every reader takes: what is missing or not finite is null; it is written here and nowhere else."""

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """``value`` with None in place of every number in it that is not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
    return value


def dumps(value: Any, *, ensure_ascii: bool = False, **style: Any) -> str:
    """``value`` as JSON text, in a ``style`` of :func:`json.dumps`. Raises TypeError for what JSON has no word for."""
    return json.dumps(plain(value), ensure_ascii=ensure_ascii, allow_nan=False, **style)
