"""One request to the marketplace: queued, sent, read to its end, timed, and repeated where that is safe.

::

    call ── limiter ── send ── whole body read ── meaning (replies.read) ── value
              │                                        │
              └── queued_s, outside sent..received     └── retryable and idempotent: again, at most TRIES times
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from typing import Any

import httpx
import stamina
from pydantic import SecretStr

from vastbench.clock import Clock
from vastbench.errors import ApiError, ApiUnreachable, ApiUnreadable, RateLimited, SettingsError, clean
from vastbench.timed import TimedBackend, seconds_left, within
from vastbench.vast.limits import Limiter
from vastbench.vast.redaction import Redactor
from vastbench.vast.replies import Reply, contract_in, date_of, own_key_in, read, retryable
from vastbench.vast.route import certificates, proxy_to, shown, usual_certificates
from vastbench.vast.usage import ApiUsage, CallRecord

TRIES = 4
"""How often an idempotent call is sent at most."""

PATIENCE_S = 60.0
"""Clock seconds after which an idempotent call is not sent again."""

TIMEOUT_S = 30.0
"""Clock seconds that a whole exchange may take, from looking up the name to the answer's last byte."""

CONNECT_S = 10.0
"""Clock seconds of them for a connection."""

LARGEST_BYTES = 256 * 1024
"""A longer answer is refused as unreadable, before anything is made of it."""

LARGEST_OF = {
    "POST /api/v0/bundles/": 2 * 1024 * 1024,
    "GET /api/v1/instances/": 1024 * 1024,
    "GET /api/v0/ssh/": 1024 * 1024,
    "GET /api/v0/charges/": 1024 * 1024,
    "GET result_url": 1024 * 1024,
}
"""The same where there is more to say: a page of the list has 25 instances, each with a script of 4 kB and its variables."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The answering try of a call: its JSON ``value``, the ``reply`` it came in, and when it was ``sent`` and ``received``.

    ``forgiven`` is the refusal that the caller takes for an answer; ``value`` is then None.
    """

    value: Any
    reply: Reply
    sent: float
    received: float
    queued_s: float
    tries: int
    forgiven: ApiError | None = None


log = logging.getLogger(__name__)

# Retries are counted in ApiUsage; without a handler Python would print each as a bare line on a user's terminal.
logging.getLogger("stamina").addHandler(logging.NullHandler())
# These two log what a server said (its reason, its headers), which may be the key.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore.http11").setLevel(logging.INFO)


def tries_of(clock: Clock, tries: int = TRIES) -> Iterator[stamina.Attempt]:
    """Up to ``tries`` tries of something idempotent: half a clock second apart, doubling, with jitter, ten at most.

    None is begun after :data:`PATIENCE_S`, nor when the limits around it are over.
    """
    last_begin = time.monotonic() + 2 * clock.socket_timeout(PATIENCE_S / 2)
    return stamina.retry_context(
        on=lambda error: retryable(error) and time.monotonic() < last_begin and seconds_left() > 0,
        attempts=tries,
        timeout=None,
        wait_initial=clock.real_s(0.5),
        wait_max=clock.real_s(10.0),
        wait_jitter=clock.real_s(0.5),
    ).__iter__()


