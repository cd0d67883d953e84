"""Sending: one signed request, what its answer means, and everything that is due."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache

import httpcore
from standardwebhooks import Webhook

from vastbench.errors import UsageError
from vastbench.store.outbox import DELIVERED, FAILED, PENDING, Delivery, Outbox, WebhookConfig
from vastbench.timed import within
from vastbench.webhooks import address
from vastbench.webhooks.address import CheckedBackend, Forbidden

GAPS_S = (10.0, 60.0, 600.0, 3600.0, 21600.0)
"""Real seconds after each try that failed before the next; after one more the delivery has failed for good."""

LONGEST_REST_S = 21600.0
"""What a receiver may ask for by Retry-After, in real seconds."""

ASK_AGAIN = frozenset({408, 429})
"""The 4xx that say "not now"; all others are final."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request: the HTTP ``status``, None when there was no answer, and then the ``error`` in words."""

    status: int | None
    error: str = ""
    retry_after_s: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether asking again would be in vain. A redirect is: it is not followed."""
        return self.status is not None and self.status < 500 and self.status not in ASK_AGAIN

    def __str__(self) -> str:
        """The status, or the error."""
        return f"HTTP {self.status}" if self.status is not None else self.error


def check_secret(secret: str) -> str:
    """``secret``, if it is a Standard Webhooks secret: ``whsec_`` and 24 to 64 bytes in base64. Raises UsageError."""
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not secret.startswith("whsec_") or not 24 <= size <= 64:
        raise UsageError(
            "The secret is not a Standard Webhooks secret.", hint="It is whsec_ and then 24 to 64 bytes in base64."
        )
    return secret


def post(config: WebhookConfig, webhook_id: str, body: str, *, now: datetime | None = None) -> Reply:
    """Send ``body`` to a receiver, signed, and say what it answered; never raises for what the receiver does.

    Redirects are not followed, proxies of the environment not used, and of the answer only its head is read.
    """
    at = now or datetime.now(UTC)
    try:
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": "vastbench",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(config.secret).sign(webhook_id, at, body),
        }
        url = httpcore.URL(config.url)
        backend = CheckedBackend(encrypted=url.scheme == b"https", allow_private=config.allow_private)
        with (
            within(address.TOTAL_S),
            httpcore.ConnectionPool(ssl_context=_certificates(), network_backend=backend) as pool,
            pool.stream(
                "POST", url, headers=headers, content=body.encode(), extensions={"timeout": {"connect": address.CONNECT_S}}
            ) as answer,
        ):
            asked = next((value for name, value in answer.headers if name.lower() == b"retry-after"), b"")
            return Reply(answer.status, retry_after_s=_seconds(asked.decode("latin-1"), at))
    except Forbidden as error:
        return Reply(None, f"refused: {error}")
    except httpcore.TimeoutException:
        return Reply(None, "no answer in time")
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        return Reply(None, f"{type(error).__name__}: {error}"[:200])
    except Exception as error:  # noqa: BLE001 (a URL or secret that was changed by hand; its text might quote it)
        return Reply(None, type(error).__name__)


def deliver_due(
    outbox: Outbox,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    stop: Callable[[], bool] = lambda: False,
    on_delivery: Callable[[Delivery, Reply], None] = lambda _delivery, _reply: None,
) -> None:
    """Send every delivery whose time has come, one after the other, until there is none or ``stop`` says so.

    ``on_delivery`` hears of each with its reply. A receiver that does not answer is left alone for the first gap, so that it
    delays no other. Raises StoreError.
    """
    configs: dict[int, WebhookConfig] = {}
    while not stop() and (claimed := outbox.claim(now())) is not None:
        if claimed.config_id not in configs:
            configs = {one.id: one for one in outbox.configs()}
        config = configs.get(claimed.config_id)
        if config is None:  # removed just now, and the delivery with it
            continue
        reply = post(config, claimed.id, claimed.body)
        error = "" if reply.delivered else str(reply)
        if reply.delivered or reply.final or claimed.attempts > len(GAPS_S):
            outbox.settle(claimed, DELIVERED if reply.delivered else FAILED, status=reply.status, error=error)
        else:
            asked_s = min(reply.retry_after_s, LONGEST_REST_S)
            again = now() + timedelta(seconds=max(GAPS_S[claimed.attempts - 1], asked_s))
            outbox.settle(claimed, PENDING, status=reply.status, error=error, next_try_at=again)
            outbox.postpone(config.id, now() + timedelta(seconds=max(GAPS_S[0], asked_s)))
        on_delivery(claimed, reply)


def _seconds(retry_after: str, now: datetime) -> float:
    """What a Retry-After header asks for, as seconds; 0 when it says nothing that can be understood."""
    try:
        return max(0.0, float(int(retry_after)))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


@cache
def _certificates() -> ssl.SSLContext:
    return httpcore.default_ssl_context()
