"""The marketplace itself: machines on offer, one account, its instances, keys and bill. Knows nothing of HTTP.

Every method acts at this moment of the emulated clock; methods that can be refused raise Refusal.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.emulator import query, rights
from vastbench.emulator.account import Account
from vastbench.emulator.billing import Rates, charge
from vastbench.emulator.contract import Contract, storage_per_hour
from vastbench.emulator.draws import Stream
from vastbench.emulator.faults import Faults
from vastbench.emulator.files import Files
from vastbench.emulator.life import Life, Loss
from vastbench.emulator.lifefaults import Fate, fate, shown
from vastbench.emulator.offers import Listing, machines
from vastbench.emulator.orders import Order
from vastbench.emulator.pace import Pace
from vastbench.emulator.profile import Distribution, Profile
from vastbench.emulator.replies import Refusal, offer_gone
from vastbench.emulator.spec import MachineSpec, SshDelays
from vastbench.emulator.sshfaults import SshTrouble
from vastbench.emulator.truth import TruthLog

if TYPE_CHECKING:
    from vastbench.emulator.machine import Machine

MachineMaker = Callable[[MachineSpec, Path, SshDelays, SshDelays | None, SshTrouble], "Machine"]
"""Makes a machine with its folder, its endpoints' delays (direct: None when there is no direct endpoint) and their faults."""

_IDS_BEGIN = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
_TAKEN = "Required resources are currently unavailable, state change queued."


