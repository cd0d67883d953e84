"""Takes secrets out of what was received, before anything is made of it."""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

WINDOW, STEP, ENCODED_STEP = 8, 4, 16
"""How much of a secret is looked for at a time, in bytes, and from which places of it: 11 in a row are never overlooked, and
neither are 23 of an encoding."""

NUMBER = 32
"""Digits alone are a number, and stay, until there are so many of them."""

LEARNT = 16
"""How many of the secrets that it was taught are kept, the latest: those of instances that are gone open nothing."""

HIDDEN = b"***"

_ESCAPE = re.compile(rb'\\+(?:u00([0-7][0-9a-fA-F])|(?=["/]))|%([2-7][0-9a-fA-F])')


class Redactor:
    """Replaces secrets by ``***`` wherever bytes repeat them, whole or in part.

    The first is known as it is and escaped for JSON or a URL, in base64, in hex and in UTF-16, in capitals or not; those that
    it is taught later only as they are and escaped. May be shared by threads.
    """

    def __init__(self, secret: str) -> None:
        """Begin with one secret; one of less than :data:`WINDOW` characters is none."""
        encoded = _encoded(secret.encode()) if len(secret) >= WINDOW else ()
        self._first = [*_plain(secret), *((form.lower(), ENCODED_STEP) for form in encoded)]
        self._learnt: deque[tuple[bytes, int]] = deque(maxlen=LEARNT)

    def learn(self, secret: str) -> None:
        """Take out another secret from now on."""
        self._learnt.extend(_plain(secret))

    def text(self, text: str) -> str:
        """``text`` without the secrets."""
        return self(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def __call__(self, body: bytes) -> bytes:
        """``body`` without the secrets."""
        plain, marks = _unescaped(body)
        forms = [*self._first, *self._learnt.copy()]
        spans = sorted(span for form, step in forms for span in _found(plain, form, step))
        kept: list[bytes] = []
        last = 0
        for begin, end in spans:
            first, after = _place(marks, begin), _place(marks, end - 1)
            escape = _ESCAPE.match(body, after)
            after = escape.end() if escape and (escape[1] or escape[2]) else after + 1
            if first > last or not kept:
                kept += [body[last:first], HIDDEN]
            last = max(last, after)
        return b"".join([*kept, body[last:]]) if kept else body


def _plain(secret: str) -> list[tuple[bytes, int]]:
    """The secret as it is, with the step between two places of it that are looked for."""
    return [(secret.encode().lower(), STEP)] if len(secret) >= WINDOW else []


def _encoded(secret: bytes) -> Iterator[bytes]:
    yield secret.hex().encode()
    yield secret.decode().encode("utf-16-le")
    for shift in range(3):
        # What stands before it moves the groups; the characters at both ends depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + secret).rstrip(b"=")[(0, 2, 3)[shift] : -1]
        yield encoded
        yield encoded.replace(b"+", b"-").replace(b"/", b"_")


def _found(plain: bytes, form: bytes, step: int) -> Iterator[tuple[int, int]]:
    """Where ``plain`` repeats ``form`` or a part of it."""
    for offset in {*range(0, len(form) - WINDOW, step), len(form) - WINDOW}:
        at = plain.find(form[offset : offset + WINDOW])
        while at >= 0:
            begin, end, ahead = at, at + WINDOW, offset + WINDOW
            while begin > 0 and at - begin < offset and plain[begin - 1] == form[offset - (at - begin) - 1]:
                begin -= 1
            while end < len(plain) and ahead < len(form) and plain[end] == form[ahead]:
                end, ahead = end + 1, ahead + 1
            if not plain[begin:end].isdigit() or end - begin >= min(NUMBER, len(form)):
                yield begin, end
            at = plain.find(form[offset : offset + WINDOW], end)


Marks = tuple[list[int], list[int]]


def _unescaped(body: bytes) -> tuple[bytes, Marks]:
    """``body`` in small letters with its escapes undone; behind each of these, the places in it and in ``body``."""
    plain, last = bytearray(), 0
    marks: Marks = ([0], [0])
    for found in _ESCAPE.finditer(body):
        plain += body[last : found.start()]
        if code := found[1] or found[2]:
            plain.append(int(code, 16))
        last = found.end()
        marks[0].append(len(plain))
        marks[1].append(last)
    plain += body[last:]
    return bytes(plain).lower(), marks


def _place(marks: Marks, at: int) -> int:
    """The place in the body of what stands ``at`` in its unescaped form."""
    nearest = bisect_right(marks[0], at) - 1
    return marks[1][nearest] + at - marks[0][nearest]
