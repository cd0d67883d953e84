"""A store of each kind: what holds for one holds for the other."""

import shutil

import pytest

from vastbench.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where an empty store is: a file, or a PostgreSQL database."""
    if request.param == "postgresql":
        return request.getfixturevalue("url")
    return shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "runs.sqlite")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request, tmp_path):
    """Where a store can be, and none is: a file that is not there, or an empty PostgreSQL database."""
    if request.param == "sqlite":
        yield tmp_path / "runs.sqlite"
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """A file with an empty store in it, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "runs.sqlite"
    Store(path).close()
    return path


@pytest.fixture
def url(postgres, postgres_template):
    """A PostgreSQL database with an empty store."""
    with postgres.database(postgres_template) as url:
        yield url


@pytest.fixture
def store(place):
    with Store(place) as opened:
        yield opened