class Market:
    """One account's view of the marketplace."""

    def __init__(
        self,
        profile: Profile,
        *,
        faults: Faults,
        seed: int,
        pace: Pace,
        truth: TruthLog,
        directory: Path,
        make_machine: MachineMaker,
    ) -> None:
        """Open the market; ``directory`` holds the machines' folders."""
        self.profile = profile
        self.faults = faults
        self.seed = seed
        self.pace = pace
        self.truth = truth
        self.account = Account(profile.market.credit.value, pace.epoch())
        # Ids start from the date, so that they are not used again by the next emulator either.
        self._next_id = int(pace.epoch() - _IDS_BEGIN)
        self.listings = [Listing(machine, self._new_id()) for machine in machines(profile.market, seed)]
        self.contracts: dict[int, Contract] = {}
        self.lives: dict[int, Life] = {}
        self._fates: dict[int, Fate] = {}
        self.account.lacks = profile.lacks | rights.taken_by(faults, seed)
        self.files = Files(pace)
        self._files_promised = 0
        self._directory = directory
        self._make_machine = make_machine

    # Offers

    def search(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The offers that match a query in the marketplace's language, at most as many as the marketplace ever shows."""
        disk = query.number(body.get("allocated_storage", 8), "allocated_storage")
        kind = body.get("type", "on-demand")
        if kind not in ("on-demand", "ondemand", "bid", "interruptible", "reserved"):
            raise Refusal(400, "invalid_args", f"type must be on-demand, bid or reserved, not {kind!r:.60}")
        bid = kind in ("bid", "interruptible")
        shown = int(self.profile.market.shown.value)
        limit = shown if body.get("limit") is None else min(shown, int(query.number(body["limit"], "limit")))
        now = self.pace.now()
        epoch = self.pace.epoch(now)
        free = {listing.offer_id: listing for listing in self.listings if listing.free(now)}
        dearer = self.profile.dearer(epoch)
        rows = [listing.row(disk, bid=bid, epoch=epoch, dearer=dearer) for listing in free.values()]
        filters = {field: tests for field, tests in body.items() if field not in query.CONTROLS}
        found = query.ordered(query.matching(rows, filters), body.get("order") or [["score", "desc"]])[: max(limit, 0)]
        for row in found:
            free[row["id"]].shown_at = now
        return found

    # Instances

    def create(self, offer_id: int, order: Order) -> Contract:
        """Rent the offer. Raises Refusal when it is gone, too small or dearer than the bid or the credit allows."""
        now = self.pace.now()
        listing = self._rentable(offer_id, now)
        machine = listing.machine
        if order.disk_gb > machine.disk_space:
            raise Refusal(400, "invalid_args", f"disk: the offer has {machine.disk_space} GB, not {order.disk_gb}")
        if self.credit() <= 0:
            raise Refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
        contract = self._contract(listing, order, now)
        losing = order.price is not None and order.price < machine.min_bid
        if losing or order.target_state == "stopped":
            self.lives[contract.id].hold()
            self._release(listing)
        else:
            self.lives[contract.id].boot([key["public_key"] for key in self.account.ssh_keys()])
        if losing:
            text = f"bid of {order.price} is below the minimum of {machine.min_bid}"
            raise Refusal(400, "invalid_price", text, new_contract=contract.id)
        return contract

    def lose(self, instance: int, within_s: tuple[float, float]) -> None:
        """Lose the instance after a drawn time and in a drawn way; nothing shows that it will be."""
        stream = Stream(self.seed, "loss", self.contracts[instance].number)
        kinds = list(Loss)
        self.lives[instance].lose(kinds[stream.below(len(kinds))], self.pace.now() + stream.between(*within_s))

    def loses_reply(self, contract: Contract) -> bool:
        """Whether the reply to this contract's creation gets lost on its way."""
        return Stream(self.seed, "reply", contract.number).happens(self.profile.faults.create_reply_lost.p)

    def visible(self) -> list[Contract]:
        """The instances that the account lists now, oldest first."""
        now = self.pace.now()
        for contract in self.contracts.values():
            contract.advance(now)
        return [contract for contract in self.contracts.values() if not contract.gone]

    def listed(self) -> list[Contract]:
        """The instances that the list shows now: those that are visible and not too new for it."""
        now = self.pace.now()
        return [contract for contract in self.visible() if contract.listed_at <= now]

    def find(self, instance: int) -> Contract | None:
        """The instance of that id, or None when there is none any more."""
        contract = self.contracts.get(instance)
        if contract is not None:
            contract.advance(self.pace.now())
        return None if contract is None or contract.gone else contract

    def need(self, instance: int) -> Contract:
        """The instance of that id. Raises Refusal (404) when there is none."""
        contract = self.find(instance)
        if contract is None:
            raise Refusal(404, "no_such_instance", f"Instance {instance} not found.")
        return contract

    def row(self, contract: Contract) -> dict[str, Any]:
        """The instance as the marketplace describes it now."""
        now = self.pace.now()
        running_s = None if contract.running_at is None else now - contract.running_at
        return shown(contract.row(self.pace.epoch(now)), self._fates[contract.id], now - contract.created_at, running_s)

    def start(self, instance: int) -> None:
        """Start a stopped instance. Raises Refusal (inside a 200) when its GPU is taken: the start is queued then."""
        contract = self.need(instance)
        listing, life, now = contract.listing, self.lives[instance], self.pace.now()
        if contract.alive and contract.status == "exited" and listing.occupant == instance:
            life.restart()
        if not contract.alive or contract.intended == "running":
            return
        chance = Stream(self.seed, "gpu-taken", contract.number, contract.boots)
        if listing.free(now) and chance.happens(self.profile.boot.gpu_taken.p):
            listing.elsewhere_until = now + chance.draw(self.profile.boot.gpu_taken_for)
        if listing.free(now):
            listing.occupant = instance
            life.restart()
            return
        life.queue(lambda: listing.free(self.pace.now()), lambda: setattr(listing, "occupant", instance))
        raise Refusal(200, None, _TAKEN)

    def stop(self, instance: int) -> None:
        """Stop an instance, or cancel its queued start; its GPU goes back to the market."""
        contract = self.need(instance)
        if contract.alive and contract.intended == "running":
            self.lives[instance].stop()
            if contract.listing.occupant == instance:
                self._release(contract.listing)

    def reboot(self, instance: int, status: str) -> None:
        """Stop and start the container with its GPU kept; ``status`` is ``rebooting`` or ``recycling``."""
        contract = self.need(instance)
        if contract.status != "running":
            raise Refusal(400, "invalid_args", f"Instance {instance} is {contract.status}, not running.")
        self.lives[instance].restart(status)

    def destroy(self, instance: int) -> None:
        """Destroy an instance; once more while it is on its way out does no harm."""
        contract = self.need(instance)
        if self.faults.strikes("destroy-ignored", contract.number):
            return
        if contract.alive:
            self.lives[instance].destroy()
            if contract.listing.occupant == instance:
                self._release(contract.listing)

    # Money

    def credit(self) -> float:
        """Dollars left."""
        return self.account.deposited - self.spent()

    def spent(self) -> float:
        """Dollars used by all instances so far."""
        now = self.pace.now()
        self.visible()
        return sum(contract.cost(now) for contract in self.contracts.values())

    def charges(self, first: float, last: float) -> list[dict[str, Any]]:
        """The rows of charges that overlap the dates ``first`` to ``last`` (Unix times) and have arrived by now."""
        now = self.pace.now()
        self.visible()
        rows = []
        for contract in self.contracts.values():
            known_until = now - contract.charges_lag
            ended = known_until if contract.meter.closed is None else min(known_until, contract.meter.closed)
            if known_until <= contract.created_at or self.pace.epoch(ended) < first or contract.created_epoch > last:
                continue
            usage, until = contract.usage(known_until), self.pace.epoch(ended)
            rows.append(charge(contract.id, contract.label, usage, contract.rates, contract.created_epoch, until))
        return rows

    def next_file(self) -> int:
        """The number of the next result file."""
        self._files_promised += 1
        return self._files_promised

    # The end

    async def close(self) -> None:
        """End every instance at once and remove its folder. What fails for one is raised when all others have ended."""
        ends = await asyncio.gather(*(life.end() for life in self.lives.values()), return_exceptions=True)
        for failure in ends:
            if failure is not None:
                raise failure

    def _rentable(self, offer_id: int, now: float) -> Listing:
        listing = next((one for one in self.listings if one.offer_id == offer_id and one.free(now)), None)
        if listing is None:
            raise offer_gone(offer_id, offer_id % 3)
        for form, status in enumerate((400, 404, 410, 409)):
            if self.faults.strikes(f"offer-gone-{status}", listing.machine.machine_id):
                self._withdraw(listing, now, self.faults.stream(f"offer-gone-{status}", listing.machine.machine_id))
                raise offer_gone(offer_id, form)
        market = self.profile.market
        listing.tries += 1
        stream = Stream(self.seed, "rental", listing.machine.machine_id, listing.tries)
        stale = now - listing.shown_at > market.stale_after.value
        if stream.happens((market.offer_gone_stale if stale else market.offer_gone).p):
            self._withdraw(listing, now, stream)
            raise offer_gone(offer_id, stream.below(3))
        return listing

    def _contract(self, listing: Listing, order: Order, now: float) -> Contract:
        machine, instance, number = listing.machine, self._new_id(), len(self.contracts)
        troubles = fate(self.faults, number, proxy_dead=rights.USER_WRITE in self.account.lacks)
        usual = round(machine.price * self.profile.dearer(self.pace.epoch(now)), 4)
        price = (usual if order.price is None else order.price) * troubles.price_factor
        rates = Rates(price, storage_per_hour(listing, order.disk_gb), machine.inet_up_cost, machine.inet_down_cost)
        spec = MachineSpec(
            id=instance,
            hostname=f"C.{instance}",
            gpu_name=machine.gpu.name,
            gpu_count=machine.num_gpus,
            gpu_ram_mb=machine.gpu.ram_mb,
            driver_version=machine.driver_version,
            cuda_version=str(machine.cuda),
            disk_gb=order.disk_gb,
            onstart=None if troubles.no_onstart else order.onstart,
            image=order.image or "",
            inet_down=machine.inet_down,
            clock="skewed" if troubles.skewed_clock else self.profile.guest.clock.value,
            full_disk=troubles.full_disk,
            bare=troubles.bare_image,
            chatty=troubles.chatty_image,
        )
        ssh = self.profile.ssh
        proxy = self._delays("proxy", ssh.proxy, number, machine.machine_id)
        direct = self._delays("direct", ssh.direct, number, machine.machine_id)
        straight = direct if order.direct and machine.direct_port_count else None
        ssh_trouble = SshTrouble(self.faults, number)
        make = partial(self._make_machine, spec, self._directory / str(instance), proxy, straight, ssh_trouble)
        contract = Contract(
            id=instance,
            number=number,
            listing=listing,
            order=order,
            key=secrets.token_hex(32),
            rates=rates,
            machine=make(),
            truth=self.truth,
            created_at=now,
            created_epoch=self.pace.epoch(now),
            charges_lag=Stream(self.seed, "charges", number).draw(self.profile.lag.charges) + troubles.charges_lag_s,
            listed_at=now + troubles.list_lag_s,
            label=order.label,
            onstart=spec.onstart,
        )
        listing.occupant = instance
        self.contracts[instance] = contract
        self._fates[instance] = troubles
        self.lives[instance] = Life(contract, self.profile, troubles, self.pace, self.seed, make)
        self.truth.write("create_effective", instance, at_s=now, label=order.label, machine=machine.machine_id)
        return contract

    def _delays(self, endpoint: str, whole: Distribution, number: int, machine_id: int) -> SshDelays:
        share = self.profile.ssh.login_share.value
        # Two streams of one name: the n-th login and the n-th command are parts of the same drawn connection.
        logins, commands = (Stream(self.seed, f"ssh-{endpoint}", number, machine=machine_id) for _ in range(2))
        return SshDelays(lambda: share * logins.draw(whole), lambda: (1 - share) * commands.draw(whole))

    def _withdraw(self, listing: Listing, now: float, stream: Stream) -> None:
        listing.elsewhere_until = now + stream.draw(self.profile.market.elsewhere)
        listing.offer_id = self._new_id()

    def _release(self, listing: Listing) -> None:
        listing.occupant = None
        listing.offer_id = self._new_id()
        listing.shown_at = self.pace.now()

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id
