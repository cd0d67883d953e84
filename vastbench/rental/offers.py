"""Which offers meet the conditions, and which of them is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from vastbench.errors import NoOffer
from vastbench.record.conditions import Conditions
from vastbench.vast.models import Offer
from vastbench.vast.query import OfferQuery

ROWS = (16, 64)
"""How many offers a search asks for, and how many when none of those fits: each row uses up the account's daily quota."""


def query(conditions: Conditions, rows: int = ROWS[-1]) -> OfferQuery:
    """The search for at most ``rows`` offers that meet the conditions, the cheapest."""
    return OfferQuery.default(
        gpu_name=conditions.gpu_name,
        num_gpus=conditions.num_gpus,
        max_usd_per_hour=conditions.max_usd_per_hour,
        min_reliability=conditions.min_reliability,
        disk_gb=conditions.disk_gb,
        cuda=conditions.cuda,
        limit=rows,
    )


def find(
    search: Callable[[OfferQuery], Sequence[Offer]], conditions: Conditions, pick: Callable[[Sequence[Offer]], Offer]
) -> Offer:
    """The offer that ``pick`` takes of what ``search`` finds, asked for with as few rows as may do.

    ``pick`` raises NoOffer where none fits; so does this when more rows have none either.
    """
    try:
        return pick(search(query(conditions, ROWS[0])))
    except NoOffer:
        return pick(search(query(conditions, ROWS[-1])))


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
