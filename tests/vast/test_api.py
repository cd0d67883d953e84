"""Each endpoint: what it sends, what it makes of every form of answer."""

import json

import httpx
import pytest

from tests.clocks import HandClock
from tests.vast.market import FAST, Script, client, offer, page, response
from vastbench.errors import (
    AccountRefused,
    ApiUnreachable,
    ApiUnreadable,
    KeyRejected,
    OfferGone,
    Refused,
    UsageError,
)
from vastbench.vast.models import CreateRequest
from vastbench.vast.query import OfferQuery

REQUEST = CreateRequest("ubuntu", 10, "run-1")
PUBLIC = "ssh-ed25519 AAAAC3Nz run"
BAD_KEY = (404, {"success": False, "error": "auth_error", "msg": "Invalid user key"})
DONE = {"success": True, "msg": "done"}


def test_a_search_posts_the_query_and_keeps_what_passes_it():
    script = Script({"offers": [offer(id=1), offer(id=2, dph_total=9), offer(id=3, dph_base=float("nan")), {}, None]})
    api = client(script)
    found = api.search_offers(OfferQuery.parse("dph<0.5", defaults=False)).value
    assert [one.id for one in found] == [1]
    assert api.usage.dropped_offers == 3
    assert script.requests[0].url.path == "/api/v0/bundles/"
    assert script.body()["dph_total"] == {"lt": 0.5}


def test_a_search_gives_no_more_than_its_limit():
    api = client(Script({"offers": [offer(id=n) for n in range(9)]}))
    assert len(api.search_offers(OfferQuery.parse("", defaults=False, limit=4)).value) == 4


@pytest.mark.parametrize("body", [{}, {"offers": None}, {"offers": {}}, []])
def test_a_search_without_a_list_of_offers_is_unreadable(body):
    with pytest.raises(ApiUnreadable):
        client(Script(body)).search_offers(OfferQuery.parse(""))


def test_the_daily_search_quota_is_told_at_once():
    script = Script((429, {"error": "search_quota_exceeded", "retry_after": 30}))
    with pytest.raises(AccountRefused, match="quota"):
        client(script).search_offers(OfferQuery.parse(""))
    assert len(script.requests) == 1


def test_a_create_gives_the_contract_and_keeps_no_key():
    script = Script({"success": True, "new_contract": "900", "instance_api_key": "instance-secret"})
    answer = client(script).create_instance(7, REQUEST)
    assert answer.value.new_contract == 900
    assert "instance-secret" not in repr(answer)
    assert (script.requests[0].method, script.requests[0].url.path) == ("PUT", "/api/v0/asks/7/")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"success": False, "msg": "bid too low", "new_contract": 900}, Refused),
        ((400, {"error": "invalid_args", "msg": "no_such_ask", "new_contract": 900}), OfferGone),
        ((500, {"new_contract": 900}), ApiUnreachable),
        ([{"new_contract": 900}], ApiUnreadable),
        ('{"success": true, "new_contract": 900, "in', ApiUnreadable),
    ],
)
def test_a_failed_create_tells_of_the_instance_that_exists_all_the_same(reply, kind):
    with pytest.raises(kind) as caught:
        client(Script(reply)).create_instance(7, REQUEST)
    assert caught.value.new_contract == 900


@pytest.mark.parametrize("body", [{"success": True}, {"success": True, "new_contract": None}, {}])
def test_a_create_without_a_contract_id_leaves_open_what_happened(body):
    with pytest.raises(ApiUnreadable, match="may exist"):
        client(Script(body)).create_instance(7, REQUEST)


def test_a_request_that_breaks_a_limit_is_never_sent():
    script = Script(DONE)
    with pytest.raises(UsageError):
        client(script).create_instance(7, CreateRequest("ubuntu", 1, "x"))
    assert script.requests == []


def test_an_instance_is_read_and_null_means_that_there_is_none():
    assert client(Script({"instances": {"id": 900, "actual_status": None}})).get_instance(900).value.actual_status is None
    assert client(Script({"instances": None})).get_instance(900).value is None
    assert client(Script({"instances": [{"id": 900, "label": "x"}]})).get_instance(900).value.label == "x"


@pytest.mark.parametrize("none", [None, [], {}, "no_such_instance", "not_found"])
def test_that_there_is_no_instance_is_said_in_many_forms(none):
    reply = (404, {"error": none, "msg": "-"}) if isinstance(none, str) else {"instances": none}
    assert client(Script(reply)).get_instance(900).value is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": {"id": 901}},
        {"instances": [{"id": 901}]},
        {"instances": [{"id": 900}, {"id": 901}]},
        {"instances": [None]},
        {"instances": [[]]},
        {"instances": ""},
        {"instances": False},
        {"instances": 0},
        [],
    ],
)
def test_anything_else_about_an_instance_is_unreadable(body):
    with pytest.raises(ApiUnreadable):
        client(Script(body)).get_instance(900)


