"""Answers as no marketplace should give them: a valid one, damaged on its way from value to bytes to HTTP.

::

    value ── fields gone, null, of another type, huge ── JSON ── keys twice, depth ── bytes ── cut, re-encoded ── HTTP
"""

import gzip
import json
import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import httpx
from hypothesis import strategies as st

Json = Any

SHORT = st.text(max_size=6)
NUMBERS = st.sampled_from(
    [0, -1, 1.5, 2**31, 2**53 + 1, 10**18, -(10**30), 10**400, 1e308, float("nan"), float("inf"), float("-inf")]
)
WORDS = st.sampled_from(
    [
        *("", " ", "0", "NaN", "1e999", "null", "true", "-1", "9" * 30, "x" * 5000),
        *("\ud800", "\x00", "\x1b[2J", "a\nb", "<b>", "\u202e", "http://[::1", "https://\udcff/"),
        *("no_such_instance", "not_found", "auth_error", "no_such_ask", "deprecated_endpoint"),
    ]
)
HOSTILE: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.integers(),
    st.floats(),
    WORDS,
    SHORT,
    st.sampled_from([[], {}, [[]], [None], [{}], {"": None}, {"id": None}, [1, "a", None]]),
    st.sampled_from([f"@{depth}@" for depth in (100, 400, 700, 900, 960, 990)]),  # as deep as a reader may just bear
).map(deepcopy)
STATUSES = st.one_of(
    st.sampled_from([200] * 6 + [201, 202, 204, 206]),
    st.sampled_from([301, 302, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408, 410, 418, 422, 425, 429, 451]),
    st.sampled_from([500, 501, 502, 503, 504, 520, 599, 600, 999]),
)
HEADERS = st.sampled_from(
    [("Retry-After", text) for text in ("nan", "-1", "1e999", "inf", "0", "3", "86400", "soon", "9" * 400)]
    + [("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"), ("Retry-After", "Mon, 01 Jan 0001 00:00:00 -0000")]
    + [("Retry-After", "Mon, 99 Foo 2026 25:61:61 +9999"), ("Retry-After", "Thu, 01 Jan 1970 00:00:00 -2400")]
    + [("X-RateLimit-Reset", text) for text in ("nan", "-1e300", "1e999", "0", "99999999999", "never")]
    + [("Content-Type", text) for text in ("text/html", "image/png; charset=utf-7", "", "application/json; charset=no-such")]
    + [("Location", text) for text in ("", "http://[", "//", "javascript:1", "http://a:99999999/", "http://\xff.\xff/")]
    + [("Content-Encoding", text) for text in ("gzip", "deflate", "br", "zstd", "none", "gzip, gzip")]
    + [("Set-Cookie", text) for text in ("a=b", "=;;;=", "a=b; expires=never; domain=..", "\xff=\xff")]
    + [("Content-Length", "7"), ("Transfer-Encoding", "chunked"), ("X-Odd", "\xe9" * 300)]
)


@dataclass(frozen=True)
class Reply:
    """One HTTP answer as it travels."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def response(self) -> httpx.Response:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in self.headers]
        return httpx.Response(self.status, headers=raw, stream=httpx.ByteStream(self.body))


def _deep(text: str) -> str:
    """``text`` with each mark of :data:`HOSTILE` replaced by as many lists and objects inside each other."""

    def nested(mark: re.Match[str]) -> str:
        pairs = int(mark[1]) // 2
        return '[{"a":' * pairs + "1" + "}]" * pairs

    return re.sub(r'"@(\d+)@"', nested, text)


def _places(value: Json, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside ``value``, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inside for place in _places(part, (*at, key)))]


@st.composite
def values(draw: st.DrawFn, valid: Json) -> Json:
    """``valid`` with up to three places in it replaced, left out, doubled or wrapped."""
    value = deepcopy(valid)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(_places(value)))
        change = draw(st.sampled_from(["replace", "replace", "leave out", "double", "wrap", "as text"]))
        if not place:
            value = draw(HOSTILE) if change == "replace" else [value] if change == "wrap" else value
            continue
        holder = value
        for step in place[:-1]:
            holder = holder[step]
        last = place[-1]
        if change == "replace":
            holder[last] = draw(HOSTILE)
        elif change == "leave out":
            del holder[last]
        elif change == "double" and isinstance(holder, list):
            holder.append(deepcopy(holder[last]))
        elif change == "wrap":
            holder[last] = draw(st.sampled_from([lambda one: [one], lambda one: {"a": one}]))(holder[last])
        elif change == "as text":
            holder[last] = json.dumps(holder[last])
    return value


@st.composite
def bodies(draw: st.DrawFn, valid: Json) -> bytes:
    """A mutated value as bytes, which may be damaged too."""
    text = _deep(json.dumps(draw(values(valid)), ensure_ascii=draw(st.booleans())))
    damage = draw(st.sampled_from(["none"] * 5 + ["twice", "cut", "deep", "long number", "encoding", "bytes", "page", "twin"]))
    match damage:
        case "twice":  # the first key again, at the end, with another value
            key = draw(st.sampled_from(list(valid) if isinstance(valid, dict) and valid else ["id"]))
            text = text[:-1] + f", {json.dumps(key)}: {json.dumps(draw(HOSTILE))}" + text[-1:]
        case "deep":
            text = "[" * 100_000
        case "long number":
            text = text.replace("1", "1" * 5000, 1)
        case "page":
            text = draw(
                st.sampled_from(
                    [
                        "",
                        " ",
                        "<html>502</html>",
                        "null",
                        "{}",
                        "[]",
                        "true",
                        '"ok"',
                        "\x00",
                        "API requests too frequent: threshold=4.5",
                    ]
                )
            )
        case "twin":
            text = text + text
    if damage == "encoding":
        names = ["utf-16", "utf-16-be", "utf-32", "latin-1", "utf-8-sig", "utf-7", "cp037"]
        return text.encode(draw(st.sampled_from(names)), "replace")
    body = text.encode("utf-8", "surrogatepass")
    if damage == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if damage == "bytes":
        at = draw(st.integers(0, len(body)))
        return body[:at] + draw(st.binary(min_size=1, max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body


@st.composite
def replies(draw: st.DrawFn, valid: Json) -> Reply | Exception:
    """A whole HTTP answer, or no answer at all."""
    if draw(st.integers(0, 19)) == 0:
        kinds = [httpx.ReadTimeout, httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError]
        return draw(st.sampled_from(kinds))("faked")
    status = draw(st.one_of(st.just(200), st.just(200), STATUSES))
    body = draw(bodies(valid))
    headers = draw(st.lists(HEADERS, max_size=2))
    if draw(st.integers(0, 9)) == 0:
        body, headers = gzip.compress(body)[: draw(st.sampled_from([None, 12]))], [("Content-Encoding", "gzip")]
    return Reply(status, tuple(headers), body)
