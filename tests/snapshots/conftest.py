"""A machine that runs real commands, a folder on it, and a place for its snapshots."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator.machines import booted
from tests.ssh.machine import Machine, Relay
from vastbench.clock import Clock
from vastbench.snapshots import LocalPlace
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.probe import wait_ready
from vastbench.ssh.session import Session
from vastbench.ssh.transport import Endpoint


@contextlib.contextmanager
def connected(machine: Machine | Relay | int, key: RunKey | None = None) -> Iterator[Session]:
    """A session on ``machine``, through a relay to it, or on whatever takes ``key`` at a port."""
    port = machine if isinstance(machine, int) else machine.port
    clock = Clock()
    now = clock.now()
    ready = wait_ready(
        [Endpoint("direct", "127.0.0.1", port)],
        key or RunKey.generate(),
        HostKeyPin(),
        clock=clock,
        since=now,
        deadline=now + 20,
    )
    with ready.session as opened:
        yield opened


@contextlib.contextmanager
def emulated(*public_lines: str) -> Iterator[tuple[int, RunKey]]:
    """An emulated machine in namespaces: its port for SSH, and a key that it takes beside those of ``public_lines``."""
    inside: queue.Queue[int] = queue.Queue()
    over, key = threading.Event(), RunKey.generate()

    async def live() -> None:
        async with booted("namespace") as machine:
            machine.authorize([key.public_line, *public_lines])
            inside.put(machine.proxy_port)
            while not over.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    try:
        yield inside.get(timeout=30), key
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """A session on a machine that runs real commands, one for all tests of a file."""
    made = Machine()
    with connected(made) as opened:
        yield opened
    made.stop()


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine of this test alone, which it may break."""
    made = Machine()
    yield made
    made.stop()


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path / "place")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with one of everything that a file system holds: files, links and modes, under names of any bytes."""
    folder = tmp_path / "work"
    for name in (b"deep/er", b"empty", b"closed"):
        (folder / name.decode()).mkdir(parents=True)
    for name in ODD_NAMES:
        with contextlib.suppress(FileExistsError):
            (folder / "odd").mkdir()
        Path(bytes(folder / "odd").decode() + "/" + name).write_bytes(name.encode("utf-8", "surrogateescape"))
    (folder / "deep/er/big").write_bytes(bytes(range(256)) * 4096)
    (folder / "hard").hardlink_to(folder / "deep/er/big")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    (folder / "inside").symlink_to("deep/er/big")
    (folder / "to folder").symlink_to("deep")
    with (folder / "sparse").open("wb") as file:
        file.truncate(30_000_000)
        file.seek(10_000_000)
        file.write(b"in the middle")
    (folder / "setuid").write_bytes(b"#!/bin/sh\n")
    (folder / "setuid").chmod(0o6755)
    (folder / "nothing").write_bytes(b"")
    (folder / "nothing").chmod(0)
    (folder / "closed").chmod(0o1500)
    return folder


ODD_NAMES = (
    "new\nline",
    "-rf",
    "--checkpoint-action=exec=touch pwned",
    " leading and trailing ",
    'quote\'s "double" `tick` $(echo hi) \\n \\',
    "*?[a]",
    "tab\there\rreturn",
    "umlaut ä, 猫",
    "no text \udcff\udcfe",
    "x" * 250,
)
"""Names that a shell, a list with lines or a text of UTF-8 would break."""