class _Bearer(httpx.Auth):
    """Puts the key into the Authorization header at the last moment, so that no local variable or repr ever holds it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class _Client(httpx.Client):
    """A client whose time limits hold for whole exchanges, with and without a proxy: its own hold for each read."""

    def _init_transport(self, *args: Any, **settings: Any) -> httpx.BaseTransport:
        return _timed(super()._init_transport(*args, **settings))

    def _init_proxy_transport(self, *args: Any, **settings: Any) -> httpx.BaseTransport:
        return _timed(super()._init_proxy_transport(*args, **settings))


def _timed(transport: httpx.BaseTransport) -> httpx.BaseTransport:
    if isinstance(transport, httpx.HTTPTransport):
        assert transport._pool._network_backend  # noqa: S101 (another httpcore may call it otherwise)
        transport._pool._network_backend = TimedBackend()
    return transport


class Caller:
    """Sends the requests of one account; may be shared by threads."""

    def __init__(
        self,
        url: str,
        api_key: SecretStr | str,
        *,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        observe: Callable[[CallRecord, Reply | None], None] | None = None,
    ) -> None:
        """Check URL and key; raises SettingsError."""
        self.url, loopback = checked_url(url)
        self._key = checked_key(api_key)
        self.clock = clock
        self.usage = ApiUsage()
        self._limiter = Limiter(clock)
        self._dated: tuple[float, float] | None = None
        self._observe = observe
        # On the real marketplace the same; the floor under a scaled one leaves a busy machine the time that it had per read.
        self._timeout_s = 2 * clock.socket_timeout(TIMEOUT_S / 2)
        self._redact = Redactor(self._key.get_secret_value())
        inside = loopback or transport is not None
        proxy = None if inside else proxy_to(httpx.URL(self.url))
        on_the_way = f"the proxy {shown(proxy)}, " if proxy else ""
        self._no_answer_hint = f"Check {on_the_way}the network and VAST_URL."
        self._client = _Client(
            timeout=httpx.Timeout(clock.socket_timeout(TIMEOUT_S), connect=clock.socket_timeout(CONNECT_S)),
            follow_redirects=False,
            transport=transport,
            trust_env=False,
            proxy=proxy,
            verify=usual_certificates() if inside else certificates(),
            # The marketplace needs none, and one that it sets could make a request that cannot be encoded.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # What is compressed may be a thousand times as long as what is read.
            headers={"User-Agent": f"vastbench/{_version()}", "Accept-Encoding": "identity"},
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        item: int | None = None,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        tries: int = TRIES,
        forgive: Callable[[ApiError], bool] | None = None,
    ) -> Exchange:
        """Call ``path`` (``{id}`` in it stands for ``item``) and return its JSON.

        Sent up to ``tries`` times, which must be 1 where repeating is not safe. Raises ApiError, unless ``forgive`` is true
        for it.
        """
        endpoint, url = f"{method} {path}", self.url + path.replace("{id}", str(item))
        queued, sent_tries = 0.0, 0
        for attempt in tries_of(self.clock, tries):
            with attempt:
                if sent_tries:
                    self.usage.retried()
                sent_tries += 1
                try:
                    waited = self._limiter.acquire(endpoint)
                except TimeoutError as error:
                    raise ApiUnreachable(f"{endpoint}: not sent, {error}.", hint="Call less often.", code="timeout") from None
                queued += waited
                exchange = self._once(endpoint, waited, method, url, json, params, forgive)
        return replace(exchange, queued_s=queued, tries=sent_tries)

    def fetch(self, url: str, endpoint: str) -> Exchange | None:
        """Fetch a file from anywhere, without the key; None when nobody answers. Its status is the caller's to judge."""
        sent = self.clock.now()
        reply = error = None
        try:
            reply = self._send(endpoint, "GET", url, None, None, None)
        except ApiError as failure:
            error = failure
        received = self.clock.now()
        self._record(endpoint, sent, received, 0.0, reply, error)
        return Exchange(None, reply, sent, received, 0.0, 1) if reply else None

    def epoch_s(self) -> float:
        """This moment by the clock of the marketplace's ``Date`` headers, in epoch seconds; by our own without one."""
        if self._dated is None:
            return time.time()
        told, reading = self._dated
        return told + self.clock.now() - reading

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __repr__(self) -> str:
        """The address; never the key."""
        return f"Caller({self.url!r})"

    def _once(
        self,
        endpoint: str,
        queued: float,
        method: str,
        url: str,
        json: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        forgive: Callable[[ApiError], bool] | None,
    ) -> Exchange:
        sent = self.clock.now()
        reply, received = None, sent
        try:
            try:
                reply = self._send(endpoint, method, url, json, params, _Bearer(self._key))
            finally:
                received = self.clock.now()
                self._limiter.ended(endpoint)
            if (told := date_of(reply)) is not None:
                self._dated = told, received
            value = read(reply, endpoint)
        except ApiError as error:
            if isinstance(error, RateLimited):
                self._limiter.refused(endpoint, error.retry_after_s)
            self._record(endpoint, sent, received, queued, reply, error)
            if reply is None or forgive is None or not forgive(error):
                raise
            return Exchange(None, reply, sent, received, queued, 1, error)
        self._limiter.answered(endpoint)
        self._record(endpoint, sent, received, queued, reply, None)
        return Exchange(value, reply, sent, received, queued, 1)

    def _send(
        self,
        endpoint: str,
        method: str,
        url: str,
        json: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        auth: httpx.Auth | None,
    ) -> Reply:
        """Send one request and read its whole answer, within a size and a time limit, and without the key if that is in it.

        What rents or changes something is given up soon after the clock is stopping; what destroys is not.
        """
        body = bytearray()
        failure: ApiError
        try:
            with (
                within(self._timeout_s, unless=self.clock.stopping if method in ("POST", "PUT") else None),
                self._client.stream(method, url, json=json, params=params, auth=auth) as response,
            ):
                if (encoding := response.headers.get("content-encoding", "identity").strip().lower()) != "identity":
                    raise ApiUnreadable(
                        f"{endpoint}: the answer is compressed ({clean(self._redact.text(encoding))[:40]}), unasked."
                    )
                most = LARGEST_OF.get(endpoint, LARGEST_BYTES)
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > most:
                        raise ApiUnreadable(
                            f"{endpoint}: the answer is longer than {most} bytes.", new_contract=contract_in(bytes(body[:most]))
                        )
                if endpoint.startswith("PUT /api/v0/asks/") and (own := own_key_in(bytes(body))):
                    self._redact.learn(own)
                return Reply(response.status_code, response.headers, self._redact(bytes(body)))
        except httpx.TimeoutException as error:
            message = f"{endpoint}: no answer within {self._timeout_s:g} s ({type(error).__name__})."
            failure = ApiUnreachable(message, hint=self._no_answer_hint, code="timeout")
        except (httpx.RequestError, httpx.InvalidURL) as error:
            said = self._redact.text(f"{type(error).__name__}: {error}")[:300]
            failure = ApiUnreachable(f"{endpoint}: no whole answer from {_host(url)} ({said}).", hint=self._no_answer_hint)
        failure.new_contract = contract_in(bytes(body))
        raise failure  # without the error that led to it: that may quote the key

    def _record(
        self, endpoint: str, sent: float, received: float, queued: float, reply: Reply | None, error: ApiError | None
    ) -> None:
        status, name = reply.status if reply else None, type(error).__name__ if error else None
        record = CallRecord(endpoint, sent, received, queued, status, name)
        log.info("%s: %s", endpoint, status or name)
        self.usage.add(record, timeout=reply is None and error is not None and error.code == "timeout")
        if self._observe:
            self._observe(record, reply)


