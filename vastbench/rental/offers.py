"""Which offers meet the conditions, and which of them is taken."""

from __future__ import annotations

from collections.abc import Sequence, Set

from vastbench.errors import NoOffer
from vastbench.record.conditions import Conditions
from vastbench.vast.models import Offer
from vastbench.vast.query import OfferQuery


def query(conditions: Conditions) -> OfferQuery:
    """The search for offers that meet the conditions."""
    return OfferQuery.default(
        gpu_name=conditions.gpu_name,
        num_gpus=conditions.num_gpus,
        max_usd_per_hour=conditions.max_usd_per_hour,
        min_reliability=conditions.min_reliability,
        disk_gb=conditions.disk_gb,
        cuda=conditions.cuda,
    )


def choose(offers: Sequence[Offer], conditions: Conditions, *, without_machines: Set[int] = frozenset()) -> Offer:
    """The cheapest offer for the wanted disk, machines in ``without_machines`` left out.

    Ties go to the lower offer id, so that the same market gives the same choice. Raises NoOffer when nothing fits.
    """
    fits = [
        offer
        for offer in offers
        if offer.machine_id not in without_machines and offer.usd_per_hour(conditions.disk_gb) <= conditions.max_usd_per_hour
    ]
    if not fits:
        gpu = conditions.gpu_name or "any GPU"
        cuda = f", CUDA {conditions.cuda} for {conditions.image}" if conditions.cuda else ""
        raise NoOffer(
            f"No offer for {conditions.num_gpus} × {gpu} with {conditions.disk_gb:g} GB of disk{cuda} at or below "
            f"${conditions.max_usd_per_hour:g}/h: {len(offers)} were found, {len(without_machines)} machines tried already.",
            hint="Allow a higher price, choose another GPU, or look at `vastbench offers`.",
        )
    return min(fits, key=lambda offer: (offer.usd_per_hour(conditions.disk_gb), offer.id))
