"""Offer filters in the marketplace's own language, such as ``gpu_name=RTX_4090 num_gpus=1 dph<0.5 geolocation in [US,CA]``.

A query is a row of ``field operator value``. Units are those of the official client: memory in GB (sent as MB), ``duration``
in days (sent as seconds), ``driver_version`` as printed by the driver. ``field=any`` takes a default filter out.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from vastbench.errors import UsageError, did_you_mean
from vastbench.vast.models import Offer, flag, number


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBERS = _words("""
    allocated_storage ask_contract_id bundle_id bw_nvlink compute_cap cpu_cores cpu_cores_effective cpu_ghz cpu_ram
    credit_discount_max cuda_max_good direct_port_count discounted_dph_total disk_bw disk_space dlperf dlperf_per_dphtotal
    dph_base dph_total driver_version duration end_date flops_per_dphtotal gpu_frac gpu_lanes gpu_max_power gpu_max_temp
    gpu_mem_bw gpu_ram gpu_total_ram host_id hosting_type inet_down inet_down_cost inet_up inet_up_cost machine_id min_bid
    num_gpus pci_gen pcie_bw reliability reliability2 score storage_cost storage_total_cost total_flops vericode
""")
_FLAGS = _words("datacenter external gpu_display_active has_avx is_bid rentable rented static_ip verified vms_enabled")
_TEXTS = _words("cpu_arch cpu_name geolocation gpu_arch gpu_name mobo_name os_version public_ipaddr resource_type verification")

ALIASES = {
    "cuda_vers": "cuda_max_good",
    "display_active": "gpu_display_active",
    "dlperf_usd": "dlperf_per_dphtotal",
    "dph": "dph_total",
    "flops_usd": "flops_per_dphtotal",
    "id": "ask_contract_id",
}
"""Short names of fields; ``id`` because the marketplace matches nothing when asked for it."""

_OPERATORS = {
    "=": "eq",
    "==": "eq",
    "!=": "neq",
    ">": "gt",
    ">=": "gte",
    "<": "lt",
    "<=": "lte",
    "noteq": "neq",
    "nin": "notin",
}
"""The marketplace's word for each operator; words that are missing here stand for themselves."""

_DEFAULTS = {"verified": {"eq": True}, "external": {"eq": False}, "rentable": {"eq": True}}
_MEMORY = ("gpu_ram", "gpu_total_ram", "cpu_ram")
_TERM = re.compile(
    r"""(?P<field>[A-Za-z_][A-Za-z0-9_]*+)
    (?:\s*(?P<op>==|!=|>=|<=|=|>|<)|\s+(?P<word>not\s+in|not\s+eq|notin|noteq|nin|neq|eq|gte?|lte?|in)(?=[\s\["']))
    \s*(?P<value>\[[^\[\]]*\]|"[^"]*"|'[^']*'|[^\s\["'<>=!][^\s\["']*)(?=\s|$)""",
    re.VERBOSE | re.IGNORECASE,
)
_LANGUAGE = "Write field, operator and value, such as gpu_name=RTX_4090 num_gpus=1 'dph<0.5'."

Filters = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """Which offers to ask for.

    ``filters`` maps field → operator → value in the marketplace's units; ``order`` holds (field, "asc" or "desc");
    ``limit`` counts offers (each row that is shown uses up the account's daily quota of rows); ``allocated_storage_gb`` is the
    disk that ``dph_total`` shall include.
    """

    filters: Filters
    order: tuple[tuple[str, str], ...] = (("dph_total", "asc"),)
    limit: int = 64
    allocated_storage_gb: float = 20.0
    text: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuse a limit or a disk that makes no sense."""
        if self.limit < 1:
            raise UsageError(f"The limit is {self.limit}.", hint="Ask for at least one offer.")
        if not (math.isfinite(self.allocated_storage_gb) and self.allocated_storage_gb >= 0):
            raise UsageError(f"The disk has {self.allocated_storage_gb} GB.", hint="Give its size in GB.")

    @classmethod
    def parse(
        cls, text: str, *, order: str = "dph_total", limit: int = 64, allocated_storage_gb: float = 20.0, defaults: bool = True
    ) -> Self:
        """Read a query; ``order`` is fields with an optional ``+`` or ``-``, separated by commas.

        Unless ``defaults`` is false, only verified, rentable offers of the marketplace's own hosts are asked for. Raises
        UsageError with the token that cannot be read.
        """
        filters: dict[str, dict[str, object]] = {}
        removed: set[str] = set()
        position = len(text) - len(text.lstrip())
        while position < len(text):
            term = _TERM.match(text, position)
            if term is None:
                raise UsageError(f"The query cannot be read from {_excerpt(text[position:])} on.", hint=_LANGUAGE)
            name = _field(term["field"])
            written = "".join((term["op"] or term["word"]).lower().split())
            operator = _OPERATORS.get(written, written)
            if term["value"].lower() in ("any", "?", "*"):
                if operator != "eq":
                    raise UsageError(f"The query has {_excerpt(term[0])}.", hint=f"Write {name}=any to drop a filter.")
                removed.add(name)
            elif operator in filters.setdefault(name, {}):
                raise UsageError(
                    f"The query filters {name} twice with the same operator, in {_excerpt(term[0])}.", hint=_LANGUAGE
                )
            else:
                filters[name][operator] = _operand(name, operator, term["value"], term[0])
            position = term.end() + len(text[term.end() :]) - len(text[term.end() :].lstrip())
        if both := removed & {name for name, terms in filters.items() if terms}:
            raise UsageError(f"The query both filters and frees {', '.join(sorted(both))}.", hint=_LANGUAGE)
        base: dict[str, dict[str, object]] = {name: dict(terms) for name, terms in _DEFAULTS.items()} if defaults else {}
        chosen = {name: terms for name, terms in (base | filters).items() if name not in removed}
        frozen = MappingProxyType({name: MappingProxyType(terms) for name, terms in chosen.items()})
        return cls(frozen, _order(order), limit, allocated_storage_gb, text.strip())

    def body(self) -> dict[str, object]:
        """The search request's JSON."""
        return {name: dict(terms) for name, terms in self.filters.items()} | {
            "order": [list(part) for part in self.order],
            "type": "on-demand",
            "limit": self.limit,
            "allocated_storage": self.allocated_storage_gb,
        }

    def accepts(self, offer: Offer) -> bool:
        """Whether ``offer`` passes the filters, as far as its fields can tell: the marketplace does not always apply them."""
        return all(
            _passes(operator, wanted, found)
            for name, terms in self.filters.items()
            for operator, wanted in terms.items()
            for found in _found(offer, name)
        )


