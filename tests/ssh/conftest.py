import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ssh.machine import Machine
from vastbench.clock import Clock
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.probe import Ready, wait_ready
from vastbench.ssh.session import Session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def key() -> RunKey:
    return RunKey.generate("vastbench-test")


@pytest.fixture
def pin() -> HostKeyPin:
    return HostKeyPin()


@pytest.fixture
def machine() -> Iterator[Callable[..., Machine]]:
    """Makes machines, and stops them when the test is over."""
    with contextlib.ExitStack() as stack:

        def make(*args: Any, **kwargs: Any) -> Machine:
            made = Machine(*args, **kwargs)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def wait(key: RunKey, pin: HostKeyPin, clock: Clock) -> Iterator[Callable[..., Ready]]:
    """``wait_ready`` with the usual arguments; closes the session when the test is over."""
    with contextlib.ExitStack() as stack:

        def call(*endpoints: Any, within: float = 20.0, **kwargs: Any) -> Ready:
            now = clock.now()
            since = kwargs.pop("since", now)
            ready = wait_ready(
                endpoints, kwargs.pop("key", key), pin, clock=clock, since=since, deadline=now + within, **kwargs
            )
            stack.callback(ready.session.close)
            return ready

        yield call


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """A session on a machine that runs real commands, one for all tests of a file."""
    made = Machine()
    clock = Clock()
    now = clock.now()
    ready = wait_ready([made.endpoint()], RunKey.generate(), HostKeyPin(), clock=clock, since=now, deadline=now + 20)
    with ready.session as opened:
        yield opened
    made.stop()


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """No test leaves a thread of the probe or of paramiko behind, beyond those that it found."""
    before = set(threading.enumerate())
    yield
    ours = ("vastbench-probe", "vastbench-tunnel", "vastbench-ssh-command")
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith(ours)]
    for thread in left:
        thread.join(5)
    assert not [t.name for t in left if t.is_alive()]
