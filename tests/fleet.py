"""Many runs at once against one emulator: the shared harness of the slow tests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from tests.processes import Started
from vastbench.bench.bench import Bench
from vastbench.emulator import Emulator
from vastbench.record.conditions import Conditions
from vastbench.record.run import Run


@contextmanager
def bench(tmp_path, **settings) -> Iterator[Bench]:
    """A bench on an emulator of its own, with its store in ``tmp_path``."""
    with Bench(store=tmp_path / "runs.sqlite", **settings) as opened:
        yield opened


def make_runs(opened: Bench, count: int, at_once: int, conditions: Conditions | None = None) -> list[Run]:
    """``count`` runs of ``opened``, ``at_once`` of them at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return [future.result() for future in [pool.submit(opened.run, conditions) for _ in range(count)]]


def reachable(vast: Emulator, speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``vast``, whose clock has that ``speed``, be the marketplace of whatever is live in this process."""
    monkeypatch.setenv("VAST_URL", vast.url)
    monkeypatch.setenv("VAST_API_KEY", vast.api_key)
    monkeypatch.setenv("VASTBENCH_SPEED", str(speed))


def _know_the_pair() -> None:
    import_module("tests.scenarios.pair")


def live(scenario: str, store: Path, environment: dict[str, str]) -> Started:
    """One live run of a scenario of ``tests.scenarios.pair``, in a process of its own."""
    words = ["run", scenario, "--live", "--budget", "9", "--yes", "--store", store]
    return Started(*words, env=environment, cwd=Path.cwd(), first=_know_the_pair)
