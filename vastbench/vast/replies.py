"""What a reply means: from status, headers and body to a JSON value or a named error. Pure.

The marketplace says the same thing in many ways: a wrong key is a 404, a vanished offer a 400, 404 or 410, a rate limit
plain text or one of three JSON shapes, and a refusal may come with status 200. All of that is decided here.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from vastbench.errors import (
    AccountRefused,
    ApiError,
    ApiRedirected,
    ApiUnreachable,
    ApiUnreadable,
    KeyRejected,
    OfferGone,
    RateLimited,
    Refused,
    clean,
)

RETRIED_STATUSES = frozenset({401, 403, 500, 502, 503, 504, *range(520, 528), 530})
"""Answers that a later try may not meet: a server's errors, those of a proxy in front (52x), and the 401 or 403 of whatever
else answers in the marketplace's place."""

LONGEST_RETRY_AFTER_S = 60.0
"""Clock seconds: who is asked to wait longer than this gives up at once and says so."""

OF_THE_ACCOUNT = {
    # documented under "troubleshooting"
    "insufficient_credit": "Add credit on the marketplace's billing page.",
    "spend_rate_limit": "Ask the marketplace for a higher spending limit, or rent less at a time.",
    "missing_billing": "Add a way to pay on the marketplace's billing page.",
    # handled by the official client
    "search_quota_exceeded": "The daily quota of offers searched is used up until 00:00 UTC.",
}
"""The codes with which the marketplace refuses the whole account, and what to do then."""

_SUSPENDED = re.compile(r"account\b.{0,40}\b(suspended|banned|disabled|locked)\b", re.IGNORECASE)
"""How it may say that it bars the account; no source shows a code for that."""

_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
"""The marketplace's codes are words joined by underscores. Gateways and frameworks write titles: Forbidden."""

_CONTRACT = re.compile(rb'"new_contract"\s*:\s*"?(\d{1,18})(?=[\s",}\]])')
_OWN_KEY = re.compile(rb'"instance_api_key"\s*:\s*"([!-~]+?)["\\]')
_THRESHOLD = re.compile(r"threshold=(\d+(?:\.\d+)?)")
_GONE = re.compile(
    r"no_such_ask|\b(?:offer|ask|instance type|machine)\b.{0,60}\b(?:no longer|not|un) ?available|\balready (?:been )?rented\b",
    re.IGNORECASE,
)
"""How the marketplace says of an offer, in a text of its own, that it cannot be rented any more."""

_KEY_HINT = "Check the key (VAST_API_KEY or --api-key-file) and its permissions."


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(reply: Reply, endpoint: str) -> Any:
    """The JSON object or list that ``reply`` carries.

    Raises the :class:`ApiError` that the reply amounts to; each carries the contract id when the body shows one.
    """
    if 300 <= reply.status < 400:
        raise _error(ApiRedirected, reply, endpoint, "redirected us", hint="Check VAST_URL; redirects are never followed.")
    value = _parsed(reply.body)
    code, text = _code(value), _text(value, reply.body)
    if code in OF_THE_ACCOUNT and 400 <= reply.status < 500:
        raise _error(AccountRefused, reply, endpoint, f"refused: {text}", hint=OF_THE_ACCOUNT[code], code=code)
    if reply.status == 429:
        hint = "Call less often."
        raise _error(RateLimited, reply, endpoint, f"refused: {text or 'too many requests'}", hint=hint, code=code)
    if reply.status >= 500:
        raise _error(ApiUnreachable, reply, endpoint, f"failed: {text}", hint="Try again later.", code=code)
    if reply.status >= 400 or (isinstance(value, dict) and value.get("success") is False):
        raise _refusal(reply, endpoint, value)
    if not 200 <= reply.status < 300 or not isinstance(value, dict | list):
        raise unreadable(reply, endpoint, "is not a JSON object")
    return value


def date_of(reply: Reply) -> float | None:
    """The epoch time at which the marketplace says that it answered; None when it does not say."""
    try:
        return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


def unreadable(reply: Reply, endpoint: str, why: str) -> ApiUnreadable:
    """The error for a reply whose content is not what ``endpoint`` promises; ``why`` continues "the answer …"."""
    message = f"{endpoint}: the answer ({reply.status}, {len(reply.body)} bytes) {why}: {_shape(reply.body)}."
    return ApiUnreadable(
        message, hint="Check VAST_URL and try again.", status=reply.status, new_contract=contract_in(reply.body)
    )


def contract_in(body: bytes) -> int | None:
    """The contract id that a body shows, even one that was cut off or is not JSON."""
    found = _CONTRACT.search(body)
    return int(found[1]) if found else None


