"""Who is to be told of what: receivers of webhooks in the store, and the deliveries to them.

A delivery is ``pending`` until it is ``delivered`` or ``failed`` for good. Several processes may deliver from one store:
the first to claim a row sends it, and a claim ends by itself when its holder dies.
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import sqlalchemy as sa

from vastbench.errors import NotFound, StoreError
from vastbench.store.database import transaction
from vastbench.store.refusals import store_error
from vastbench.store.tables import webhook_configs as configs
from vastbench.store.tables import webhook_deliveries as deliveries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vastbench.store.store import Store

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"

CLAIM_S = 120.0
"""Real seconds for which a claim holds: a try takes 5, and looking up a name may take longer."""


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """One receiver. ``events``: what it hears of, empty for everything. ``allow_private``: it may have a private address.

    ``url`` and ``secret`` are for sending; whatever is shown is ``masked_url`` and ``masked_secret``.
    """

    id: int
    url: str = field(repr=False)
    secret: str = field(repr=False)
    events: tuple[str, ...]
    allow_private: bool
    created_at: str

    @property
    def masked_secret(self) -> str:
        """The secret's kind and last four characters."""
        return f"whsec_…{self.secret[-4:]}"

    @property
    def masked_url(self) -> str:
        """Scheme, host and port, and the last four characters of the rest: many services put a token into the path."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        rest = parts.path.strip("/") + (f"?{parts.query}" if parts.query else "")
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/" + (f"…{rest[-4:]}" if rest else "")

    def to_dict(self) -> dict[str, object]:
        """What may be shown of it, JSON-ready."""
        return {
            "id": self.id,
            "url": self.masked_url,
            "secret": self.masked_secret,
            "events": list(self.events),
            "allow_private": self.allow_private,
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one receiver. ``id`` is the header ``webhook-id``; ``attempts`` counts the tries that were begun."""

    id: str
    config_id: int
    event: str
    body: str
    created_at: str
    state: str
    attempts: int
    next_try_at: str
    claimed_until: str | None
    last_status: int | None
    last_error: str

    def to_dict(self) -> dict[str, object]:
        """The delivery, JSON-ready, its body as the receiver reads it."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in {"body", "claimed_until"}}
        return shown | {"body": json.loads(self.body)}


class Outbox:
    """The receivers and deliveries of ``store``. Every method raises StoreError when the database refuses."""

    def __init__(self, store: Store) -> None:
        """Take the store; nothing is read yet."""
        self._engine = store._engine  # the same room
        self._place = store.place

    def add(self, url: str, secret: str, *, events: Sequence[str] = (), allow_private: bool = False) -> WebhookConfig:
        """Write a receiver down. Whether its URL may be used is for the caller to check."""
        row = {"url": url, "secret": secret, "events": list(events), "allow_private": allow_private}
        row["created_at"] = _stamp(datetime.now(UTC))
        with self._transaction() as connection:
            made = connection.execute(sa.insert(configs), row).inserted_primary_key
        assert made is not None  # noqa: S101 (an insert of one row has a key)
        return self.config(int(made[0]))

    def config(self, config_id: int) -> WebhookConfig:
        """The receiver of that id. Raises NotFound."""
        found = [one for one in self.configs() if one.id == config_id]
        if not found:
            raise NotFound(f"There is no webhook {config_id} in {self._place}.", hint="`vastbench webhooks list` lists them.")
        return found[0]

    def configs(self) -> list[WebhookConfig]:
        """All receivers, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(configs).order_by(configs.c.id)).mappings().all()
        return [WebhookConfig(**(dict(row) | {"events": tuple(row["events"])})) for row in rows]

    def remove(self, config_id: int) -> None:
        """Forget a receiver and its deliveries. Raises NotFound."""
        self.config(config_id)
        with self._transaction() as connection:
            connection.execute(sa.delete(configs).where(configs.c.id == config_id))

    def put(self, event: str, body: str, at: datetime) -> int:
        """Write ``event`` down for every receiver that wants it; how many do. When this returns, the rows are on the disk."""
        with self._transaction() as connection:
            wanting = [row.id for row in connection.execute(sa.select(configs)) if not row.events or event in row.events]
            if wanting:
                known: dict[str, object] = {"event": event, "body": body, "created_at": _stamp(at), "next_try_at": _stamp(at)}
                known |= {"state": PENDING, "attempts": 0, "last_error": ""}
                rows = [known | {"id": f"msg_{secrets.token_hex(12)}", "config_id": one} for one in wanting]
                connection.execute(sa.insert(deliveries), rows)
        return len(wanting)

    def claim(self, now: datetime) -> Delivery | None:
        """A delivery whose time has come, claimed for the caller; None when no unclaimed one is due.

        Those tried least often come first, so that a failing one does not delay the others.
        """
        free = sa.or_(deliveries.c.claimed_until.is_(None), deliveries.c.claimed_until <= _stamp(now))
        due = sa.and_(deliveries.c.state == PENDING, deliveries.c.next_try_at <= _stamp(now), free)
        order = (deliveries.c.attempts, deliveries.c.created_at, deliveries.c.id)
        until = _stamp(now + timedelta(seconds=CLAIM_S))
        with self._transaction() as connection:
            for row in connection.execute(sa.select(deliveries).where(due).order_by(*order).limit(20)).mappings().all():
                mine = sa.update(deliveries).where(deliveries.c.id == row["id"], due, deliveries.c.attempts == row["attempts"])
                if connection.execute(mine.values(claimed_until=until, attempts=row["attempts"] + 1)).rowcount == 1:
                    return Delivery(**(dict(row) | {"claimed_until": until, "attempts": row["attempts"] + 1}))
        return None

    def settle(
        self, claimed: Delivery, state: str, *, status: int | None, error: str = "", next_try_at: datetime | None = None
    ) -> None:
        """Write down how a try of a claimed delivery ended, and give the claim back; nothing if somebody else has it by now."""
        ended: dict[str, object] = {"state": state, "last_status": status, "last_error": error, "claimed_until": None}
        if next_try_at is not None:
            ended["next_try_at"] = _stamp(next_try_at)
        this = sa.and_(deliveries.c.id == claimed.id, deliveries.c.attempts == claimed.attempts)
        with self._transaction() as connection:
            connection.execute(sa.update(deliveries).where(this).values(**ended))

    def postpone(self, config_id: int, until: datetime) -> None:
        """Let all that is pending for a receiver wait until then, at least: it does not answer at present."""
        sooner = sa.and_(deliveries.c.state == PENDING, deliveries.c.next_try_at < _stamp(until))
        with self._transaction() as connection:
            this = sa.update(deliveries).where(deliveries.c.config_id == config_id, sooner)
            connection.execute(this.values(next_try_at=_stamp(until)))

    def hasten(self, now: datetime) -> None:
        """Let everything that is pending be due at once."""
        later = sa.and_(deliveries.c.state == PENDING, deliveries.c.next_try_at > _stamp(now))
        with self._transaction() as connection:
            connection.execute(sa.update(deliveries).where(later).values(next_try_at=_stamp(now)))

    def next_due(self) -> datetime | None:
        """When the next pending delivery is due; None when none is pending."""
        with self._transaction() as connection:
            query = sa.select(sa.func.min(deliveries.c.next_try_at)).where(deliveries.c.state == PENDING)
            first = connection.execute(query).scalar()
        return None if first is None else datetime.fromisoformat(first)

    def deliveries(self, *, limit: int | None = None) -> list[Delivery]:
        """The newest deliveries first, at most ``limit``."""
        query = sa.select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.id).limit(limit)
        with self._transaction() as connection:
            return [Delivery(**row) for row in connection.execute(query).mappings()]

    def pending(self) -> Mapping[int, int]:
        """How many deliveries are pending, by receiver."""
        query = sa.select(deliveries.c.config_id, sa.func.count()).where(deliveries.c.state == PENDING)
        with self._transaction() as connection:
            found = connection.execute(query.group_by(deliveries.c.config_id)).all()
        return {int(config): int(number) for config, number in found}

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with transaction(self._engine) as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise store_error(error, self._engine.url) from None


def pending_in(store: Store) -> int:
    """How many deliveries are pending in ``store``; 0 when that cannot be read."""
    try:
        return sum(Outbox(store).pending().values())
    except StoreError:
        return 0


def _stamp(at: datetime) -> str:
    """A date of fixed width, so that the database can compare dates as text."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
