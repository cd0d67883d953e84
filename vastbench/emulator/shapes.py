"""Answers in the shapes that ``vastbench doctor --live --save`` wrote down: the same names and types, the emulator's values."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vastbench.errors import SettingsError

_PLACEHOLDERS: tuple[tuple[str, Any], ...] = (
    ("null", None),
    ("string", ""),
    ("integer", 0),
    ("number", 0.0),
    ("boolean", False),
    ("array", []),
    ("object", {}),
)


def read_shapes(path: Path) -> dict[str, Any]:
    """The shapes of successful answers in that file, by method and path. Raises SettingsError for another file."""
    hint = "Make one: vastbench doctor --live --save FILE"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        answers = {1: document["answers"]}[document["schema"]]
        return {endpoint: shape for endpoint, known in answers.items() for status, shape in known.items() if status == "200"}
    except OSError as error:
        raise SettingsError(f"The shapes {path} cannot be read: {error.strerror}.", hint=hint) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SettingsError(f"{path} holds no shapes of answers.", hint=hint) from None


def conform(value: Any, shape: Mapping[str, Any], *, changing: bool) -> Any:
    """``value`` in that shape, as far as it can be. ``changing``: of something that looks different at other times, so that a
    name which the shape lacks is kept."""
    if isinstance(value, dict) and "object" in shape:
        names = shape["object"]
        more = {name: _placeholder(inner) for name, inner in names.items() if name not in value and "absent" not in inner}
        kept = {
            name: conform(inner, names[name], changing=changing) if name in names else inner
            for name, inner in value.items()
            if changing or name in names or "*" in names
        }
        return kept | {name: inner for name, inner in more.items() if name != "*"}
    if isinstance(value, list) and shape.get("array"):
        return [conform(inner, shape["array"], changing=changing) for inner in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not {"integer", "number", "null"} & {*shape}:
        return str(value) if "string" in shape else value
    if isinstance(value, int) and not isinstance(value, bool) and "number" in shape and "integer" not in shape:
        return float(value)
    return value


def _placeholder(shape: Mapping[str, Any]) -> Any:
    return next((value for kind, value in _PLACEHOLDERS if kind in shape), None)
