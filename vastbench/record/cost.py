"""What a run cost, by meter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost, in USD, by meter; an estimate from the run's own bounds.

    ``gpu_usd`` with ``gpu_lower_usd``/``gpu_upper_usd``: seconds running × price. ``storage_usd``: seconds from creation to
    destruction × storage price. ``transfer_usd``: the test file's bytes × the offer's price per GB
    (10⁹ bytes); the image pull and the protocol's own bytes are not known to us. ``naive_usd``: wall clock × hourly
    price, as is commonly reported. Missing values are None.
    """

    gpu_usd: float | None = None
    gpu_lower_usd: float | None = None
    gpu_upper_usd: float | None = None
    storage_usd: float | None = None
    transfer_usd: float | None = None
    naive_usd: float | None = None

    @property
    def total_usd(self) -> float | None:
        """The known meters together, or None when the GPU meter is unknown."""
        if self.gpu_usd is None:
            return None
        return self.gpu_usd + (self.storage_usd or 0.0) + (self.transfer_usd or 0.0)