def test_404_for_a_wrong_key_does_not_mean_that_the_instance_is_gone():
    with pytest.raises(KeyRejected):
        client(Script(BAD_KEY)).get_instance(900)
    with pytest.raises(KeyRejected):
        client(Script(BAD_KEY)).destroy_instance(900)
    with pytest.raises(KeyRejected):
        client(Script(BAD_KEY)).list_ssh_keys()


def test_the_list_is_every_page_by_id():
    script = Script(
        page({"id": 1}, token="t1", total=3), page({"id": 2}, {"id": 1}, token="t2", total=3), page({"id": 3}, total=3)
    )
    answer = client(script).list_instances()
    assert [one.id for one in answer.value] == [1, 2, 3]
    assert [request.url.params.get("after_token") for request in script.requests] == [None, "t1", "t2"]
    assert json.loads(script.requests[0].url.params["order_by"]) == [{"col": "id", "dir": "asc"}]
    assert script.requests[0].url.params["limit"] == "25"


@pytest.mark.parametrize(
    "second",
    [
        (200, "{"),
        {"instances": None, "next_token": None},
        {"instances": {}, "next_token": None},
        {"next_token": None},
        page({"label": "x"}, total=2),
        page(None, total=2),
        page(total=2),
        page({"id": 2}, token="t1"),
        page({"id": 2}) | {"next_token": {}},
        {"success": True, "error": None},
    ],
)
def test_one_unreadable_page_makes_the_list_unreadable_never_shorter(second):
    with pytest.raises(ApiUnreadable):
        client(Script(page({"id": 1}, token="t1", total=2), second)).list_instances()


def test_a_list_that_shrinks_between_two_pages_is_no_error():
    script = Script(page({"id": 1}, {"id": 2}, token="t", total=3), page(total=2))
    assert len(client(script).list_instances().value) == 2


def test_a_list_without_an_end_is_refused():
    pages = ({"instances": [{"id": n}], "next_token": f"t{n}"} for n in range(10_000))
    api = client(Script(lambda request: response(next(pages))), type(FAST)(9999))
    api._caller._limiter.acquire = lambda endpoint: 0.0
    with pytest.raises(ApiUnreadable, match="400 pages"):
        api.list_instances()


def test_a_label_is_asked_for_and_checked_again():
    script = Script(page({"id": 1, "label": "a"}, {"id": 2, "label": "ab"}, {"id": 3, "label": None}))
    assert [one.id for one in client(script).list_instances(label="a").value] == [1]
    assert json.loads(script.requests[0].url.params["select_filters"]) == {"label": {"in": ["a"]}}


def test_a_retired_list_endpoint_is_a_refusal():
    with pytest.raises(Refused, match="deprecated"):
        client(Script((410, {"error": "deprecated_endpoint", "msg": "deprecated"}))).list_instances()


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (lambda api: api.start_instance(900), {"state": "running"}),
        (lambda api: api.stop_instance(900), {"state": "stopped"}),
        (lambda api: api.label_instance(900, "new"), {"label": "new"}),
    ],
)
def test_a_change_is_put_and_its_message_given(call, body):
    script = Script(DONE)
    assert call(client(script)).value == "done"
    assert (script.requests[0].method, script.requests[0].url.path) == ("PUT", "/api/v0/instances/900/")
    assert script.body() == body


def test_a_queued_start_is_a_refusal_with_the_marketplaces_words():
    body = {"success": False, "msg": "Required resources are currently unavailable, state change queued."}
    with pytest.raises(Refused, match="state change queued"):
        client(Script(body)).start_instance(900)


def test_a_destroy_is_repeated_until_it_is_answered():
    script = Script((504, ""), httpx.ReadTimeout("late"), DONE)
    assert client(script).destroy_instance(900).tries == 3
    assert (script.requests[0].method, script.body()) == ("DELETE", {})


@pytest.mark.parametrize("reply", [(404, {"error": "no_such_instance"}), (404, {"success": False, "error": "not_found"})])
def test_destroying_what_is_gone_already_is_a_success(reply):
    assert client(Script(reply)).destroy_instance(900).value in ("no_such_instance", "not_found")


@pytest.mark.parametrize("reply", [(404, "<html>nginx</html>"), (404, {}), {"success": False, "msg": "try later"}])
def test_a_bare_404_or_a_refusal_is_no_destroy(reply):
    with pytest.raises(Refused):
        client(Script(reply)).destroy_instance(900)


@pytest.mark.parametrize("body", [{}, {"success": "yes"}, []])
def test_a_destroy_that_says_nothing_is_unreadable(body):
    with pytest.raises(ApiUnreadable):
        client(Script(body)).destroy_instance(900)


KEY_ROW = {"id": 5, "public_key": PUBLIC}


@pytest.mark.parametrize("body", [[KEY_ROW], {"ssh_keys": [KEY_ROW]}, {"ssh_keys": json.dumps([KEY_ROW])}, {"keys": [KEY_ROW]}])
def test_keys_are_listed_in_any_of_their_shapes(body):
    assert [(key.id, key.public_key) for key in client(Script(body)).list_ssh_keys().value] == [(5, PUBLIC)]


