"""A store of each kind: what holds for one holds for the other."""

import pytest

from vastbench.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a store is or can be: a file that is not there, or a PostgreSQL database with an empty store."""
    if request.param == "sqlite":
        yield tmp_path / "runs.sqlite"
    else:
        yield request.getfixturevalue("url")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request, tmp_path):
    """Where a store can be, and none is: a file that is not there, or an empty PostgreSQL database."""
    if request.param == "sqlite":
        yield tmp_path / "runs.sqlite"
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield url


@pytest.fixture
def url(postgres, postgres_template):
    """A PostgreSQL database with an empty store."""
    with postgres.database(postgres_template) as url:
        yield url


@pytest.fixture
def store(place):
    with Store(place) as opened:
        yield opened
