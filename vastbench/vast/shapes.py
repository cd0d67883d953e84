"""The shapes of the marketplace's answers: names and types without values, to be sent with a bug report and replayed.

A shape maps each type that was seen to what is inside: ``{"integer": {}, "null": {}}``, ``{"array": shape}``, ``{"object":
{name: shape}}``. A name that only some objects have is also ``absent``; one that is no plain word, so may be data, is ``*``.
"""

import json
import re
import threading
from collections.abc import Mapping
from typing import Any

from vastbench.vast.replies import Reply
from vastbench.vast.usage import CallRecord

SCHEMA = 1

Shape = dict[str, Any]

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]{0,60}")


def shape_of(value: object) -> Shape:
    """The shape of a JSON value."""
    if isinstance(value, dict):
        named: dict[str, Shape] = {}
        for name, inner in value.items():
            known = name if _NAME.fullmatch(name) else "*"
            named[known] = merged(named[known], shape_of(inner)) if known in named else shape_of(inner)
        return {"object": named}
    if isinstance(value, list):
        inside: Shape = {}
        for inner in value:
            inside = merged(inside, shape_of(inner)) if inside else shape_of(inner)
        return {"array": inside}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {kinds.get(type(value), "null"): {}}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Shape:
    """The shape of what has either shape."""
    both = {**one, **other}
    if "object" in one and "object" in other:
        left, right = one["object"], other["object"]
        absent: Shape = {"absent": {}}
        both["object"] = {name: merged(left.get(name, absent), right.get(name, absent)) for name in {**left, **right}}
    if "array" in one and "array" in other:
        both["array"] = merged(one["array"], other["array"])
    return both


class Shapes:
    """Collects the shapes of the answers of one client; give it as ``observe``."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._seen: dict[str, dict[int, Shape]] = {}

    def __call__(self, record: CallRecord, reply: Reply | None) -> None:
        """Note one answer; one that is no JSON is noted as text."""
        if reply is None:
            return
        try:
            shape = shape_of(json.loads(reply.body))
        except (ValueError, RecursionError):
            shape = {"text": {}}
        with self._lock:
            known = self._seen.setdefault(record.endpoint, {})
            known[reply.status] = merged(known[reply.status], shape) if reply.status in known else shape

    def to_dict(self) -> dict[str, object]:
        """What was seen, ready for JSON: by endpoint and status."""
        with self._lock:
            answers = {endpoint: {str(status): shape for status, shape in one.items()} for endpoint, one in self._seen.items()}
        return {"schema": SCHEMA, "answers": answers}