def own_key_in(body: bytes) -> str | None:
    """The instance's own key that a body gives away, as the answer to a create does."""
    found = _OWN_KEY.search(body)
    return found[1].decode() if found else None


def retryable(error: Exception) -> bool:
    """Whether an idempotent call that ended in ``error`` is worth another try."""
    if isinstance(error, RateLimited):
        return (error.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S
    return isinstance(error, ApiUnreachable) and (error.status is None or error.status in RETRIED_STATUSES)


def _refusal(reply: Reply, endpoint: str, value: Any) -> ApiError:
    """The error of a refusal whose JSON is ``value``."""
    code, text = _code(value), _text(value, reply.body)
    own_form = isinstance(value, dict) and (value.get("success") is False or _CODE.fullmatch(code or "") is not None)
    known = f"{code or ''} {text}".lower()
    on_offer = "/asks/" in endpoint
    deprecated = "deprecated" in known
    own_words = "no_such_ask" in known or (isinstance(value, dict) and _GONE.search(text) is not None)
    if on_offer and not deprecated and (own_words or reply.status == 410):
        code = "no_such_ask" if own_words else code
        return _error(OfferGone, reply, endpoint, f"the offer is gone: {text}", hint="Search again.", code=code)
    if own_form and _SUSPENDED.search(known):
        return _error(AccountRefused, reply, endpoint, f"refused: {text}", hint="Ask the marketplace's support.", code=code)
    login = reply.status in (401, 403) and code not in ("invalid_args", "invalid_price")
    if code == "auth_error" or (login and own_form):
        return _error(KeyRejected, reply, endpoint, f"rejected the API key: {text}", hint=_KEY_HINT, code=code)
    if login:
        what = f"was answered by something else than the marketplace: {text}"
        return _error(ApiUnreachable, reply, endpoint, what, hint="Look for a proxy or gateway on the way.", code=code)
    return _error(Refused, reply, endpoint, f"refused: {text or 'no reason given'}", code=code)


def _error(
    kind: type[ApiError], reply: Reply, endpoint: str, what: str, *, hint: str = "", code: str | None = None
) -> ApiError:
    return kind(
        f"{endpoint} {what.rstrip(': .')} (status {reply.status}).",
        hint=hint,
        status=reply.status,
        code=code,
        new_contract=contract_in(reply.body),
        retry_after_s=_retry_after(reply) if kind is RateLimited else None,
    )


def _parsed(body: bytes) -> Any:
    """The JSON value of ``body``, None when it has none (deep nesting and numbers of a million digits included).

    An object that holds a key twice has none either: a list and an empty list under one name must not be read as the latter.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_object)  # nothing but UTF-8 is JSON, and can hide nothing
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key twice")
    return made


def _code(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    code = value.get("error") if isinstance(value.get("error"), str) else value.get("code")
    return line(code, 80) if isinstance(code, str) else None


def _text(value: Any, body: bytes) -> str:
    """What the reply says to a person, from whichever field it says it in."""
    if isinstance(value, dict):
        said = (value.get(name) for name in ("msg", "message", "detail", "error"))
        return line(next((text for text in said if isinstance(text, str) and text.strip()), ""), 300)
    return _shape(body) if body else ""


def _shape(body: bytes) -> str:
    """What a body looks like. JSON only by its field names: its values may be secrets, such as an instance's own key."""
    value = _parsed(body)
    if isinstance(value, dict):
        return f"an object with {line(', '.join(value), 120) or 'nothing in it'}"
    if value is not None or body.strip() == b"null":
        return f"JSON of type {type(value).__name__}"
    shown = line(body.decode("utf-8", "replace"), 200)
    # Damaged at its beginning or in another encoding it is JSON all the same.
    return "broken JSON" if shown[:1] in ("{", "[") or '":' in shown.replace("�", "").replace(" ", "") else repr(shown)


def line(text: str, length: int) -> str:
    """Foreign words as one line of at most ``length`` characters."""
    return clean(" ".join(text.split()))[:length]


def _retry_after(reply: Reply) -> float | None:
    """Seconds to wait, from wherever the reply says so: header, reset time, JSON, or the threshold in its text."""
    header = reply.headers.get("retry-after", "").strip()
    found = _seconds(header)
    if found is None and header:
        found = _until_date(header)
    if found is None:
        reset = _seconds(reply.headers.get("x-ratelimit-reset"))
        found = reset - time.time() if reset is not None else None
    value = _parsed(reply.body)
    if found is None and isinstance(value, dict):
        found = _seconds(value.get("retry_after"))
    if found is None:
        threshold = _THRESHOLD.search(_text(value, reply.body))
        found = float(threshold[1]) if threshold else None
    return max(0.0, found) if found is not None else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if abs(seconds) < 1e12 else None


def _until_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
