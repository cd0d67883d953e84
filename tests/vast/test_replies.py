"""What each form of refusal means."""

import json
import time
from email.utils import formatdate

import pytest

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
)
from vastbench.vast.replies import Reply, read, retryable

ASK, LIST = "PUT /api/v0/asks/{id}/", "GET /api/v1/instances/"


def failure(status, body, endpoint=LIST, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        read(Reply(status, {k.replace("_", "-"): v for k, v in headers.items()}, raw), endpoint)
    return caught.value


NO_ASK = "error 404/3603: no_such_ask Instance type by id 7 is not available."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"success": False, "error": "invalid_args", "msg": NO_ASK, "ask_id": 7}),
        (404, {"error": "invalid_args", "msg": NO_ASK}),
        (410, {"success": False, "error": "no_such_ask", "msg": "gone"}),
        (200, {"success": False, "error": "invalid_args", "msg": NO_ASK}),
    ],
)
def test_a_gone_offer_is_known_by_text_and_by_code(status, body):
    assert type(failure(status, body, ASK)) is OfferGone


@pytest.mark.parametrize("endpoint", [ASK, LIST])
def test_410_deprecated_endpoint_is_no_gone_offer(endpoint):
    error = failure(410, {"success": False, "error": "deprecated_endpoint", "msg": "use v1"}, endpoint)
    assert type(error) is Refused
    assert error.code == "deprecated_endpoint"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        (404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        (403, {"success": False, "msg": "this action requires login"}),
        (403, {"error": "not_authorized", "msg": "your key may not do this"}),
    ],
)
def test_a_wrong_key_is_known_in_all_its_forms(status, body):
    assert type(failure(status, body)) is KeyRejected


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b"<html>403 Forbidden</html>", {"error": "Forbidden"}, {"detail": "Not authenticated"}])
def test_a_gateways_401_or_403_is_a_missed_answer_and_no_verdict(status, body):
    error = failure(status, body)
    assert type(error) is ApiUnreachable
    assert retryable(error)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530])
def test_a_servers_errors_and_those_of_a_proxy_in_front_are_tried_again(status):
    assert retryable(failure(status, b"error code"))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "insufficient_credit", "Your account lacks credit; see the billing page."),
        (402, "insufficient_credit", "no credit"),
        (403, "spend_rate_limit", "too much at once"),
        (400, "missing_billing", "no way to pay"),
        (429, "search_quota_exceeded", "used up"),
        (403, "account_suspended", "Your account is suspended."),
        (403, "forbidden_user", "This account has been banned"),
    ],
)
def test_what_holds_for_the_whole_account_is_told_apart(status, code, words):
    error = failure(status, {"success": False, "error": code, "msg": words})
    assert type(error) is AccountRefused
    assert not retryable(error)
    assert error.hint


@pytest.mark.parametrize(
    "body",
    [
        b"API requests too frequent endpoint threshold=4.5",
        {"detail": "API requests too frequent"},
        {"success": False, "error": "rate_limit_exceeded", "msg": "API requests too frequent"},
        {"message": "API requests too frequent: endpoint threshold=4.5*1.0", "code": "429 Too Many Requests"},
    ],
)
def test_429_is_a_rate_limit_in_all_four_forms(body):
    error = failure(429, body)
    assert type(error) is RateLimited
    assert "too frequent" in error.message
    assert retryable(error)


def test_the_waiting_time_is_found_wherever_it_is_said():
    assert failure(429, b"", retry_after="7").retry_after_s == 7
    assert failure(429, {"retry_after": "8.5"}).retry_after_s == 8.5
    assert failure(429, b"endpoint threshold=4.5*1.0").retry_after_s == 4.5
    assert failure(429, b"", retry_after=formatdate(time.time() + 100, usegmt=True)).retry_after_s == pytest.approx(100, abs=3)
    assert failure(429, b"", x_ratelimit_reset=str(time.time() + 50)).retry_after_s == pytest.approx(50, abs=3)
    assert failure(429, b"", retry_after="soon").retry_after_s is None
    assert failure(429, b"", retry_after="-3").retry_after_s == 0


def test_the_daily_search_quota_and_long_waits_are_not_retried():
    quota = failure(429, {"error": "search_quota_exceeded", "limit": 20000, "retry_after": 5})
    assert (type(quota), quota.code) == (AccountRefused, "search_quota_exceeded")
    assert not retryable(quota)
    assert not retryable(failure(429, b"", retry_after="61"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_error_even_with_a_parseable_body(status):
    assert type(failure(status, {"instances": []})) is ApiRedirected


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"instances": [', b"<html>", b"null", b"7", b'"text"', b"[" * 100_000, b"\xff\xfe"]
)
def test_a_200_without_a_json_object_is_unreadable(body):
    assert type(failure(200, body)) is ApiUnreadable


def test_success_false_inside_a_200_is_a_refusal_with_its_message():
    error = failure(200, {"success": False, "msg": "Required resources are currently unavailable."})
    assert type(error) is Refused
    assert "Required resources" in error.message


@pytest.mark.parametrize("field", ["msg", "message", "detail", "error"])
def test_the_message_is_read_from_any_of_its_fields(field):
    assert "insufficient_credit" in failure(400, {field: "insufficient_credit"}).message


@pytest.mark.parametrize(("status", "again"), [(500, True), (502, True), (503, True), (504, True), (501, False), (505, False)])
def test_a_server_error_leaves_open_what_happened(status, again):
    error = failure(status, b"<html>Bad gateway</html>")
    assert (type(error), error.status, retryable(error)) == (ApiUnreachable, status, again)


@pytest.mark.parametrize(
    "body",
    [
        b'{"success": false, "error": "bid_too_low", "new_contract": 900}',
        b'{"success": false, "new_contract": "900"}',
        b'{"success": false, "new_contract": 900, "inst',
    ],
)
@pytest.mark.parametrize("status", [200, 302, 400, 404, 410, 429, 500])
def test_a_contract_id_in_any_failure_is_on_the_error(status, body):
    assert failure(status, body, ASK).new_contract == 900


def test_a_contract_id_that_was_cut_off_is_not_taken_for_a_shorter_one():
    assert failure(200, b'{"success": true, "new_contract": 90', ASK).new_contract is None


def test_messages_are_one_short_line():
    error = failure(400, {"msg": "a\nb\x1b[31m" + "x" * 10_000})
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 500
