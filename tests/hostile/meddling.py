"""A marketplace on whose account somebody else has an instance, and commands with something between them and it."""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from typer.testing import CliRunner

from tests.hostile.between import between
from vastbench.cli import app
from vastbench.errors import Interrupted, VastbenchError
from vastbench.store import Store

SPEED = 60


@dataclass
class Ended:
    """How a command ended: its exit code, and the error that it printed."""

    code: int
    error: str = ""


@dataclass
class Between:
    """A list that lags behind what the creates did, and what is done to creates and to rows of the list."""

    lag_s: float = 0.0
    create: object = None
    change: object = None
    creates: int = 0
    seen: dict = field(default_factory=dict)

    def __call__(self, call):
        if call.is_create and self.create:
            self.creates += 1
            return self.create(call)
        if call.is_list:
            return call.rows(self.shown)
        return call.send()

    def shown(self, rows):
        now = time.monotonic()
        rows = [row for row in rows if now - self.seen.setdefault(row["id"], now) >= self.lag_s / SPEED]
        return self.change(rows) if self.change else rows


@contextmanager
def place(market, meddling, tmp_path, monkeypatch):
    """``vastbench`` in this process with ``meddling`` between it and the market, and a store of its own."""
    with between(market.vast.url, meddling) as url, Store(tmp_path / "runs.sqlite") as store:
        monkeypatch.setenv("VAST_URL", url)
        monkeypatch.setenv("VAST_API_KEY", market.vast.api_key)
        monkeypatch.setenv("VASTBENCH_SPEED", str(SPEED))
        monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "runs.sqlite"))
        yield store
    for left in market.vast.alive:
        if left != market.stranger:
            market.api.destroy_instance(left)


def run(*words):
    try:
        done = CliRunner().invoke(app, list(words or ["run", "--live", "--budget", "1", "--yes"]))
    except Interrupted as stopped:
        return Ended(stopped.exit_code, str(stopped))
    if isinstance(done.exception, VastbenchError):
        return Ended(done.exception.exit_code, str(done.exception))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ended(done.exit_code, done.output)


def nobody_lost_anything(market, store):
    """The stranger's instance lives; no lease that is closed names one that does; ours live under open leases only."""
    alive = set(market.vast.alive)
    assert market.stranger in alive
    assert not alive & {row.instance_id for row in store.leases() if row.state == "closed"}
    opened = {row.label for row in store.leases(open_only=True)}
    return {one.id for one in market.api.list_instances().value if one.id != market.stranger and one.label not in opened}
