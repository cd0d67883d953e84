"""The API key is seen by the marketplace and by nobody else."""

import base64
import json
import logging
import traceback
from hashlib import sha256
from threading import Thread
from urllib.parse import quote

import httpx
import pytest

from tests.vast.market import FAST, KEY, Script, causes, client, page
from tests.vast.test_call import raw_server
from vastbench.errors import VastbenchError
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest
from vastbench.vast.redaction import Redactor


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


ECHOES = {
    "as it is": KEY,
    "in capitals": KEY.upper(),
    "JSON": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "a URL": quote("".join(f"%{ord(c):02X}" for c in KEY), safe="%"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "hex": KEY.encode().hex(),
    "its beginning": KEY[:11],
    "its end": KEY[-11:],
    "from its middle": KEY[7:19],
}
PLACES = {
    "a refusal": lambda echo: (400, f'{{"error": "{echo}", "msg": "no: {echo}"}}'),
    "far behind": lambda echo: (400, f'{{"msg": "{"x" * 230} {echo}"}}'),
    "a page": lambda echo: (502, f"<p>{'x' * 30} {echo}"),
    "JSON that breaks off": lambda echo: (200, f'{echo} {{"instances": [{{"id": 1, "label": "{echo}'),
    "a field's name": lambda echo: (200, f'{{"{echo}": 1}}'),
    "every text of a row": lambda echo: (200, json.dumps(page({"id": 1} | dict.fromkeys(TEXTS, "ECHO"))).replace("ECHO", echo)),
}
TEXTS = ["label", "status_msg", "actual_status", "gpu_name", "geolocation", "ssh_host", "image_uuid", "onstart"]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_key_that_is_echoed_reaches_neither_values_nor_errors(echo, place):
    api = client(Script(place(echo)))
    try:
        shown = repr(api.instance_pages(tries=1))
    except VastbenchError as error:
        shown = "".join(repr(one) + str(one) + repr(vars(one)) for one in causes(error))
    plain = json.loads(f'"{echo}"')
    assert echo not in shown
    assert plain not in shown
    assert "***" in shown or "broken JSON" in shown


def test_answers_without_the_key_stay_as_they_are():
    body = json.dumps(page({"id": 1, "label": "k3y-th" * 50, "status_msg": '100% of "x\\y" at \u0041/\n'})).encode()
    assert Redactor(KEY)(body) == body


@pytest.mark.parametrize("key", ["12345678" + "ab" * 28, "ab3333cd" * 8, "ab12345678cd" * 5])
def test_a_number_that_looks_like_a_part_of_the_key_stays_a_number(key):
    body = b'{"price": 0.12345678, "share": 0.3333333333333333, "id": 12345678}'
    assert Redactor(key)(body) == body
    assert Redactor("1234567890" * 4)(b'"' + b"1234567890" * 4 + b'"') == b'"***"'


def test_an_instances_own_key_is_known_from_its_create_on():
    script = Script(
        {"success": True, "new_contract": 900, "instance_api_key": "its-own-key"}, page({"id": 1, "label": "its-own-key"})
    )
    api = client(script)
    api.create_instance(7, CreateRequest("ubuntu", 10, "run-1"))
    assert api.list_instances().value[0].label == "***"


@pytest.mark.parametrize(
    "body", [{"success": True, "instance_api_key": "its-own-key"}, '{"instance_api_key": "its-own-key", "x']
)
def test_no_error_shows_an_instances_own_key(body):
    with pytest.raises(VastbenchError) as caught:
        client(Script(body)).create_instance(7, CreateRequest("ubuntu", 10, "run-1"))
    assert "its-own-key" not in str(caught.value)


def test_a_redactor_learns_while_other_threads_use_it(eager_threads):
    redact, body = Redactor(KEY), f"{KEY} and more".encode()
    keys = [sha256(str(number).encode()).hexdigest() for number in range(5_000)]
    teacher = Thread(target=lambda: [redact.learn(key) for key in keys])
    teacher.start()
    found = set()
    while teacher.is_alive():
        found.add(redact(body))
    assert found <= {b"*** and more"}
    assert redact(keys[-1].encode()) == b"***"
    assert redact(keys[0].encode()) == keys[0].encode()


def test_no_traceback_with_local_variables_shows_the_key():
    with pytest.raises(VastbenchError) as caught:
        client(Script(httpx.ConnectError("refused"))).list_instances()
    assert KEY not in everything(caught.value)


def test_no_log_record_at_debug_holds_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    body = b'{"id": 1}'
    echo = b"HTTP/1.1 200 %s\r\nX-Key: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    with raw_server(b"", echo % (KEY.encode(), KEY.encode(), len(body), body)) as api:
        api.current_user()
    assert {"vastbench.vast.call", "httpcore.connection", "stamina"} <= {record.name for record in caplog.records}
    assert not any(KEY in record.getMessage() or KEY in repr(vars(record)) for record in caplog.records)


def test_no_repr_holds_the_key():
    told = []
    with client(Script(page()), observe=lambda *seen: told.append(seen)) as api:
        answer = api.list_instances()
        assert KEY not in repr(api) + repr(api._caller) + repr(vars(api._caller)) + repr(answer) + repr(told) + repr(api.usage)


def test_a_malformed_key_is_not_shown():
    with pytest.raises(VastbenchError) as caught:
        VastApi("https://market.test", KEY + "\n" + KEY, clock=FAST)
    assert KEY not in str(caught.value)
