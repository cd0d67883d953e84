"""What holds for all tests."""

import logging
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgres import PostgresServer

# A shell starts background jobs with SIGINT ignored, and every process below inherits that; the tests send SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A test may take three minutes. In pyproject.toml this would stop nbval where pytest-timeout is not installed."""
    if config.option.timeout is None:
        config.option.timeout, config.option.timeout_method = 180, "thread"


@pytest.fixture(autouse=True)
def _levels_of_loggers() -> Iterator[None]:
    """The command line quietens libraries for its whole process; a test that runs it in this one must not quieten the next."""
    loggers = [logging.getLogger(name) for name in ("asyncssh", "paramiko", "stamina", "vastbench.ssh.paramiko")]
    levels = [one.level for one in loggers]
    yield
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


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
