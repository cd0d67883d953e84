"""Loses an instance from outside: another process destroys it, at a time that it tells nobody.

A drill that destroyed its own instance would know when, and measure its own call. Run as a program, it reads what to do from
standard input, so that the key is on no command line and in no environment.
"""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from vastbench.clock import Clock
from vastbench.settings import environment_for_child
from vastbench.vast.api import VastApi


@contextmanager
def losing(api: VastApi, key: SecretStr, instance_id: int, within_s: tuple[float, float]) -> Iterator[Callable[[], bool]]:
    """Have the instance destroyed between ``within_s`` clock seconds (from, to) from now, while the body runs.

    What it yields says, once, whether that was begun.
    """
    order = {
        "url": api.url,
        "key": key.get_secret_value(),
        "speed": api.clock.speed,
        "instance": instance_id,
        "within_s": within_s,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "vastbench.rental.losing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment_for_child(),
        start_new_session=True,  # what interrupts the drill must not keep its instance alive
    )
    try:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        said = process.stdout
        with process.stdin:
            process.stdin.write(json.dumps(order, allow_nan=False).encode())
        # What it says before its request: the answer to that may come late, or never, although the machine is gone.
        yield lambda: bool(select.select([said], [], [], 0)[0]) and said.readline() != b""
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    """Read the order, wait, destroy."""
    order = json.load(sys.stdin)
    clock = Clock(order["speed"])
    time.sleep(clock.real_s(random.SystemRandom().uniform(*order["within_s"])))
    with VastApi(order["url"], order["key"], clock=clock) as api:
        sys.stdout.write("destroying\n")
        sys.stdout.flush()
        api.destroy_instance(order["instance"])


if __name__ == "__main__":
    main()
