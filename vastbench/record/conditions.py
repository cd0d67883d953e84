"""What a run asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vastbench.errors import UsageError

AHEAD_S = 180.0
"""Clock seconds that the deadline lies ahead of a living run."""

CLOSING_RESERVE_S = 300.0
"""Clock seconds beyond the deadlines that a lease may last: for the work itself and for destroying."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run asks for.

    ``max_usd_per_hour``: whole hourly price, GPU and disk together. ``min_reliability``: 0–1. Deadlines are clock seconds.
    ``attempts``: how many creates may be sent while they are refused because the offer is gone or calls came too fast.
    """

    gpu_name: str | None = "RTX 4090"
    num_gpus: int = 1
    max_usd_per_hour: float = 0.5
    min_reliability: float = 0.9
    disk_gb: float = 20.0
    image: str = "nvidia/cuda:12.1.0-base-ubuntu22.04"
    boot_deadline_s: float = 600.0
    ssh_deadline_s: float = 300.0
    attempts: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be asked for. Raises UsageError."""
        ranges = {
            "num_gpus": ("number of GPUs", 1, 64),
            "max_usd_per_hour": ("maximum price in USD per hour", 0.001, 128),
            "min_reliability": ("minimum reliability", 0, 1),
            "disk_gb": ("disk size in GB", 8, 100_000),
            "boot_deadline_s": ("boot deadline in seconds", 1, 86_400),
            "ssh_deadline_s": ("SSH deadline in seconds", 1, 86_400),
            "attempts": ("number of attempts", 1, 20),
        }
        for name, (words, low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise UsageError(f"The {words} ({name}) is {value!r}.", hint=f"Give a number from {low} to {high}.")
        if not self.image or any(c.isspace() for c in self.image):
            raise UsageError(f"image is {self.image!r}.", hint="Give an image name such as ubuntu:22.04.")

    @property
    def lifetime_s(self) -> float:
        """The longest that an instance of this run may be needed, in clock seconds."""
        return self.boot_deadline_s + self.ssh_deadline_s + CLOSING_RESERVE_S

    @property
    def unattended_s(self) -> float:
        """How long an instance may live, in clock seconds, whose owner was not heard of since it was created."""
        return self.boot_deadline_s + self.ssh_deadline_s + AHEAD_S

    def worst_case_usd(self, usd_per_hour: float | None = None) -> float:
        """What one run costs at most: the whole hourly price over the whole lifetime."""
        return (self.max_usd_per_hour if usd_per_hour is None else usd_per_hour) * self.lifetime_s / 3600

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Conditions:
        """The conditions that ``document`` (of a study or a run) holds among others."""
        return cls(**{one.name: document[one.name] for one in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """The conditions as the run's record keeps them."""
        return asdict(self)
