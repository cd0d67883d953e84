"""One request: what is sent, what is repeated, and what a broken connection does. Real sockets where they matter."""

import gzip
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.clocks import HandClock
from tests.vast.market import FAST, KEY, Script, client, page
from vastbench.clock import Clock
from vastbench.errors import ApiRedirected, ApiUnreachable, ApiUnreadable, RateLimited, Refused, SettingsError
from vastbench.timed import within
from vastbench.vast.api import VastApi
from vastbench.vast.call import LARGEST_OF
from vastbench.vast.limits import JITTER_S
from vastbench.vast.models import CreateRequest

REQUEST = CreateRequest("ubuntu", 10, "run-1")


@contextmanager
def raw_server(*replies):
    """A server that answers its n-th connection with exactly these bytes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for reply in replies:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with VastApi(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY, clock=FAST) as api:
            yield api
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_key_and_user_agent_travel_in_headers_and_paths_end_with_a_slash():
    script = Script(page())
    client(script).list_instances()
    (request,) = script.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"].startswith("vastbench/")
    assert request.url.path == "/api/v1/instances/"
    assert KEY not in str(request.url)


@pytest.mark.parametrize(
    "failure", [(500, "x"), (502, "x"), (503, ""), (504, ""), (429, "slow down"), httpx.ConnectError("no")]
)
def test_an_idempotent_call_is_repeated_after_what_may_pass(failure):
    script = Script(failure, page())
    api = client(script)
    assert api.list_instances().tries == 2
    assert api.usage.retries == 1


def test_a_call_gives_up_after_four_tries():
    script = Script((503, "down"))
    with pytest.raises(ApiUnreachable, match="503"):
        client(script).list_instances()
    assert len(script.requests) == 4


@pytest.mark.parametrize("failure", [(400, {"error": "invalid_request"}), (501, ""), (200, "{"), (301, page())])
def test_what_will_not_pass_is_not_repeated(failure):
    script = Script(failure)
    with pytest.raises((Refused, ApiUnreachable, ApiUnreadable, ApiRedirected)):
        client(script).list_instances()
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "failure", [(500, "x"), (504, ""), (429, "slow down"), httpx.ReadTimeout("late"), httpx.ReadError("cut")]
)
def test_a_create_is_sent_once_whatever_happens(failure):
    script = Script(failure)
    with pytest.raises((ApiUnreachable, RateLimited)):
        client(script).create_instance(7, REQUEST)
    assert len(script.requests) == 1


def test_a_retry_after_time_is_waited_before_the_request_is_sent():
    told = []
    script = Script(httpx.Response(429, headers={"Retry-After": "40"}), page())
    answer = client(script, HandClock(1000), observe=lambda record, _: told.append(record)).list_instances()
    assert told[1].sent - told[0].received == pytest.approx(40)
    assert answer.sent == told[1].sent
    assert answer.queued_s == pytest.approx(40)


def test_waiting_for_the_limiter_lies_outside_of_sent_and_received():
    api = client(Script(page()), HandClock())
    first, second = api.list_instances(), api.list_instances()
    assert second.sent - first.sent == pytest.approx(1.0 + JITTER_S)
    assert second.queued_s == pytest.approx(1.0 + JITTER_S)
    assert second.sent >= first.received


def test_the_queueing_of_all_tries_is_in_the_answer():
    told = []
    script = Script(page(), (429, "threshold=20"), (503, ""), page())
    api = client(script, observe=lambda record, _: told.append(record))
    api.list_instances()
    assert api.list_instances().queued_s == sum(record.queued_s for record in told[1:])


def test_each_try_is_counted_and_told():
    told = []
    script = Script((429, "x"), httpx.ReadTimeout("late"), page())
    api = client(script, observe=lambda record, _: told.append(record))
    api.list_instances()
    assert [(record.status, record.error) for record in told] == [(429, "RateLimited"), (None, "ApiUnreachable"), (200, None)]
    summary = api.usage.summary()
    assert (summary["requests"], summary["rate_limited"], summary["timeouts"], summary["retries"]) == (3, 1, 1, 2)
    assert summary["by_endpoint"] == {"GET /api/v1/instances/": 3}
    assert len(api.usage.latencies_s) == 2


def test_a_usage_without_calls_has_no_percentiles():
    assert client(Script(page())).usage.summary()["latency_p95_s"] is None


def test_a_connection_cut_in_an_answer_is_an_error_that_has_the_contract():
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"success": true, "new_contract": 900, "x'
    with raw_server(cut) as api, pytest.raises(ApiUnreachable) as caught:
        api.create_instance(7, REQUEST)
    assert caught.value.new_contract == 900


def test_a_connection_closed_without_an_answer_is_tried_again():
    body = b'{"instances": [], "next_token": null, "total_instances": 0}'
    good = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with raw_server(b"", good) as api:
        assert api.list_instances().tries == 2


def test_nobody_listening_is_unreachable_with_the_host_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with VastApi(f"http://127.0.0.1:{port}", KEY, clock=FAST) as api, pytest.raises(ApiUnreachable, match=r"127\.0\.0\.1"):
        api.current_user()


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\x01\x02\r\n\r\n"])
def test_a_server_of_another_kind_is_unreachable(answer):
    with raw_server(answer) as api, pytest.raises(ApiUnreachable):
        api.create_instance(7, REQUEST)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate", "br", "identity, gzip", "odd"])
def test_a_compressed_answer_is_refused_for_none_was_asked_for(encoding):
    body = gzip.compress(b'{"id": 1}')
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (encoding.encode(), len(body), body)
    with raw_server(answer) as api, pytest.raises(ApiUnreadable, match="compressed"):
        api.current_user()
    script = Script({"id": 1})
    client(script).current_user()
    assert script.requests[0].headers["accept-encoding"] == "identity"


def test_an_answer_longer_than_its_endpoint_has_is_refused_unread():
    most = LARGEST_OF["GET /api/v1/instances/"]

    def endless():
        while True:
            sent.append(65536)
            yield b" " * 65536

    sent = []
    api = client(lambda request: httpx.Response(200, content=endless()))
    with pytest.raises(ApiUnreadable, match=f"longer than {most} bytes"):
        api.instance_pages(tries=1)
    assert sum(sent) <= most + 65536


@pytest.mark.parametrize(
    "url",
    ["", "console.vast.ai", "ftp://console.vast.ai", "http://console.vast.ai", "http://0.0.0.0", "http://10.0.0.1:80",
     "https://u:p@console.vast.ai", "https://console.vast.ai?x=1", "https://", "http://[::1", "file:///etc/passwd"],
)  # fmt: skip
def test_an_address_to_which_no_key_should_go_is_refused(url):
    with pytest.raises(SettingsError, match="URL"):
        VastApi(url, KEY, clock=FAST)


@pytest.mark.parametrize("url", ["https://console.vast.ai/", "http://localhost:8000", "http://127.0.0.1:1//", "http://[::1]:9"])
def test_https_and_loopback_are_accepted_without_their_trailing_slash(url):
    with VastApi(url, KEY, clock=FAST) as api:
        assert api.url == url.rstrip("/")


@pytest.mark.parametrize("key", ["", "  ", "two words", "li\nne", "schlüssel", "nul\x00"])
def test_a_key_that_fits_in_no_header_is_refused_unseen(key):
    with pytest.raises(SettingsError) as caught:
        VastApi("https://market.test", key, clock=FAST)
    assert not key.strip() or key not in str(caught.value)


ENDLESS = {
    "silence": (b"", b""),
    "a status line": (b"HTTP/1.1 200 OK", b"K"),
    "headers": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n", b"X: y\r\n"),
}
CALLS = {
    "list": lambda api: api.instance_pages(tries=1),
    "create": lambda api: api.create_instance(7, REQUEST),
}


@contextmanager
def dripping(begin, drop):
    """The address of a server whose every answer begins with ``begin`` and goes on with a ``drop`` every now and then."""
    over = threading.Event()

    class Drips(socketserver.BaseRequestHandler):
        def handle(self):
            with suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(begin)
                while not over.wait(0.05):
                    self.request.sendall(drop)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drips) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            over.set()
            server.shutdown()
            thread.join()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_answer_that_never_ends_is_given_up_wherever_it_is(monkeypatch, endless, call):
    monkeypatch.setattr("vastbench.clock.MIN_SOCKET_TIMEOUT_S", 0.3)
    with dripping(*endless) as url, VastApi(url, KEY, clock=FAST) as api, pytest.raises(ApiUnreachable) as caught:
        call(api)
    assert caught.value.code == "timeout"
    assert api.usage.timeouts == 1


@pytest.mark.timeout(60)
def test_an_endless_answer_is_given_up_behind_a_proxy_too(monkeypatch):
    monkeypatch.setattr("vastbench.clock.MIN_SOCKET_TIMEOUT_S", 0.3)
    with dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with VastApi("https://market.test", KEY, clock=FAST) as api, pytest.raises(ApiUnreachable) as caught:
            api.create_instance(7, REQUEST)
    assert caught.value.code == "timeout"


@pytest.mark.timeout(60)
def test_a_stopping_clock_gives_up_what_rents_and_not_what_destroys(monkeypatch):
    monkeypatch.setattr("vastbench.timed.GRACE_S", 0.1)
    clock = Clock(1)
    with dripping(*ENDLESS["headers"]) as url, VastApi(url, KEY, clock=clock) as api:
        threading.Timer(0.5, clock.stopping.set).start()
        with pytest.raises(ApiUnreachable) as caught:
            api.create_instance(7, REQUEST)
        assert caught.value.code == "timeout"
        with within(1.0), pytest.raises(ApiUnreachable, match="no answer"):
            api.destroy_instance(7)
        assert api.usage.by_endpoint == {"PUT /api/v0/asks/{id}/": 1, "DELETE /api/v0/instances/{id}/": 1}
