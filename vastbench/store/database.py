"""Opening the store's database: SQLite (WAL, synced commits) or any other by URL, always at the newest schema."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vastbench.errors import StoreError

HEAD = "0005"
"""The schema revision that this vastbench writes; the newest file in ``migrations/versions`` (a test compares)."""


def connect(place: str | Path) -> sa.Engine:
    """An engine on ``place`` (a file path or a database URL), migrated to ``HEAD``.

    Raises StoreError when the place cannot be opened or written, is no store, or was made by a newer vastbench.
    """
    url = url_of(place)
    shown = place_of(url)
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith((":memory:", "file:")):
        _make_folder(Path(url.database))
        _make_private(Path(url.database))
    try:
        engine = sa.create_engine(url)
        if url.get_backend_name() == "sqlite":
            sa.event.listen(engine, "connect", _careful_sqlite)
            sa.event.listen(engine, "begin", _begin_immediate)
        _migrate(engine, shown)
    except sa.exc.SQLAlchemyError as error:
        raise store_error(error, shown) from None
    except ImportError as error:
        raise StoreError(
            f"The store {shown} cannot be used: its database driver is not installed ({error}).",
            hint="Install the driver, or name another store with --store.",
        ) from None
    return engine


def url_of(place: str | Path) -> sa.URL:
    """The database URL of ``place``, a file path or already a URL. Raises StoreError for a URL that is none."""
    text = str(place)
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        return sa.engine.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # The text may hold a password that nobody can tell from the rest: it is not shown.
        raise StoreError(
            "The store's URL cannot be understood.", hint="Write a file's path, or a URL like sqlite:////path/to/runs.sqlite."
        ) from None


def place_of(url: sa.URL) -> str:
    """What to call the store in messages: its file, or its URL without the password."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)


def store_error(error: sa.exc.SQLAlchemyError, place: str) -> StoreError:
    """A StoreError that names the place and the database's own reason."""
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    return StoreError(
        f"The store {place} cannot be used: {reason}.",
        hint="Check that it is a vastbench store and may be written, or name another with --store.",
    )


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"The store's folder {path.parent} cannot be made: {error.strerror}.", hint="Name another with --store."
        ) from None


def _make_private(path: Path) -> None:
    """Make a new file that its owner alone can read: it holds the secrets of webhooks. What is wrong with it SQLite says."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _careful_sqlite(connection: Any, _record: object) -> None:
    """Set WAL so that readers never block the journal of leases, and FULL so that a commit survives a power cut."""
    connection.isolation_level = None  # the driver's own idea of transactions would run each DDL statement alone
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 15000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock at once: a transaction that starts as a reader cannot wait for it later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(engine: sa.Engine, shown: str) -> None:
    with engine.begin() as connection:
        revision = _revision(connection)
        if revision == HEAD:
            return
        if revision is not None and revision > HEAD:
            raise StoreError(
                f"The store {shown} has schema {revision}; this vastbench knows up to {HEAD}.",
                hint="Install a newer vastbench, or name another store with --store.",
            )
        _upgrade(connection)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    value = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if value is None else str(value)


def _upgrade(connection: sa.Connection) -> None:
    """Run the migrations. alembic is imported only here: an up-to-date store opens without its half second."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
