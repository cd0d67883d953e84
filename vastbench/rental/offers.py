"""Which offers meet the conditions, and which of them is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from types import MappingProxyType

from vastbench.errors import NoOffer, did_you_mean
from vastbench.record.conditions import Conditions
from vastbench.vast.models import Offer
from vastbench.vast.query import OfferQuery

ROWS = (16, 64)
"""How many offers a search asks for, and how many when none of those fits: each row uses up the account's daily quota."""


GPUS = (
    *("RTX 3060", "RTX 3060 Ti", "RTX 3070", "RTX 3070 Ti", "RTX 3080", "RTX 3080 Ti", "RTX 3090", "RTX 3090 Ti"),
    *("RTX 4060", "RTX 4060 Ti", "RTX 4070", "RTX 4070 Ti", "RTX 4070S", "RTX 4070S Ti", "RTX 4080", "RTX 4080S", "RTX 4090"),
    *("RTX 4090D", "RTX 5060", "RTX 5060 Ti", "RTX 5070", "RTX 5070 Ti", "RTX 5080", "RTX 5090", "RTX A2000", "RTX A4000"),
    *("RTX A5000", "RTX A6000", "RTX 4000Ada", "RTX 5000Ada", "RTX 6000Ada", "RTX PRO 6000 WS", "RTX PRO 6000 S", "L4", "L40"),
    *("L40S", "A10", "A40", "A100 PCIE", "A100 SXM4", "H100 PCIE", "H100 SXM", "H100 NVL", "H200", "H200 NVL", "B200"),
    *("Tesla T4", "Tesla V100", "Tesla P100", "GTX 1080", "GTX 1080 Ti", "Titan RTX"),
)
"""The marketplace's names of common GPUs, for whoever writes one in another way; it knows more."""


def query(conditions: Conditions, rows: int = ROWS[-1]) -> OfferQuery:
    """The search for at most ``rows`` offers that meet the conditions, the cheapest by USD per hour, their disk included."""
    terms = {
        "num_gpus=": conditions.num_gpus,
        "disk_space>=": repr(conditions.disk_gb),
        "gpu_name=": conditions.gpu_name and f'"{conditions.gpu_name}"',
        "dph_total<=": repr(conditions.max_usd_per_hour),
        "reliability>=": repr(conditions.min_reliability),
        "cuda_max_good>=": conditions.cuda,
        "geolocation in ": conditions.region and f"[{conditions.region}]",
    }
    asked = " ".join(f"{term}{value}" for term, value in terms.items() if value is not None)
    return OfferQuery.parse(asked, limit=rows, allocated_storage_gb=conditions.disk_gb)


def find(
    search: Callable[[OfferQuery], Sequence[Offer]], conditions: Conditions, pick: Callable[[Sequence[Offer]], Offer]
) -> Offer:
    """The offer that ``pick`` takes of what ``search`` finds, asked for with as few rows as may do.

    ``pick`` raises NoOffer where none fits; so does this when more rows have none either.
    """
    if conditions.choose == "cheapest":
        with suppress(NoOffer):
            return pick(search(query(conditions, ROWS[0])))
    return pick(search(query(conditions, ROWS[-1])))


def choose(
    offers: Sequence[Offer],
    conditions: Conditions,
    *,
    without_machines: Set[int] = frozenset(),
    rented: Mapping[int, int] = MappingProxyType({}),
) -> Offer:
    """The offer that the policy of the conditions takes, machines in ``without_machines`` left out.

    ``rented``: how often each machine was rented before. Prices include the wanted disk. Ties go to the lower offer id, so that
    the same market gives the same choice. Raises NoOffer when nothing fits.
    """
    fits = [
        offer
        for offer in offers
        if offer.machine_id not in without_machines and offer.usd_per_hour(conditions.disk_gb) <= conditions.max_usd_per_hour
    ]
    if not fits:
        gpu = conditions.gpu_name or "any GPU"
        cuda = f", CUDA {conditions.cuda} for {conditions.image}" if conditions.cuda else ""
        where = f" in {conditions.region}" if conditions.region else ""
        other = _another_name(conditions.gpu_name)
        raise NoOffer(
            f"No offer for {conditions.num_gpus} × {gpu} with {conditions.disk_gb:g} GB of disk{cuda}{where} at or below "
            f"${conditions.max_usd_per_hour:g}/h: {len(offers)} were found, {len(without_machines)} machines tried already.",
            hint=f"{other}Allow a higher price, choose another GPU, or look at `vastbench offers`.",
        )

    def rank(offer: Offer) -> tuple[float, float, int]:
        first = {
            "cheapest": 0.0,
            "reliable": -(offer.reliability or 0.0),
            "spread": float(rented.get(offer.machine_id or 0, 0)),
        }
        return first[conditions.choose], offer.usd_per_hour(conditions.disk_gb), offer.id

    return min(fits, key=rank)


def _another_name(gpu: str | None) -> str:
    """The beginning of a hint for a GPU's name in another spelling than the marketplace's; empty for a common name."""
    return "" if gpu is None or gpu in GPUS else did_you_mean(gpu, GPUS)
