"""The way to a host as the environment prescribes it: proxies and certificates.

httpx reads the same variables, but fails with whatever its parser raises, and knows neither ranges of addresses in
``NO_PROXY`` nor which variable was wrong.
"""

import importlib.util
import os
import ssl
from functools import cache
from ipaddress import ip_address, ip_network
from urllib.request import getproxies

import httpx

from vastbench.errors import SettingsError

_SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_to(url: httpx.URL) -> str | None:
    """The proxy for ``url`` (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``); None: straight there. Raises SettingsError."""
    found = getproxies()
    name = next((one for one in (url.scheme, "all") if found.get(one)), None)
    if name is None or _straight(url, found.get("no", "")):
        return None
    text = found[name]
    value = text if "://" in text else f"http://{text}"
    variable = _variable(f"{name}_proxy")
    try:
        proxy = httpx.URL(value)
    except (httpx.InvalidURL, UnicodeError):
        proxy = httpx.URL()
    # What no host's name has in it, httpx encodes: [bad becomes %5Bbad. An IPv6 address may have a % before its zone.
    if proxy.scheme not in _SCHEMES or not proxy.host or ("%" in proxy.host and ":" not in proxy.host):
        raise SettingsError(
            f"{variable} is {shown(text)!r}, which is no proxy's address.",
            hint=f"Write it as http://host:port or socks5://host:port, unset it, or name {url.host} in NO_PROXY.",
        )
    if proxy.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise SettingsError(
            f"{variable} is {shown(text)!r}, and SOCKS needs a package that is not installed.",
            hint=f"Run: pip install 'vastbench[socks]'. Or unset it, or name {url.host} in NO_PROXY.",
        )
    return value


def certificates() -> ssl.SSLContext:
    """Whom TLS trusts: ``SSL_CERT_FILE``, else ``SSL_CERT_DIR``, else certifi's authorities. Raises SettingsError."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "SSL_CERT_FILE")
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingsError(
            f"{variable} is {os.environ.get(variable)!r}, which cannot be used: {reason}.",
            hint=f"Name a file of certificates in PEM form, or unset {variable}.",
        ) from None


@cache
def usual_certificates() -> ssl.SSLContext:
    """Certifi's authorities, whatever the environment says; read once, which takes longer than most calls."""
    return httpx.create_ssl_context(trust_env=False)


def _straight(url: httpx.URL, no_proxy: str) -> bool:
    """Whether ``no_proxy`` covers the host: names and their subdomains, addresses, ranges such as 10.0.0.0/8, or ``*``."""
    for entry in no_proxy.replace(",", " ").split():
        try:
            if ip_address(url.host) in ip_network(entry.strip("[]"), strict=False):
                return True
        except ValueError:
            name, _, port = entry.lower().partition(":")
            name = name.removeprefix("*").removeprefix(".")
            same = url.host == name or url.host.endswith(f".{name}") or entry == "*"
            if same and port in ("", str(url.port or {"https": 443}.get(url.scheme, 80))):
                return True
    return False


def _variable(name: str) -> str:
    """The variable as it stands in the environment, in whichever case."""
    return next((one for one in os.environ if one.lower() == name), name.upper())


def shown(proxy: str) -> str:
    """The address of a proxy without a name and a password."""
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
