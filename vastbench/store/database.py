"""Opening the store's database: a SQLite file (WAL, synced commits) or a PostgreSQL server, always at the newest schema.

=================  ==============================================  =======================================================
..                 SQLite                                          PostgreSQL
=================  ==============================================  =======================================================
a write            takes the file's lock as it begins              what must not be counted twice is behind :func:`serialised`
a read             sees what was there when it began               the same (``REPEATABLE READ``)
migrating          one at a time, by the file's lock               one at a time, by an advisory lock
waits for a lock   ``LOCK_WAIT_S``, then says so                   the same
=================  ==============================================  =======================================================
"""

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vastbench.errors import NotFound, SettingsError, StoreError, interruption_in
from vastbench.store.refusals import place_of, store_error

HEAD = "0008"
"""The schema revision that this vastbench writes; the newest file in ``migrations/versions`` (a test compares)."""

KNOWN = tuple(f"{number:04}" for number in range(1, int(HEAD) + 1))
"""All revisions that were ever written."""

CONNECT_WAIT_S = 10
LOCK_WAIT_S = 15
STATEMENT_WAIT_S = 60
"""How long a server may take to let us in, to give a lock, to answer one statement; seconds of real time."""

SMALLEST_SQLITE = 512
"""Bytes: one page. SQLite takes a file of one byte for an empty database."""

LOG = "vastbench_log"
"""Where a connection to a SQLite file notes which write-ahead log it writes to; as long as it is open, that stays."""

READING = "vastbench_reading"
"""The execution option of connections that only read."""


def connect(place: str | Path, *, made: bool = True) -> sa.Engine:
    """An engine on ``place`` (a file path or a database URL), migrated to ``HEAD``; with ``made`` False it is there already.

    Raises StoreError when the place cannot be opened or written, or is not a store; SettingsError when this vastbench does not
    know its schema; NotFound, making nothing, when ``made`` is False and it is missing.
    """
    url = check_file(url_of(place))
    sqlite = url.get_backend_name() == "sqlite"
    if made and _file_of(url):
        _make_private(Path(_file_of(url)))
    try:
        if sqlite and not made:
            _look_for_store(url)
        engine = sa.create_engine(url, hide_parameters=True, **({} if sqlite else SERVER))
        sa.event.listen(engine, "connect", _careful_sqlite if sqlite else _careful_postgresql)
        if sqlite and (path := _file_of(url)):
            path = str(Path(path).absolute())
            sa.event.listen(engine, "connect", lambda _, record: record.info.update({LOG: _log_of(path)}))
        sa.event.listen(engine, "begin", _begin_sqlite if sqlite else _begin_postgresql)
        try:
            _migrate(engine, place_of(url), made)
        except BaseException:
            engine.dispose()
            raise
    except sa.exc.SQLAlchemyError as error:
        raise store_error(error, url) from None
    except ImportError as error:
        hint = "Install the driver, or name another store with --store."
        if url.get_backend_name() == "postgresql":
            hint = "pip install 'vastbench[postgres]', or name another store with --store."
        raise StoreError(
            f"The store {place_of(url)} cannot be used: its database driver is not installed ({error}).", hint=hint
        ) from None
    return engine


def url_of(place: str | Path) -> sa.URL:
    """The database URL of ``place``, a file path or already a URL. Raises StoreError for an invalid URL."""
    text = str(place)
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser()))
    # The text may hold a password that nobody can tell from the rest: it is not shown.
    unclear = StoreError(
        "The store's URL cannot be understood.",
        hint="Write a file's path, or a URL like sqlite:////path/to/runs.sqlite or postgresql://user:password@host/database.",
    )
    try:
        url = sa.engine.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise unclear from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(
            f"The store's URL names a database {url.get_backend_name()!r}, which vastbench does not use.",
            hint="Name a SQLite file or a PostgreSQL database with --store.",
        )
    if url.get_backend_name() == "postgresql" and "@" in f"{url.host}{url.database}":
        raise unclear  # a password with @ or / in it that is not percent-encoded
    return url


def check_file(url: sa.URL) -> sa.URL:
    """``url``, unless it names a folder or a file that is not a SQLite database: raises StoreError. Nothing is opened."""
    path = Path(_file_of(url))
    if _file_of(url) and path.is_dir():
        raise StoreError(f"The store {path} is a folder.", hint="Name a file in it, such as runs.sqlite.")
    if _file_of(url) and path.is_file() and path.stat().st_size and not is_sqlite(path):
        raise StoreError(
            f"The file {path} is not a store.",
            hint="Name a store's file. A table of runs is read by vastbench.load, report --data, plan --from and compare.",
        )
    return url


def check_lasting(url: sa.URL) -> None:
    """Raise SettingsError for a store that may not outlive this process: the leases of live instances belong on a disk."""
    if url.get_backend_name() == "sqlite" and not _file_of(url):
        raise SettingsError(
            f"The store {place_of(url)} may end with this process, and with it the leases of live instances.",
            hint="Name a plain file or a PostgreSQL database with --store.",
        )


