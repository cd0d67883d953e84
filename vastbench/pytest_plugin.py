"""An emulator of Vast.ai for the tests of any project, by the fixture ``vast_emulator``.

pytest finds it by itself where vastbench is installed. Nothing else of vastbench is imported until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vastbench.emulator.server import Emulator

MARKER = "vast_emulator(profile='default', seed=1, speed=20, truth=None, faults=None): what the fixture of this name starts."


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def vast_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A running emulator of the marketplace, which ends with the test and leaves nothing.

    ``url`` is its address, ``api_key`` the account's key, ``events`` what truly happened. While the test runs, ``VAST_URL`` and
    ``VAST_API_KEY`` name them, so that a client that reads these, the official one too, reaches nothing else. The settings of
    :class:`vastbench.emulator.Emulator` are given by a mark; without one it is seed 1, twenty times faster than real time::

        @pytest.mark.vast_emulator(profile="cached", faults={"http-500": 0.2})
        def test_my_client_finds_an_offer(vast_emulator):
            assert my_client.offers(vast_emulator.url, vast_emulator.api_key)

    Raises what :class:`~vastbench.emulator.Emulator` raises for settings that cannot be.
    """
    from vastbench.emulator.server import Emulator

    mark = request.node.get_closest_marker("vast_emulator")
    with Emulator(**{"seed": 1, "speed": 20.0, **(mark.kwargs if mark else {})}) as running:
        monkeypatch.setenv("VAST_URL", running.url)
        monkeypatch.setenv("VAST_API_KEY", running.api_key)
        yield running
