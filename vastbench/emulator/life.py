"""What happens to one instance over time: it boots, opens SSH, takes keys, stops, starts again and is destroyed.

Delays are met by sleeping until the reading at which something is due, so that work done on the way is never added to them.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from vastbench.emulator.contract import Contract, Step
from vastbench.emulator.draws import Stream
from vastbench.emulator.keyring import Keyring
from vastbench.emulator.lifefaults import Fate
from vastbench.emulator.pace import Pace
from vastbench.emulator.profile import Profile
from vastbench.emulator.sandbox import SandboxError

MEGABITS_OF_A_GB = 8000.0
_BOOT_LEAD_REAL_S = 0.3
"""Real seconds that the machine is started before ``running`` at least; its start-up takes some 50 ms."""

_QUEUE_LOOK_S = 1.0
"""Emulated seconds between two looks at whether a taken GPU is free again."""

_AT_ONCE_S = 0.01
"""Emulated seconds below which a key's lag means that it is there before the first connection can be."""

_CUDA = re.compile(r"nvidia/cuda:(\d+\.\d+)")
"""The images whose need of a CUDA version the container's runtime checks."""

if TYPE_CHECKING:
    from vastbench.emulator.machine import Machine

Work = Callable[[], Coroutine[Any, Any, None]]


class Loss(StrEnum):
    """How an instance is lost while it works, each but the first named like the status that the marketplace shows then."""

    WITHDRAWN = "withdrawn"
    EXITED = "exited"
    OFFLINE = "offline"


SHOWN_AFTER_S = {Loss.WITHDRAWN: (0.0, 0.0), Loss.EXITED: (1.0, 10.0), Loss.OFFLINE: (30.0, 90.0)}
"""Emulated seconds from the loss until the status shows it; an instance that was withdrawn leaves the list at once."""