def checked_url(url: str) -> tuple[str, bool]:
    """The URL without trailing slashes, and whether it lies on this machine. Raises SettingsError.

    Anything but http(s) is refused, and so is http to another machine: the key would travel in clear.
    """
    hint = "Set VAST_URL to an address such as https://console.vast.ai."
    try:
        parsed = httpx.URL(url.strip().rstrip("/"))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise SettingsError("The marketplace's URL is malformed.", hint=hint) from error
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise SettingsError("The marketplace's URL holds a password, query or fragment.", hint=hint)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"The marketplace's URL is {url!r}, not an http(s) address.", hint=hint)
    loopback = _is_loopback(parsed.host)
    if parsed.scheme == "http" and not loopback:
        raise SettingsError(f"The marketplace's URL is {url!r}: over http the API key would travel in clear.", hint=hint)
    return str(parsed).rstrip("/"), loopback


def checked_key(key: SecretStr | str) -> SecretStr:
    """The key, if it fits into a header. Raises SettingsError without showing it."""
    text = (key.get_secret_value() if isinstance(key, SecretStr) else key).strip("\ufeff \t\r\n")  # as editors leave them
    if not text:
        raise SettingsError("There is no API key.", hint="Set VAST_API_KEY or give --api-key-file.")
    if not all("!" <= c <= "~" for c in text):
        raise SettingsError("The API key holds a space or a character that is not ASCII.", hint="Copy the key again.")
    return SecretStr(text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "a malformed address"


def _version() -> str:
    try:
        return version("vastbench")
    except PackageNotFoundError:
        return "0"
