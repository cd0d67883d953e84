"""The API key is seen by the marketplace and by nobody else."""

import logging
import traceback

import httpx
import pytest

from tests.vast.market import FAST, KEY, Script, causes, client, page
from tests.vast.test_call import raw_server
from vastbench.errors import VastbenchError
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest


def everything(error):
    """All that a log or a debugger would show of an error."""
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return shown + "".join(repr(one) + str(one) + repr(vars(one)) for one in causes(error))


@pytest.mark.parametrize(
    "reply",
    [
        (401, {"error": "auth_error", "msg": f"Invalid user key {KEY}"}),
        (404, {"error": "auth_error", "msg": f"Bearer {KEY}"}),
        (400, {"error": KEY, "msg": KEY}),
        (429, KEY),
        (500, f"<html>{KEY}</html>"),
        (301, KEY),
        (200, f"not json: {KEY}"),
        (200, {"instances": KEY}),
        (200, {"instances": [{"label": KEY}]}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
    ],
)
def test_no_error_holds_the_key(reply):
    with pytest.raises(VastbenchError) as caught:
        client(Script(reply)).list_instances()
    visible = str(caught.value) + repr(caught.value) + repr(vars(caught.value)) + repr(caught.value.args)
    assert KEY not in visible


@pytest.mark.parametrize(
    "body", [{"success": True, "instance_api_key": "its-own-key"}, '{"instance_api_key": "its-own-key", "x']
)
def test_no_error_shows_an_instances_own_key(body):
    with pytest.raises(VastbenchError) as caught:
        client(Script(body)).create_instance(7, CreateRequest("ubuntu", 10, "run-1"))
    assert "its-own-key" not in str(caught.value)


def test_no_traceback_with_local_variables_shows_the_key():
    with pytest.raises(VastbenchError) as caught:
        client(Script(httpx.ConnectError("refused"))).list_instances()
    assert KEY not in everything(caught.value)


def test_no_log_record_at_debug_holds_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    body = b'{"id": 1}'
    good = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with raw_server(b"", good) as api:
        api.current_user()
    assert {"httpx", "httpcore.connection", "stamina"} <= {record.name for record in caplog.records}
    assert not any(KEY in record.getMessage() or KEY in repr(vars(record)) for record in caplog.records)


def test_no_repr_holds_the_key():
    told = []
    with client(Script(page()), observe=told.append) as api:
        answer = api.list_instances()
        assert KEY not in repr(api) + repr(api._caller) + repr(vars(api._caller)) + repr(answer) + repr(told) + repr(api.usage)


def test_a_malformed_key_is_not_shown():
    with pytest.raises(VastbenchError) as caught:
        VastApi("https://market.test", KEY + "\n" + KEY, clock=FAST)
    assert KEY not in str(caught.value)
