"""What runs on the emulator's thread."""

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import replace
from pathlib import Path

import uvicorn

from vastbench.emulator import leftovers
from vastbench.emulator.app import build
from vastbench.emulator.choosing import choose_isolation
from vastbench.emulator.faults import Faults
from vastbench.emulator.isolation import PLAIN, Isolation
from vastbench.emulator.machine import Machine
from vastbench.emulator.market import Market
from vastbench.emulator.pace import Pace
from vastbench.emulator.profile import Profile
from vastbench.emulator.spec import MachineSpec, SshDelays
from vastbench.emulator.sshfaults import SshTrouble
from vastbench.emulator.truth import TruthLog

log = logging.getLogger(__name__)

_GRACE_S = 1

_tried: list[Isolation] = []
"""What the system allows, once one emulator of this process has tried it."""


class Engine:
    """One market and its server. ``ready`` is set when requests are answered, or when ``failure`` says why none will be;
    ``ended`` when nothing of it is left."""

    def __init__(
        self,
        profile: Profile,
        faults: Faults,
        seed: int,
        speed: float,
        truth: TruthLog,
        listening: socket.socket,
        *,
        for_others: bool = False,
    ) -> None:
        """Take over the bound socket and the truth log; both are closed at the end of :meth:`run`, or by :meth:`close`.

        ``for_others``: its key is given away, and not only this process uses its machines.
        """
        self._for_others = for_others
        self.truth = truth
        self.ready = threading.Event()
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self.api_key = ""
        self.isolation_name = ""
        self._profile = profile
        self._faults = faults
        self._market: Market | None = None
        self.seed = seed
        self._pace = Pace(speed)
        self._listening = listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: asyncio.Event | None = None
        self._stopped = False

    def run(self) -> None:
        """Serve until :meth:`stop`. The thread's own function: what goes wrong is kept in ``failure``."""
        try:
            leftovers.remove()
            with leftovers.folder() as directory:
                asyncio.run(self._serve(directory))
        except BaseException as error:  # noqa: BLE001
            self.failure = error
        finally:
            self.close()
            self.ready.set()
            self.ended.set()

    def stop(self) -> None:
        """Ask :meth:`run` to end; from any thread, any number of times."""
        self._stopped = True
        with contextlib.suppress(RuntimeError):
            if self._loop is not None and self._told is not None:
                self._loop.call_soon_threadsafe(self._told.set)

    def close(self) -> None:
        """Close what was taken over, for an engine that never ran. Idempotent."""
        self._listening.close()
        self.truth.close()

    def lose(self, instance: int, within_s: tuple[float, float]) -> None:
        """Have an instance be lost; from any thread."""
        if self._loop is not None and self._market is not None:
            self._loop.call_soon_threadsafe(self._market.lose, instance, within_s)

    def has_lost(self, instance: int) -> bool:
        """Whether it was lost on demand; from any thread."""
        return self._market is not None and self._market.contracts[instance].lost

    @property
    def struck(self) -> set[str]:
        """The names of the faults that have struck; from any thread."""
        return set(self._faults.struck)

    def alive(self) -> list[int]:
        """The ids of the instances that exist and bill; from any thread."""
        contracts = list(self._market.contracts.values()) if self._market is not None else []
        return [contract.id for contract in contracts if contract.alive]

    async def _serve(self, directory: Path) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        if self._stopped:
            return
        isolation = replace(await _isolation(), for_others=self._for_others)
        self.isolation_name = isolation.name
        port = self._listening.getsockname()[1]

        def make(spec: MachineSpec, folder: Path, proxy: SshDelays, direct: SshDelays | None, trouble: SshTrouble) -> Machine:
            return Machine(
                spec,
                directory=folder,
                isolation=isolation,
                pace=self._pace,
                truth=self.truth,
                proxy=proxy,
                direct=direct,
                trouble=trouble,
                marketplace_port=port,
            )

        market = self._market = Market(
            self._profile,
            faults=self._faults,
            seed=self.seed,
            pace=self._pace,
            truth=self.truth,
            directory=directory,
            make_machine=make,
        )
        self.api_key = market.account.api_key
        config = uvicorn.Config(
            build(market),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,  # the market has its own clock
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[self._listening]))
        ended = asyncio.create_task(self._told.wait())
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.002)
            self.ready.set()
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The server first: a request still under way could rent one more machine.
            server.should_exit = True
            ended.cancel()
            await asyncio.wait({serving, ended})
            # uvicorn looks only once for what is connected: one that was being accepted then is still there.
            for connection in server.server_state.connections:
                connection.transport.abort()
            await market.close()
        serving.result()


async def _isolation() -> Isolation:
    if not _tried:
        _tried.append(await choose_isolation())
        if _tried[0].name == PLAIN:
            log.warning(
                "Emulated instances are not isolated here: %s. They are plain folders, and what runs in them runs as %s, "
                "with the network of this machine. `vastbench doctor` says what to allow.",
                _tried[0].reason,
                "you, with all your files" if _tried[0].exposes_user else "a user of its own",
            )
    return _tried[0]