class Life:
    """Drives one instance. At any time at most one task of it is under way; a new order ends the former one first."""

    def __init__(
        self, contract: Contract, profile: Profile, fate: Fate, pace: Pace, seed: int, remake: Callable[[], "Machine"]
    ) -> None:
        """Draw what is persistent for this instance; nothing happens before an order. ``remake`` makes its machine anew."""
        self.contract = contract
        self._profile = profile
        self._fate = fate
        self._pace = pace
        self._seed = seed
        self._remake = remake
        sealed = self._stream("auth").happens(profile.ssh.auth_never.p)
        self.keys = Keyring(contract, contract.truth, sealed=sealed)
        self._task: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()

    def boot(self, account_keys: list[str]) -> None:
        """First boot, from null on; the account's keys come with it."""
        contract, now = self.contract, self._pace.now()
        contract.steps.extend(self._first_boot(contract.created_at))
        self._follow(partial(self._bring_up, list(contract.steps), account_keys), now)

    def hold(self) -> None:
        """A contract that never boots: its bid lost, or it was asked for stopped."""
        contract = self.contract
        contract.intended = contract.current = contract.upcoming = "stopped"
        appears = contract.created_at + self._draw("appears", self._profile.boot.appears)
        contract.steps.append(Step(appears, "created", "outbid" if contract.order.price is not None else "stopped"))

    def restart(self, status: str = "loading") -> None:
        """Boot again after a stop; ``rebooting`` and ``recycling`` keep the GPU meanwhile."""
        contract, now = self.contract, self._pace.now()
        self._halt(now)
        contract.intended = contract.current = contract.upcoming = "running"
        billed = status in ("rebooting", "recycling")
        contract.become("rebooting" if billed else status, f"{status} {contract.image}", now)
        running = now + self._draw("restart", self._profile.boot.restart)
        contract.steps.append(Step(running, "running", _running_text(contract), booted=True))
        self._follow(partial(self._bring_up_again, list(contract.steps), status == "recycling"), now)

    def queue(self, free: Callable[[], bool], take: Callable[[], None]) -> None:
        """Start as soon as ``free`` says that the GPU is; ``take`` takes it."""
        self.contract.intended = self.contract.upcoming = "running"
        self._follow(partial(self._wait_for_gpu, free, take), self._pace.now())

    def stop(self) -> None:
        """The user's stop: the GPU is not billed from now on; ``stopped`` shows a little later."""
        contract, now = self.contract, self._pace.now()
        self._halt(now)
        contract.intended = contract.upcoming = "stopped"
        contract.meter.stop_gpu(now)
        contract.truth.write("stop_effective", contract.id, at_s=now)
        stopped = Step(now + self._draw("stop", self._profile.boot.stop), "stopped", "stopped by user")
        contract.steps.append(stopped)
        self._follow(partial(self._take_down, stopped.at), now)

    def destroy(self, event: str = "destroy_effective") -> None:
        """The end: everything is removed now, and gone from the lists a little later."""
        now = self._pace.now()
        gone_at = now + self._draw("gone", self._profile.lag.gone) + self._fate.gone_lag_s
        self.contract.destroy(now, gone_at, event)
        self.keys.closed()
        self._follow(partial(self._remove, gone_at), now)

    def lose(self, kind: "Loss", due: float) -> None:
        """Lose the instance at the reading ``due``, if it still runs then; nobody is told."""
        self._errand(self._lose(kind, due))

    def attach(self, public_key: str) -> None:
        """Install ``public_key`` after the drawn propagation delay."""
        due = self._pace.now() + self._draw("attached", self._profile.ssh.attached_key_lag) + self._fate.key_lag_s
        self._errand(self._install([public_key], due))

    def detach(self, public_key: str) -> None:
        """Accept ``public_key`` no longer."""
        self.keys.remove(public_key)

    async def end(self) -> None:
        """Stop everything and remove the machine, at once (the emulator stops)."""
        for task in [self._task, *self._errands]:
            if task is not None:
                task.cancel()
        await _settled([self._task, *self._errands])
        await self.contract.machine.destroy()

    def _first_boot(self, created: float) -> list[Step]:
        boot, contract = self._profile.boot, self.contract
        running = (self._draw("running", boot.running) + self._pull_s()) * self._profile.slower(self._pace.epoch(created))
        appears = min(self._draw("appears", boot.appears), 0.9 * running) + self._fate.null_s
        running += self._fate.null_s + self._fate.loading_s
        fails = self._stream("boot-failure")
        needed = _CUDA.match(contract.image)
        old = needed is not None and contract.listing.machine.cuda < float(needed[1])
        if fails.happens(boot.oci_error.p) or old:
            text = "OCI runtime create failed: the container's GPU could not be set up"
            if needed and old:
                text = f"OCI runtime create failed: nvidia-container-cli: unsatisfied condition: cuda>={needed[1]}"
            return [Step(created + appears, "created", text)]
        steps = []
        if self._stream("created").happens(boot.created_first.p):
            steps.append(Step(created + appears, "created", "container created"))
            appears += min(self._draw("created-for", boot.created_for), (running - appears) / 2)
        steps.append(
            Step(created + appears, "loading", f"{contract.image.partition(':')[2] or 'latest'}: pulling {contract.image}")
        )
        if fails.happens(boot.exits.p):
            steps.append(Step(created + running, "exited", "container exited with status 1"))
        elif self._fate.ends_as == "stopped-while-loading":
            steps.append(Step(created + running, "loading", "outbid or never started", stopped=True))
        elif self._fate.ends_as == "pull-fails":
            steps.append(Step(created + running, "loading", self._fate.words))
        elif self._fate.ends_as is not None:
            steps.append(Step(created + running, self._fate.ends_as, f"host is {self._fate.ends_as}"))
        elif not self._stream("never").happens(boot.never.p):
            steps.append(Step(created + running, "running", _running_text(contract), booted=True))
        return steps

    def _pull_s(self) -> float:
        """Seconds that pulling the image takes on this machine's link."""
        pull, machine, image = self._profile.pull, self.contract.listing.machine, self.contract.image
        if pull is None or Stream(self._seed, "cached", machine.machine_id, image).happens(pull.cached.p):
            return 0.0
        return pull.gb(image) * MEGABITS_OF_A_GB / (machine.inet_down * min(1.0, self._draw("link", pull.share)))

    async def _bring_up_again(self, steps: list[Step], afresh: bool) -> None:
        contract = self.contract
        if afresh:
            await contract.machine.destroy()
            contract.bytes_before = contract.bytes_up, contract.bytes_down
            contract.machine = self._remake()
            self.keys.renew()
        else:
            await contract.machine.stop()
        await self._bring_up(steps, [])

    async def _bring_up(self, steps: list[Step], account_keys: list[str]) -> None:
        contract, pace = self.contract, self._pace
        for step in steps:
            if step.booted:
                lag = self._draw("reporting-lag", self._profile.boot.reporting_lag)
                await pace.sleep_until(step.at - max(lag, _BOOT_LEAD_REAL_S * pace.speed))
                try:
                    await contract.machine.boot(contract.environment("\n".join(account_keys)))
                except (OSError, SandboxError) as error:
                    contract.steps.clear()
                    contract.become("exited", f"container could not start: {type(error).__name__}: {error}"[:300], pace.now())
                    return
                contract.booted_at = pace.now()
            await pace.sleep_until(step.at)
            contract.advance(pace.now())
        if contract.status == "running" and contract.running_at is not None:
            if self._fate.vanishes_s:
                self._errand(self._vanish(contract.running_at + self._fate.vanishes_s))
            await self._open(contract.running_at, account_keys)

    async def _open(self, running_at: float, account_keys: list[str]) -> None:
        contract, ssh = self.contract, self._profile.ssh
        if not contract.order.ssh:
            return
        opens = running_at + self._draw("accepts", ssh.accepts)
        lag = self._draw("account-key", ssh.account_key_lag) + self._fate.key_lag_s
        await self._pace.sleep_until(opens)
        if account_keys and lag <= _AT_ONCE_S:
            self.keys.install(account_keys)
        elif account_keys:
            self._errand(self._install(account_keys, opens + lag))
        silent_s = self._fate.silent_s
        await contract.machine.open_ssh(silent=silent_s > 0)
        if silent_s:
            await self._pace.sleep(silent_s)
            contract.machine.answer_ssh()
        self.keys.opened(late=silent_s > 0)

    async def _vanish(self, due: float) -> None:
        await self._pace.sleep_until(due)
        if self.contract.alive:
            self.destroy("vanished")

    async def _lose(self, kind: "Loss", due: float) -> None:
        contract, pace = self.contract, self._pace
        await pace.sleep_until(due)
        if not contract.alive or contract.status != "running":
            return
        before, contract.lost = time.monotonic_ns(), True
        shown_after_s = self._stream("lost").between(*SHOWN_AFTER_S[kind])
        if kind is Loss.WITHDRAWN:
            self.destroy("vanished")
        if kind is Loss.OFFLINE:
            contract.machine.fall_silent()
        else:  # only then can nothing of it answer any more
            await contract.machine.stop()
        contract.truth.write("lost", contract.id, not_before_ns=before, kind=str(kind))
        if kind is not Loss.WITHDRAWN:
            await pace.sleep(shown_after_s)
            if contract.alive:
                contract.become(str(kind), f"host is {kind}" if kind is Loss.OFFLINE else "container exited", pace.now())

    async def _install(self, public_keys: list[str], due: float) -> None:
        await self._pace.sleep_until(due)
        if self.contract.alive:
            self.keys.install(public_keys)

    async def _take_down(self, until: float) -> None:
        await self.contract.machine.stop()
        await self._pace.sleep_until(until)
        self.contract.current = "stopped"
        self.contract.advance(self._pace.now())

    async def _remove(self, gone_at: float) -> None:
        await self.contract.machine.destroy()
        await self._pace.sleep_until(gone_at)
        self.contract.advance(self._pace.now())

    async def _wait_for_gpu(self, free: Callable[[], bool], take: Callable[[], None]) -> None:
        while not free():
            await self._pace.sleep(_QUEUE_LOOK_S)
        take()
        # Not from here: the start begins by ending this very task.
        asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if self.contract.alive and self.contract.intended == "running":
            self.restart()

    def _halt(self, now: float) -> None:
        """Forget what was planned."""
        contract = self.contract
        contract.advance(now)
        contract.steps.clear()
        contract.booted_at = contract.running_at = None
        contract.boots += 1
        self.keys.closed()

    def _follow(self, work: Work, now: float) -> None:
        """Do ``work`` after ending what was under way."""
        self.contract.advance(now)
        former = self._task
        if former is not None:
            former.cancel()
        self._task = asyncio.create_task(_after(former, work))

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _stream(self, purpose: str) -> Stream:
        contract = self.contract
        return Stream(self._seed, purpose, contract.number, contract.boots, machine=contract.listing.machine.machine_id)

    def _draw(self, purpose: str, distribution: Any) -> float:
        return self._stream(purpose).draw(distribution)


async def _after(former: asyncio.Task[None] | None, work: Work) -> None:
    await _settled([former])
    await work()


async def _settled(tasks: list[asyncio.Task[None] | None]) -> None:
    """Wait until all of them have ended, in whatever way."""
    pending = [task for task in tasks if task is not None]
    await asyncio.gather(*pending, return_exceptions=True)


def _running_text(contract: Contract) -> str:
    return f"success, running {contract.image.replace(':', '_')}/{contract.order.run_types[0].partition('_')[0]}"
