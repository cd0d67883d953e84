"""The machines on the market, and the offers that stand for them while they are free.

A machine and its traits last as long as the emulator; an offer lasts until it is rented, and its id never comes back.
"""

from dataclasses import dataclass
from typing import Any

from vastbench.emulator.draws import Lognormal, Stream
from vastbench.emulator.profile import Gpu, Market

MONTH_H = 720.0
"""Hours in the month that storage prices are quoted for."""

_PLACES: tuple[str, ...] = (
    "California, US",
    "Texas, US",
    "North Carolina, US",
    "British Columbia, CA",
    "Quebec, CA",
    "Germany, DE",
    "Spain, ES",
)
_PLACES += ("Norway, NO", "Poland, PL", "Taiwan, TW", "Japan, JP", "Vietnam, VN", ", SE")
_DRIVERS = {"580.95.05": 13.0, "570.133.20": 12.8, "560.35.03": 12.6, "550.127.05": 12.4}
_CPUS = ("AMD EPYC 7452 32-Core Processor", "AMD EPYC 7763 64-Core Processor", "AMD Ryzen 9 7950X", "Xeon Gold 6226R")
_GPU_COUNTS = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class Machine:
    """What never changes about one machine. Prices in $/h, storage in $/GB/month, traffic in $/GB, memory in MB, disk in GB."""

    machine_id: int
    host_id: int
    gpu: Gpu
    num_gpus: int
    price: float
    storage_cost: float
    inet_up_cost: float
    inet_down_cost: float
    inet_up: float
    inet_down: float
    geolocation: str
    reliability: float
    driver_version: str
    cuda: float
    cpu_name: str
    cpu_cores: int
    cpu_ram: int
    disk_space: float
    disk_bw: float
    direct_port_count: int
    duration: float
    hosting_type: int

    @property
    def min_bid(self) -> float:
        """The least bid, in $/h."""
        return round(self.price * 0.6, 4)

    def traits(self) -> dict[str, Any]:
        """The fields that offers and instances have in common."""
        gpu, count = self.gpu, self.num_gpus
        return {
            "machine_id": self.machine_id,
            "host_id": self.host_id,
            "bundle_id": self.machine_id * 10 + 1,
            "hosting_type": self.hosting_type,
            "num_gpus": count,
            "gpu_frac": 1.0,
            "gpu_name": gpu.name,
            "gpu_ram": gpu.ram_mb,
            "gpu_arch": "nvidia",
            "gpu_lanes": 16,
            "gpu_mem_bw": round(gpu.ram_mb / 27.0, 1),
            "gpu_max_power": 450.0,
            "gpu_max_temp": 90.0,
            "gpu_display_active": False,
            "bw_nvlink": 0.0,
            "pcie_bw": 24.1,
            "pci_gen": 4.0,
            "compute_cap": gpu.compute_cap,
            "cuda_max_good": self.cuda,
            "driver_version": self.driver_version,
            "driver_vers": driver_number(self.driver_version),
            "cpu_name": self.cpu_name,
            "cpu_cores": self.cpu_cores,
            "cpu_cores_effective": float(self.cpu_cores),
            "cpu_ram": self.cpu_ram,
            "cpu_ghz": 3.5,
            "cpu_arch": "amd64",
            "has_avx": 1,
            "mobo_name": "ROMED8-2T",
            "disk_bw": self.disk_bw,
            "disk_name": "nvme",
            "inet_up": self.inet_up,
            "inet_down": self.inet_down,
            "inet_up_cost": self.inet_up_cost,
            "inet_down_cost": self.inet_down_cost,
            "internet_up_cost_per_tb": round(self.inet_up_cost * 1000, 4),
            "internet_down_cost_per_tb": round(self.inet_down_cost * 1000, 4),
            "storage_cost": self.storage_cost,
            "min_bid": self.min_bid,
            "reliability2": self.reliability,
            "dlperf": round(gpu.dlperf * count, 2),
            "total_flops": round(gpu.dlperf * count * 0.87, 2),
            "verification": "verified",
            "geolocation": self.geolocation,
            "direct_port_count": self.direct_port_count,
            "static_ip": True,
            "public_ipaddr": "127.0.0.1",
            "os_version": "22.04",
        }


