"""What holds for all tests."""

import gc
import logging
import secrets
import sqlite3
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import hear_interrupts

if TYPE_CHECKING:
    from tests.postgres import PostgresServer

hear_interrupts()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A test may take three minutes. In pyproject.toml this would stop nbval where pytest-timeout is not installed."""
    if config.option.timeout is None:
        config.option.timeout, config.option.timeout_method = 180, "thread"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files right here take longest: begun last, one would go on when all other workers have ended."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish() -> None:
    """What was imported stays to the end: the garbage collector need not look through a million objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _levels_of_loggers() -> None:
    """The command line quietens libraries for its whole process; whoever runs it in this one must not quieten the next test.

    Fixtures of a module run it before this one begins: that is undone first.
    """
    for name in ("asyncssh", "paramiko", "stamina", "vastbench.ssh.paramiko"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(autouse=True, scope="session")
def _new_stores() -> Iterator[None]:
    """What the migrations make in an empty SQLite file they make once; the tests open thousands of stores."""
    import sqlalchemy as sa

    from vastbench.store import database

    migrate = database._upgrade

    @cache
    def made() -> list[str]:
        with sa.create_engine("sqlite://").begin() as connection:
            migrate(connection)
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            return [line for line in raw.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]

    def upgrade(connection: sa.Connection) -> None:
        if connection.dialect.name != "sqlite" or sa.inspect(connection).get_table_names():
            migrate(connection)
            return
        for statement in made():
            connection.exec_driver_sql(statement)
        connection.execute(sa.text("UPDATE marks SET mark = :mark"), {"mark": secrets.token_hex(4)})  # each store's own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_upgrade", upgrade)
        yield


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns so often that they meet in the middle of everything."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """A PostgreSQL server, started by the first test that asks for it."""
    from tests.postgres import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: "PostgresServer") -> str:
    """A database with an empty store in it, to be copied."""
    from vastbench.store import Store

    name = postgres.new_database()
    Store(postgres.url(name)).close()
    return name