class SameFiles:
    """Whether a SQLite store is still the file that was opened: what is written to a deleted one goes nowhere."""

    def __init__(self, url: sa.URL) -> None:
        """Remember the file at ``url``; a database that has none is always the same."""
        self._path = _file_of(url) and str(Path(_file_of(url)).absolute())  # the current folder may change
        self._opened = Path(self._path).stat() if self._path else None

    def check(self, connection: sa.Connection | None = None) -> None:
        """Raise StoreError when the file is another, or gone, or cut off; or the log that ``connection`` writes to is gone."""
        if self._opened is None:
            return
        now, log = _stat(self._path), None if connection is None else connection.info.get(LOG)
        if now is None:
            what = "its file was deleted or moved"
        elif (now.st_dev, now.st_ino) != (self._opened.st_dev, self._opened.st_ino):
            what = "its file was replaced by another"
        elif now.st_size < self._opened.st_size:
            what = "its file was cut off"
        elif log is not None and _log_of(self._path) != log:
            what = "its write-ahead log was deleted"
        else:
            return
        raise StoreError(
            f"The store {self._path} is not the one that was opened: {what} meanwhile.",
            hint="Nothing may delete, move or overwrite a store that is in use.",
        )


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None


def _log_of(path: str) -> tuple[int, int] | None:
    """What tells the write-ahead log of the database at ``path`` from any other."""
    found = _stat(f"{path}-wal")
    return found and (found.st_dev, found.st_ino)


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite database, as SQLite itself says.

    To read its first bytes would be simpler, but a process that closes a file loses all its locks on it: those of a store that
    is open in another thread, too.
    """
    if path.stat().st_size < SMALLEST_SQLITE:
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode != sqlite3.SQLITE_NOTADB
    return True


def _file_of(url: sa.URL) -> str:
    """The path of a SQLite file; empty for a server, a database in memory or a URI of SQLite's own."""
    database = url.database if url.get_backend_name() == "sqlite" else None
    return "" if not database or database.startswith((":memory:", "file:")) else database


def _look_for_store(url: sa.URL) -> None:
    """Raise NotFound unless there is a SQLite file with a store in it. Makes and changes no file."""
    database = url.database or ":memory:"
    if database == ":memory:" or (_file_of(url) and not Path(database).exists()):
        raise _no_store(place_of(url))
    uri = database if database.startswith("file:") else Path(database).absolute().as_uri()
    looking = sa.create_engine(url.set(database=uri).update_query_dict({"mode": "rw", **url.query, "uri": "true"}))
    try:
        with looking.connect() as connection:
            if _revision(connection) is None:
                raise _no_store(f"in the database {place_of(url)}")
    finally:
        looking.dispose()


def _no_store(shown: str) -> NotFound:
    return NotFound(f"There is no store {shown}.", hint="Make runs: vastbench run; or name another store.")


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction on ``engine``, committed when the body is done.

    A signal that stops us is raised as such, whatever the driver makes of it: one that comes while the server answers leaves a
    connection that cannot be tidied up, and that complaint must not be taken for the server's.
    """
    before = sys.exception()
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        if stopped := interruption_in(error, since=before):
            raise stopped from None
        raise


def serialised(connection: sa.Connection, what: str) -> None:
    """From here to the end of the transaction, be the only one that works on ``what``, on whichever machine."""
    # On SQLite the transaction has been the only writer since it began.
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"vastbench {what}", 0))))


SERVER: dict[str, object] = {
    "pool_pre_ping": True,
    "connect_args": {
        "connect_timeout": CONNECT_WAIT_S,
        "application_name": "vastbench",
        # A server that is cut off sends nothing: without these its silence would last for hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    },
}


def _make_private(path: Path) -> None:
    """Make what is missing of the store's folder and file, for the user alone; ``-wal`` and ``-shm`` follow the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"The store's folder {path.parent} cannot be made: {error.strerror}.",
            hint="Name another with --store or VASTBENCH_STORE, or set HOME to a folder of yours.",
        ) from None
    with suppress(OSError):  # it is there already; or it cannot be made, and SQLite will say so
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _careful_sqlite(connection: Any, _record: object) -> None:
    """Set WAL so that readers never block the journal of leases, and FULL so that a commit survives a power cut."""
    connection.isolation_level = None  # the driver's own idea of transactions would run each DDL statement alone
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_S * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA schema_version")  # the first look opens the log
    cursor.close()


def _careful_postgresql(connection: Any, _record: object) -> None:
    """Let nothing wait for ever, here or behind a transaction of ours whose machine has gone."""
    connection.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
    connection.execute(f"SET statement_timeout = '{STATEMENT_WAIT_S}s'")
    connection.execute(f"SET idle_in_transaction_session_timeout = '{STATEMENT_WAIT_S}s'")
    connection.execute("SET synchronous_commit = on")
    connection.commit()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once: a transaction that starts as a reader cannot wait for it later."""
    connection.exec_driver_sql("BEGIN" if _reads(connection) else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: sa.Connection) -> None:
    """Let a reader see all its queries' answers as of one moment."""
    if _reads(connection):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _reads(connection: sa.Connection) -> bool:
    return READING in connection.get_execution_options()


def _migrate(engine: sa.Engine, shown: str, made: bool) -> None:
    with transaction(engine) as connection:
        serialised(connection, "migrations")
        revision = _revision(connection)
        if revision == HEAD:
            return
        if revision is None and not made:
            raise _no_store(f"in the database {shown}")
        if revision is not None and revision not in KNOWN:
            raise SettingsError(
                f"The store {shown} has the schema {revision!r}; this vastbench knows {KNOWN[0]} to {HEAD}.",
                hint="Was it made by a newer vastbench? Install that, or name another store with --store.",
            )
        _upgrade(connection)


def _revision(connection: sa.Connection) -> str | None:
    """The schema's revision; None where there is no store."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    return ", ".join(map(str, found))[:80]


_UPGRADING = threading.Lock()
"""alembic keeps what it works on in its module: one migration at a time in a process, whatever the store."""


def _upgrade(connection: sa.Connection) -> None:
    """Run the migrations. alembic is imported only here: an up-to-date store opens without its half second."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    with _UPGRADING:
        command.upgrade(config, "head")
