"""A store of each kind: what holds for one holds for the other."""

import pytest

from vastbench.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a store is or can be: a file that is not there, or a PostgreSQL database with an empty store."""
    return _place(request, tmp_path, "postgres_template")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request, tmp_path):
    """Where a store can be, and none is: a file that is not there, or an empty PostgreSQL database."""
    return _place(request, tmp_path, None)


@pytest.fixture
def store(place):
    with Store(place) as opened:
        yield opened


def _place(request, folder, template):
    if request.param == "sqlite":
        return folder / "runs.sqlite"
    server = request.getfixturevalue("postgres")
    return server.url(server.new_database(*([request.getfixturevalue(template)] if template else [])))