def test_an_account_without_keys_answers_404():
    assert client(Script((404, {"error": "no_ssh_keys"}))).list_ssh_keys().value == []


@pytest.mark.parametrize("body", [{}, {"ssh_keys": "not json"}, [None], {"ssh_keys": 7}])
def test_keys_in_no_known_shape_are_unreadable(body):
    with pytest.raises(ApiUnreadable):
        client(Script(body)).list_ssh_keys()


def test_a_key_is_created_without_its_line_end():
    script = Script({"success": True, "key": KEY_ROW})
    assert client(script).create_ssh_key(PUBLIC + "\n").value.id == 5
    assert script.body() == {"ssh_key": PUBLIC}


def test_a_key_creation_without_an_answer_is_checked_before_a_second_try():
    script = Script(httpx.ReadTimeout("late"), [KEY_ROW])
    assert client(script).create_ssh_key(PUBLIC).value.id == 5
    assert [request.method for request in script.requests] == ["POST", "GET"]


def test_a_key_that_did_not_arrive_is_created_again():
    script = Script((503, ""), [], {"success": True, "key": KEY_ROW})
    assert client(script).create_ssh_key(PUBLIC).value.id == 5
    assert [request.method for request in script.requests] == ["POST", "GET", "POST"]


@pytest.mark.parametrize(
    "text", ["", "~/.ssh/id.pub", "-----BEGIN OPENSSH PRIVATE KEY-----\nx", "ssh-ed25519", f"{PUBLIC}\n{PUBLIC}"]
)
def test_only_a_public_key_is_sent(text):
    script = Script(DONE)
    with pytest.raises(UsageError) as caught:
        client(script).create_ssh_key(text)
    assert script.requests == []
    assert "BEGIN" not in str(caught.value)


def test_attaching_tolerates_a_key_that_is_associated_already():
    api = client(Script((400, {"success": False, "error": "invalid_args", "msg": "Key is already associated with instance"})))
    assert api.attach_ssh_key(900, PUBLIC).value
    with pytest.raises(Refused):
        client(Script((400, {"error": "invalid_args", "msg": "bad key"}))).attach_ssh_key(900, PUBLIC)


def test_deleting_a_key_that_is_gone_is_a_success():
    assert client(Script((404, {"error": "not_found"}))).delete_ssh_key(5).value == "not_found"
    assert client(Script((400, {"error": "no_ssh_key", "msg": "-"}))).delete_ssh_key(5).value == "no_ssh_key"
    with pytest.raises(Refused):
        client(Script((400, {"error": "invalid_args", "msg": "-"}))).delete_ssh_key(5)


def test_logs_are_polled_without_the_key_until_they_appear():
    script = Script(
        {"success": True, "result_url": "https://files.test/log"}, (404, "not yet"), httpx.ReadError("cut"), (200, "hello")
    )
    assert client(script, HandClock(1000)).logs(900, tail=5).value == "hello"
    assert script.body(0) == {"tail": "5"}
    assert [("authorization" in request.headers) for request in script.requests] == [True, False, False, False]


def test_logs_that_never_appear_end_in_an_error():
    script = Script({"success": True, "result_url": "https://files.test/log"}, (404, ""))
    with pytest.raises(ApiUnreachable, match="900"):
        client(script, HandClock(1000)).logs(900)


@pytest.mark.parametrize("address", [None, 7, "file:///etc/passwd", "/etc/passwd"])
def test_a_log_address_that_is_no_url_is_unreadable(address):
    with pytest.raises(ApiUnreadable):
        client(Script({"success": True, "result_url": address})).logs(900)


def test_charges_cover_whole_utc_days_and_every_page():
    row = {"start": 1, "end": 2, "type": "instance", "source": "instance-900", "amount": "0.312"}
    script = Script(
        {"results": [row], "next_token": "t"}, {"results": [row, row | {"source": "instance-901"}], "next_token": None}
    )
    answer = client(script).charges(86_400 * 10 + 86_399, 86_400 * 11 + 1)
    assert [(charge.instance_id, charge.amount) for charge in answer.value] == [(900, 0.312), (901, 0.312)]
    filters = json.loads(script.requests[0].url.params["select_filters"])
    assert filters == {"day": {"gte": 864_000, "lte": 86_400 * 12 - 1}, "type": {"in": ["instance"]}}


@pytest.mark.parametrize("row", [{}, {"amount": None}, {"amount": "NaN"}, None])
def test_a_charge_without_an_amount_is_unreadable_not_zero(row):
    with pytest.raises(ApiUnreadable):
        client(Script({"results": [row], "next_token": None})).charges(0, 1)


def test_the_account_is_read_without_its_secrets():
    user = client(Script({"id": 1, "email": "a@b.c", "credit": "5.5", "balance": None, "api_key": "x"})).current_user().value
    assert (user.credit, user.balance) == (5.5, None)
    assert "a@b.c" not in repr(user)
    assert not hasattr(user, "api_key")
