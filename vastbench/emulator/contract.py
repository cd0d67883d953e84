"""One rented instance: its status as a function of the emulated clock and a drawn schedule, and its meters.

The first reader after a step is due applies it, with the reading at which it was due; the truth log gets that reading. So
what clients see and what the log says cannot drift apart, however late a timer fires.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vastbench.emulator.billing import Meter, Rates, Usage
from vastbench.emulator.offers import MONTH_H, Listing
from vastbench.emulator.orders import Order
from vastbench.emulator.truth import TruthLog

if TYPE_CHECKING:
    from vastbench.emulator.machine import Machine

_GPU_BILLED = frozenset({"running", "rebooting", "frozen"})


@dataclass(frozen=True, slots=True)
class Step:
    """A status that begins at the emulated reading ``at``; ``booted``: not before the machine has really booted; ``stopped``:
    the marketplace means it to be stopped from then on."""

    at: float
    status: str
    message: str
    booted: bool = False
    stopped: bool = False


@dataclass(slots=True)
class Contract:
    """An instance of the account. Readings are emulated seconds; ``created_epoch`` is a Unix time."""

    id: int
    number: int
    listing: Listing
    order: Order
    key: str
    rates: Rates
    machine: "Machine"
    truth: TruthLog
    created_at: float
    created_epoch: float
    charges_lag: float
    listed_at: float
    label: str | None
    onstart: str | None
    status: str | None = None
    message: str | None = None
    intended: str = "running"
    current: str = "running"
    upcoming: str = "running"
    image: str = ""
    steps: deque[Step] = field(default_factory=deque)
    booted_at: float | None = None
    running_at: float | None = None
    destroyed_at: float | None = None
    gone_at: float | None = None
    told_gone: bool = False
    lost: bool = False
    boots: int = 0
    bytes_before: tuple[int, int] = (0, 0)
    attached: dict[int, str] = field(default_factory=dict)
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        """Start the storage meter."""
        self.meter = Meter(self.created_at)
        self.image = self.order.image or "vastai/base-image"

    def advance(self, now: float) -> None:
        """Apply every step that is due at the reading ``now``."""
        while self.steps and self.steps[0].at <= now and self.destroyed_at is None:
            step = self.steps[0]
            if step.booted and self.booted_at is None:
                break
            self.steps.popleft()
            if step.stopped:
                self.intended = self.current = self.upcoming = "stopped"
            self.become(step.status, step.message, max(step.at, self.booted_at or step.at) if step.booted else step.at)
        if self.gone_at is not None and self.gone_at <= now and not self.told_gone:
            self.told_gone = True
            self.truth.write("gone", self.id, at_s=self.gone_at)

    def become(self, status: str, message: str, at: float) -> None:
        """Have this status from the reading ``at`` on."""
        self.status, self.message = status, message
        if status in _GPU_BILLED:
            self.meter.start_gpu(at, self.rates.gpu)
        else:
            self.meter.stop_gpu(at)
        if status == "running":
            self.running_at = at
        self.truth.write("status", self.id, at_s=at, status=status)

    def destroy(self, now: float, gone_at: float, event: str) -> None:
        """Everything ends now; the marketplace shows it from ``gone_at`` on. ``event`` says so in the truth log."""
        self.advance(now)
        self.steps.clear()
        self.meter.close(now)
        self.destroyed_at, self.gone_at = now, gone_at
        self.intended = self.upcoming = "stopped"
        self.truth.write(event, self.id, at_s=now)

    def bid(self, price: float, now: float) -> None:
        """Pay ``price`` $/h for the GPUs from now on."""
        self.advance(now)
        self.rates = replace(self.rates, gpu=price)
        if self.meter.gpu_running:
            self.meter.stop_gpu(now)
            self.meter.start_gpu(now, price)

    @property
    def gone(self) -> bool:
        """Whether the marketplace denies that it exists. True only after :meth:`advance` has passed that moment."""
        return self.told_gone

    @property
    def alive(self) -> bool:
        """Whether it exists and bills."""
        return self.destroyed_at is None

    def usage(self, until: float) -> Usage:
        """What was used up to the reading ``until``."""
        return self.meter.usage(until, self.bytes_up, self.bytes_down)

    @property
    def bytes_up(self) -> int:
        """Bytes out of the instance, over all its machines."""
        return self.bytes_before[0] + self.machine.bytes_up

    @property
    def bytes_down(self) -> int:
        """Bytes into the instance, over all its machines."""
        return self.bytes_before[1] + self.machine.bytes_down

    def cost(self, until: float) -> float:
        """Dollars up to the reading ``until``."""
        return sum(self.usage(until).costs(self.rates).values())

    def row(self, epoch: float) -> dict[str, Any]:
        """The instance as the marketplace describes it, at the date ``epoch`` (Unix time)."""
        place = self.listing.machine
        base, storage = self.rates.gpu, self.rates.storage
        total = base + storage
        costs = {"gpuCostPerHour": base, "diskHour": storage, "totalHour": total, "discountTotalHour": 0.0}
        costs["discountedTotalPerHour"] = total
        row = place.traits() | {
            "id": self.id,
            "label": self.label,
            "template_id": None,
            "template_hash_id": self.order.template_hash_id,
            "template_name": None,
            "actual_status": self.status,
            "cur_state": self.current,
            "next_state": self.upcoming,
            "intended_status": self.intended,
            "status_msg": self.message,
            "image_uuid": self.image,
            "image_args": self.order.args or [],
            "image_runtype": self.order.runtype or "ssh",
            "extra_env": [[key, value] for key, value in self.order.env.items()],
            "onstart": self.onstart,
            "jupyter_token": None,
            "ssh_host": "127.0.0.1",
            "ssh_port": self.machine.proxy_port,
            "ssh_idx": str(self.id % 9 + 1),
            "machine_dir_ssh_port": self.machine.direct_port,
            "local_ipaddrs": "127.0.0.1 \n",
            "direct_port_start": -1,
            "direct_port_end": -1,
            "start_date": self.created_epoch,
            "end_date": self.created_epoch + place.duration,
            "duration": self.created_epoch + place.duration - epoch,
            "uptime_mins": None,
            "reliability": place.reliability,
            "gpu_totalram": place.gpu.ram_mb * place.num_gpus,
            "dph_base": base,
            "dph_total": total,
            "storage_total_cost": storage,
            "is_bid": self.order.price is not None,
            "inet_up_billed": self.bytes_up / 1024,
            "inet_down_billed": self.bytes_down / 1024,
            "credit_balance": None,
            "credit_discount": None,
            "search": costs,
            "instance": dict(costs),
            "gpu_util": 0.0 if self.status == "running" else None,
            "gpu_temp": 34.0 if self.status == "running" else None,
            "cpu_util": 0.0,
            "mem_usage": None,
            "mem_limit": place.cpu_ram / 1024,
            "vmem_usage": None,
            "disk_space": self.order.disk_gb,
            "disk_usage": -1.0,
            "disk_util": -1.0,
        }
        if self.status == "running":
            row["ports"] = self.ports()
        return row

    def ports(self) -> dict[str, list[dict[str, str]]]:
        """Open ports: SSH behind the direct address, and what the order opened. They are this machine's own ports."""
        opened = {port: port.partition("/")[0] for port in self.order.ports}
        if self.machine.direct_port is not None:
            opened["22/tcp"] = str(self.machine.direct_port)
        return {port: [{"HostIp": "0.0.0.0", "HostPort": number}] for port, number in opened.items()}  # noqa: S104

    def environment(self, public_keys: str) -> dict[str, str]:
        """The variables that the container starts with."""
        env = self.order.variables | {
            "CONTAINER_ID": str(self.id),
            "CONTAINER_API_KEY": self.key,
            "VAST_CONTAINERLABEL": f"C.{self.id}",
            "PUBLIC_IPADDR": "127.0.0.1",
            "SSH_PUBLIC_KEY": public_keys,
            "GPU_COUNT": str(self.listing.machine.num_gpus),
            "DATA_DIRECTORY": "/workspace",
        }
        for port, hosts in self.ports().items():
            name, _, protocol = port.partition("/")
            env[f"VAST_{protocol.upper()}_PORT_{name}"] = hosts[0]["HostPort"]
        return env


def storage_per_hour(listing: Listing, disk_gb: float) -> float:
    """$/h for ``disk_gb`` of storage: GB × $/GB/month ÷ 720."""
    return disk_gb * listing.machine.storage_cost / MONTH_H
