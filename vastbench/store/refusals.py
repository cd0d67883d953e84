"""What it means that a database refuses: which refusals pass, and how the others are told, never with a password."""

import logging
import sqlite3
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
import stamina

from vastbench.errors import StoreError

PATIENCE_S = 20.0
"""For how long a write is tried again, in real seconds, while the database refuses for a reason that passes."""

PASSING_STATES = ("08", "57P", "40001", "40P01", "55P03", "53300", "25P03")
"""How the SQLSTATEs of refusals that pass begin: no connection, a server that starts or stops, a clash of transactions, a
lock that was not given in time, too many connections, a transaction that lay idle."""

FULL_STATE = "53100"
SHOWN_OF_QUERY = ("host", "port")


# The refusal that lasts is told; without a handler Python would print each retry as a bare line on a user's terminal.
logging.getLogger("stamina").addHandler(logging.NullHandler())


def tries() -> Iterator[stamina.Attempt]:
    """Tries of a write, up to ``PATIENCE_S`` seconds of them while the refusal passes."""
    return stamina.retry_context(
        on=passes, attempts=None, timeout=PATIENCE_S, wait_initial=0.05, wait_max=2.0, wait_jitter=0.1
    ).__iter__()


def passes(error: Exception) -> bool:
    """Whether what made the database refuse may be over in a moment: a lost connection, a restart, a lock."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.TimeoutError)  # all connections of our own pool are in use
    if isinstance(error.orig, sqlite3.Error):
        # What the low byte leaves out says only why the file is locked.
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # not a refusal: there was no connection, or it is lost
        return error.connection_invalidated or isinstance(error, sa.exc.OperationalError)
    return str(state).startswith(PASSING_STATES)


def disk_is_full(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the database refused because its disk is full."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", None) == FULL_STATE


def store_error(error: sa.exc.SQLAlchemyError, url: sa.URL) -> StoreError:
    """A StoreError that names the place and the database's own reason."""
    place = place_of(url)
    if disk_is_full(error):
        return StoreError(f"The store {place} cannot be written: its disk is full.", hint="Free some space there.")
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    for secret in _secrets(url):
        reason = reason.replace(secret, "***")
    return StoreError(
        f"The store {place} cannot be used: {reason.removesuffix('.')}.",
        hint="Check that it is a vastbench store and may be written, or name another with --store.",
    )


def place_of(url: sa.URL) -> str:
    """What to call the store in messages: its file, or its URL without the password and other settings."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    shown = {name: value for name, value in url.query.items() if name in SHOWN_OF_QUERY}
    return url.set(query=shown).render_as_string(hide_password=True)


def _secrets(url: sa.URL) -> set[str]:
    """The passwords in ``url``, in every spelling that a driver may repeat."""
    given = [url.password, *(value for name, value in url.query.items() if "password" in name)]
    plain = {str(one) for one in given if one}
    return {spelt for one in plain for spelt in (one, quote(one, safe=""), quote(one), quote_plus(one))}
