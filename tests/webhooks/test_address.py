"""Nothing is sent to a private address, however it is written and whenever a name leads to it."""

import datetime
import ipaddress
import socket
import ssl

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.receiver import SECRET, receiving
from vastbench.errors import UsageError
from vastbench.store.outbox import WebhookConfig
from vastbench.webhooks import sending
from vastbench.webhooks.address import check_url, is_public
from vastbench.webhooks.sending import post

# IANA's registries of special-purpose addresses (2025-10), multicast, and what went out of use.
INSIDE_4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
]  # fmt: skip
INSIDE_6 = [
    "::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32",
    "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28",
    "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
    "fec0::/10", "ff00::/8", "4000::/3", "e000::/4",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.32.0.1",
    "192.0.1.0",
    "192.169.0.1", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2001:200::1", "2001:db7::1", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1",
]  # fmt: skip

inside_4 = st.sampled_from(INSIDE_4).flatmap(lambda network: st.ip_addresses(network=network))
inside_6 = st.sampled_from(INSIDE_6).flatmap(lambda network: st.ip_addresses(network=network))


def within(prefix, address, shift=0):
    return ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address) << shift)


def dressings(address):
    """An IPv4 address as it is, and inside IPv6: mapped, 6to4, NAT64."""
    return [address, within("::ffff:0:0", address), within("2002::", address, 80), within("64:ff9b::", address)]


@given(inside_4)
def test_no_special_ipv4_address_is_public_in_any_dressing(address):
    assert not any(map(is_public, dressings(address)))


@given(inside_6)
def test_no_special_ipv6_address_is_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("row", INSIDE_4 + INSIDE_6)
def test_each_row_is_special_from_its_first_address_to_its_last(row):
    network = ipaddress.ip_network(row)
    assert not is_public(network[0])
    assert not is_public(network[-1])


def test_an_address_of_one_interface_only_is_not_public():
    assert not is_public(ipaddress.ip_address("2606:4700::1111%1"))
    with pytest.raises(UsageError):
        check_url("https://[fe80::1%25lo]/hook", allow_private=False)


@given(inside_6)
def test_a_url_with_a_special_ipv6_address_is_refused(address):
    with pytest.raises(UsageError):
        check_url(f"https://[{address}]/hook", allow_private=False)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are(text):
    address = ipaddress.ip_address(text)
    assert is_public(address)
    if address.version == 4:
        assert all(map(is_public, dressings(address)))


@given(inside_4, st.sampled_from(["{}", "{:d}", "{:#x}", "mapped", "octal"]))
def test_a_url_with_a_special_address_is_refused_in_every_notation(address, form):
    parts = address.packed
    host = {"mapped": f"[::ffff:{address}]", "octal": ".".join(f"0{part:o}" for part in parts)}.get(form)
    host = host or form.format(address if form == "{}" else int(address))
    with pytest.raises(UsageError):
        check_url(f"https://{host}/hook", allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://1.1.1.1/", "file:///etc/passwd", "https:", "https://", "https:///hook", "1.1.1.1/hook", "", "https://1.1.1.1:99999/",
        "https://user:password@1.1.1.1/", "https://1.1.1.1/a b", "https://1.1.1.1/\r\nx: y", "https://bücher.example/",
        "http://1.1.1.1/hook", "https://[::1", "gopher://1.1.1.1", "https://localhost/",
    ],
)  # fmt: skip
def test_a_url_that_nothing_may_be_sent_to_is_refused(url):
    with pytest.raises(UsageError) as caught:
        check_url(url, allow_private=False)
    assert caught.value.hint
    assert "password" not in str(caught.value)


def test_a_name_that_nobody_knows_is_refused(monkeypatch):
    def lookup(*_more, **_named):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(UsageError, match=r"receiver\.test"):
        check_url("https://receiver.test/", allow_private=False)
    assert post(config("https://receiver.test/"), "msg_1", "{}").error == "ConnectError: its name is not known"


def test_private_addresses_may_be_allowed_but_not_without_encryption():
    for url in ("http://127.0.0.1:8080/", "https://10.0.0.1/", "http://[::1]/", "https://192.168.1.1:8443/"):
        check_url(url, allow_private=True)
    with pytest.raises(UsageError, match="encryption"):
        check_url("http://10.0.0.1/", allow_private=True)


def leading_to(monkeypatch, *addresses):
    """Let the name receiver.test lead to ``addresses``, as the system's resolver would say it."""
    real = socket.getaddrinfo

    def lookup(host, port, *more, **named):
        if host not in ("receiver.test", b"receiver.test"):
            return real(host, port, *more, **named)
        return [entry for address in addresses for entry in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def config(url, *, allow_private=False):
    return WebhookConfig(1, url, SECRET, (), allow_private, "")


def test_a_name_that_was_public_when_added_may_not_become_private_later(monkeypatch):
    with receiving() as receiver:
        url = receiver.url.replace("http://127.0.0.1", "https://receiver.test")
        leading_to(monkeypatch, "93.184.216.34")
        check_url(url, allow_private=False)
        leading_to(monkeypatch, "127.0.0.1")
        reply = post(config(url), "msg_1", "{}")
    assert (reply.status, receiver.ids) == (None, [])
    assert reply.error.startswith("refused")
    assert not reply.final


def test_one_address_inside_among_several_is_enough_to_refuse(monkeypatch):
    leading_to(monkeypatch, "93.184.216.34", "169.254.169.254")
    with pytest.raises(UsageError, match="not public"):
        check_url("https://receiver.test/", allow_private=False)
    assert post(config("https://receiver.test/"), "msg_1", "{}").error.startswith("refused")


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    tried = []

    def connect(self, host, *_):
        tried.append(host)
        leading_to(monkeypatch, "127.0.0.1")  # the name changes its mind after the check
        raise httpcore.ConnectError("nobody")

    leading_to(monkeypatch, "93.184.216.34", "2606:4700::1111")
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    assert post(config("https://receiver.test/"), "msg_1", "{}").error == "ConnectError: nobody"
    assert tried == ["93.184.216.34", "2606:4700::1111"]


def certificate(folder):
    """A self-signed certificate for receiver.test and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("receiver.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_the_certificate_is_checked_against_the_name_not_the_address(tmp_path, monkeypatch):
    path = certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=path)
    with receiving(context=server) as receiver:
        leading_to(monkeypatch, "127.0.0.1")
        url = receiver.url.replace("127.0.0.1", "receiver.test")
        assert "CERTIFICATE_VERIFY_FAILED" in post(config(url, allow_private=True), "msg_1", "{}").error
        monkeypatch.setattr(sending, "_certificates", lambda: trusting)
        assert post(config(url, allow_private=True), "msg_2", "{}").status == 204
        assert "CERTIFICATE_VERIFY_FAILED" in post(config(receiver.url, allow_private=True), "msg_3", "{}").error
    assert (receiver.ids, receiver.hosts) == (["msg_2"], [url.split("/")[2]])