@dataclass(slots=True)
class Listing:
    """One machine's place on the market: its current offer, and who has the machine now.

    ``occupant``: the instance of this account that holds the GPUs. ``elsewhere_until``: the emulated reading until which other
    customers hold them. ``shown_at``: when a search last returned the offer.
    ``tries``: how often anybody of this account tried to rent it.
    """

    machine: Machine
    offer_id: int
    occupant: int | None = None
    elsewhere_until: float = float("-inf")
    shown_at: float = float("-inf")
    tries: int = 0

    def free(self, now: float) -> bool:
        """Whether the GPUs can be rented at this reading."""
        return self.occupant is None and self.elsewhere_until <= now

    def row(self, disk_gb: float, *, bid: bool, epoch: float, dearer: float) -> dict[str, Any]:
        """The offer as the search returns it, priced with ``disk_gb`` of storage, at the date ``epoch``, when machines cost
        ``dearer`` times as much as on average."""
        machine = self.machine
        base = machine.min_bid if bid else round(machine.price * dearer, 4)
        storage = disk_gb * machine.storage_cost / MONTH_H
        total = round(base + storage, 10)
        costs = {"gpuCostPerHour": base, "diskHour": storage, "totalHour": total, "discountTotalHour": 0.0}
        costs["discountedTotalPerHour"] = total
        return machine.traits() | {
            "id": self.offer_id,
            "ask_contract_id": self.offer_id,
            "gpu_total_ram": machine.gpu.ram_mb * machine.num_gpus,
            "disk_space": machine.disk_space,
            "reliability": machine.reliability,
            "dph_base": base,
            "dph_total": total,
            "storage_total_cost": storage,
            "discounted_dph_total": total,
            "credit_discount_max": 0.0,
            "dlperf_per_dphtotal": machine.gpu.dlperf * machine.num_gpus / total,
            "flops_per_dphtotal": machine.gpu.dlperf * machine.num_gpus * 0.87 / total,
            "score": round(machine.gpu.dlperf * machine.num_gpus / total * machine.reliability, 4),
            "is_bid": bid,
            "rentable": True,
            "rented": False,
            "external": False,
            "vms_enabled": False,
            "resource_type": "gpu",
            "duration": machine.duration,
            "end_date": epoch + machine.duration,
            "time_remaining": "",
            "search": costs,
            "instance": dict(costs),
        }


def machines(market: Market, seed: int) -> list[Machine]:
    """The machines of this market, drawn from the profile; the same ones for the same seed."""
    return [_machine(market, seed, number) for number in range(int(market.machines.value))]


def driver_number(version: str) -> int:
    """``535.86.05`` as the number that driver filters compare with: 535086005."""
    parts = [int(part) for part in version.split(".")]
    return parts[0] * 1_000_000 + parts[1] * 1000 + parts[2]


def _machine(market: Market, seed: int, number: int) -> Machine:
    stream = Stream(seed, "machine", number)
    gpu = market.gpus[stream.weighted([card.weight for card in market.gpus])]
    single = stream.happens(market.single_gpu.p)
    count = 1 if single else _GPU_COUNTS[stream.below(len(_GPU_COUNTS))]
    price = stream.draw(Lognormal(kind="lognormal", median=gpu.price, sigma=gpu.price_sigma))
    place = _PLACES[stream.below(len(_PLACES))]
    reliability = round(1 - stream.between(0.0005, 0.03), 4)
    driver = list(_DRIVERS)[stream.below(len(_DRIVERS))]
    storage = round(stream.between(0.08, 0.30), 3)
    if number == 0 and (pinned := market.first) is not None:
        count, price, storage = 1, pinned.price, 0.0
        place, reliability, driver = pinned.geolocation, pinned.reliability, pinned.driver_version
    else:
        price = max(price, market.price_floor.value)
    cores = 16 * count * (1 + stream.below(2))
    return Machine(
        machine_id=1000 + number,
        host_id=500 + number // 3,
        gpu=gpu,
        num_gpus=count,
        price=round(price * count, 4),
        storage_cost=storage,
        inet_up_cost=round(stream.between(0.001, 0.02), 4),
        inet_down_cost=round(stream.between(0.001, 0.02), 4),
        inet_up=round(stream.between(100, 2000), 1),
        inet_down=round(stream.between(200, 5000), 1),
        geolocation=place,
        reliability=reliability,
        driver_version=driver,
        cuda=_DRIVERS.get(driver, 13.0),
        cpu_name=_CPUS[stream.below(len(_CPUS))],
        cpu_cores=cores,
        cpu_ram=cores * 4096,
        disk_space=round(stream.between(120, 2000), 1),
        disk_bw=round(stream.between(800, 6000), 1),
        direct_port_count=100,
        duration=stream.between(20, 200) * 86400,
        hosting_type=stream.below(2),
    )