def _field(name: str) -> str:
    """The marketplace's name of a field."""
    known = ALIASES.get(name.lower(), name.lower())
    if known not in _NUMBERS and known not in _FLAGS and known not in _TEXTS:
        hint = did_you_mean(known, [*_NUMBERS, *_FLAGS, *_TEXTS, *ALIASES]).strip() or _LANGUAGE
        raise UsageError(f"There is no offer field {name[:60]!r}.", hint=hint)
    return known


def _operand(name: str, operator: str, text: str, term: str) -> Any:
    """The right-hand side of a term, in the marketplace's units."""
    is_list = text.startswith("[")
    if is_list and operator not in ("in", "notin"):
        raise UsageError(f"The query compares with a list in {_excerpt(term)}.", hint=f"Write {name} in {text[:60]}.")
    if name not in _NUMBERS and operator not in ("eq", "neq", "in", "notin"):
        raise UsageError(f"{name} cannot be compared by size, as in {_excerpt(term)}.", hint="Use =, !=, in or notin.")
    if operator in ("in", "notin"):
        parts = [part.strip() for part in text.strip("[]").split(",")] if is_list else [text]
        if not all(parts):
            raise UsageError(f"The list in {_excerpt(term)} has an empty place.", hint="Write [a,b].")
        return [_value(name, part, term) for part in parts]
    return _value(name, text, term)


def _value(name: str, text: str, term: str) -> Any:
    quoted = text[:1] in "\"'" and len(text) >= 2
    bare = text.strip("\"'")
    if not quoted and bare.lower() in ("none", "null"):
        return None
    if name in _FLAGS:
        if bare.lower() not in ("true", "false"):
            raise UsageError(f"{name} is true or false, not as in {_excerpt(term)}.", hint=f"Write {name}=true.")
        return bare.lower() == "true"
    if name in _TEXTS:
        return bare if quoted else bare.replace("_", " ")
    found = _driver(bare) if name == "driver_version" else number(bare)
    if found is None:
        raise UsageError(f"{name} is a number, not as in {_excerpt(term)}.", hint=f"Write {name}>=1.")
    if name in _MEMORY:
        found *= 1000
    if name == "duration":
        found *= 86_400
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def _driver(text: object) -> float | None:
    """A driver version as one number, 535.86.05 → 535086005; numbers of that size stay as they are."""
    parts = str(text).split(".")
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        return None
    if len(parts) == 1 and len(parts[0]) > 6:
        return float(parts[0])
    major, minor, patch = (int(part) for part in [*parts, "0", "0"][:3])
    return float(major * 1_000_000 + minor * 1000 + patch)


def _order(text: str) -> tuple[tuple[str, str], ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"The order {text[:60]!r} has an empty place.", hint="Write dph_total or score-,dph_total.")
    return tuple((_field(part.rstrip("+-")), "desc" if part.endswith("-") else "asc") for part in parts)


def _found(offer: Offer, name: str) -> Sequence[Any]:
    """What ``offer`` says about a filtered field, as a list of one value; empty when it cannot tell."""
    if name == "verified":
        return [offer.verification == "verified"] if offer.verification is not None else []
    if name == "geolocation":
        return [offer.geolocation.rpartition(",")[2].strip()] if offer.geolocation else []
    if name == "ask_contract_id":
        return [offer.id]
    if not offer.has(name) or (name in _TEXTS and name != "gpu_name"):
        return []
    value = offer.value(name)
    if name == "driver_version":
        return [_driver(value)]
    if name in _FLAGS:
        known = flag(value)
        return [] if known is None else [known]
    return [number(value) if name in _NUMBERS else value]


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda found, wanted: found > wanted,
    "gte": lambda found, wanted: found >= wanted,
    "lt": lambda found, wanted: found < wanted,
    "lte": lambda found, wanted: found <= wanted,
}


def _passes(operator: str, wanted: Any, found: Any) -> bool:
    if operator in _COMPARE:
        return wanted is not None and found is not None and _COMPARE[operator](found, wanted)
    listed = wanted if operator in ("in", "notin") else [wanted]
    return any(_equal(found, one) for one in listed) is (operator in ("eq", "in"))


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)


def _excerpt(text: str) -> str:
    return repr(text.strip()[:60])
