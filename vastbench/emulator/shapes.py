"""Answers in the shapes that ``vastbench doctor --live --save`` wrote down: the same names and types, the emulator's values;
and refusals of what its key may not do."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vastbench.emulator.rights import TEAM, USER_WRITE, right_of
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


class Answers(NamedTuple):
    """What a probe tells of a marketplace: ``shapes`` of successful answers by method and path, and which permissions its key
    ``lacks``, each with the status of the refusal."""

    shapes: dict[str, Any]
    lacks: dict[str, int]


def read_shapes(path: Path) -> Answers:
    """What that file tells. Raises SettingsError for another file."""
    hint = "Make one: vastbench doctor --live --save FILE"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        answers = {1: document["answers"]}[document["schema"]]
        shapes = {endpoint: shape for endpoint, known in answers.items() for status, shape in known.items() if status == "200"}
        return Answers(shapes, _lacking(answers))
    except OSError as error:
        raise SettingsError(f"The shapes {path} cannot be read: {error.strerror}.", hint=hint) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SettingsError(f"{path} holds no shapes of answers.", hint=hint) from None


def _lacking(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The permissions whose every call was refused; only JSON counts, since a page comes from something in between."""
    seen: dict[str, set[int]] = {}
    for endpoint, known in answers.items():
        right = right_of(*endpoint.split(" ", 1))
        if right is not None:
            seen.setdefault(right, set()).update(int(status) for status, shape in known.items() if "object" in shape)
    team = set(answers.get("POST /api/v0/ssh/", ())) == {str(TEAM)}
    lacks = {right: min(statuses) for right, statuses in seen.items() if statuses and statuses <= {401, 403}}
    return lacks | ({USER_WRITE: TEAM} if team else {})


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
