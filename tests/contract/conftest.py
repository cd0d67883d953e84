"""One emulator per module, and the official client in that module's own home."""

from collections.abc import Iterator

import pytest

from tests.contract.emulation import Emulation, emulation
from tests.contract.official import Client


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulation]:
    """A running emulator whose machines always boot; leaving it checks that nothing of it stays."""
    with emulation() as running:
        yield running


@pytest.fixture(scope="module")
def vastai(emulator: Emulation) -> Client:
    """The official client, pointed at the emulator by its export lines."""
    return Client(emulator.environment)
