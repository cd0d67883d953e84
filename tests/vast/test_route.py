"""Proxies and certificates as the environment prescribes them: they work, or the variable is named with its cure."""

import http.server
import threading

import httpx
import pytest

from vastbench.clock import Clock
from vastbench.errors import ApiUnreachable, SettingsError
from vastbench.vast import route
from vastbench.vast.api import VastApi
from vastbench.vast.route import certificates, proxy_to

HOST = httpx.URL("https://vast.example/api")
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"https_proxy": "p:1"}, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "ALL_PROXY": "nonsense://"}, "http://p:1"),
    ],
)
def test_the_schemes_proxy_is_taken_and_else_that_for_all(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_to(HOST) == expected


@pytest.mark.parametrize(
    ("url", "entries"),
    [
        ("https://vast.example", "vast.example"),
        ("https://vast.example", "other, .example"),
        ("https://a.vast.example", "vast.example"),
        ("https://vast.example", "*.example"),
        ("https://vast.example", "*"),
        ("https://vast.example", "vast.example:443"),
        ("https://10.1.2.3", "10.0.0.0/8"),
        ("https://10.1.2.3", "10.1.2.3"),
        ("https://[fe80::1]", "fe80::/10"),
        ("https://[fe80::1]", "[fe80::1]"),
    ],
)
def test_a_host_that_no_proxy_covers_is_reached_straight(monkeypatch, url, entries):
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxy_to(httpx.URL(url)) is None


@pytest.mark.parametrize(
    "entries", ["", "fe80::/10", "10.0.0.0/8", "ast.example", "vast.example:80", "::::", "a b c,,", "example.com"]
)
def test_what_no_proxy_does_not_cover_goes_through_the_proxy(monkeypatch, entries):
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxy_to(HOST) == "http://p:1"


@pytest.mark.parametrize(
    "value", ["foo:bar", "ftp://p", "socks://p:1", "http://", "http://[::1", "http://[bad", "http://a b:1", "://"]
)
def test_a_variable_that_names_no_proxy_is_named_with_its_cure(monkeypatch, value):
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(SettingsError, match="ALL_PROXY is ") as refused:
        proxy_to(HOST)
    assert "NO_PROXY" in refused.value.hint


def test_a_proxys_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("https_proxy", "ftp://me:secret@p")
    with pytest.raises(SettingsError, match="https_proxy is 'ftp://p'"):
        proxy_to(HOST)


def test_socks_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(route.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://p:1")
    with pytest.raises(SettingsError) as refused:
        proxy_to(HOST)
    assert "vastbench[socks]" in refused.value.hint


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("junk", "no certificate")])
def test_certificates_that_cannot_be_read_are_named(monkeypatch, tmp_path, content, reason):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(SettingsError, match=f"SSL_CERT_FILE is .*ca.pem.*{reason}"):
        certificates()


def test_who_gets_no_answer_is_told_of_the_proxy_on_the_way(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:1")
    with VastApi("https://vast.example", "k", clock=Clock(1000)) as api, pytest.raises(ApiUnreachable) as caught:
        api.current_user()
    assert "Check the proxy http://127.0.0.1:1, the network" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_client_calls_through_its_proxy_and_reaches_loopback_without(monkeypatch):
    asked = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
        with VastApi("https://vast.example", "key", clock=Clock(100)) as api, pytest.raises(ApiUnreachable):
            api.current_user()
        with VastApi("http://127.0.0.1:1", "key", clock=Clock(100)) as api, pytest.raises(ApiUnreachable, match="refused"):
            api.current_user()
        server.shutdown()
    assert set(asked) == {"vast.example:443"}
