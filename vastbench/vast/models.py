"""What the marketplace sends and takes, as values.

The marketplace leaves fields out, sends null, and sends numbers as strings; all of that is normal and becomes None or the
number. Only what we could not work without is required: an id everywhere, and prices in an offer. Fields that no model here
names are ignored.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from vastbench.errors import UsageError
from vastbench.record.cost import METERS, ROUNDED_USD, TOTAL, Charged, storage_usd_per_hour, together
from vastbench.record.numbers import LARGEST, measurable

SSH_RUNTYPE = "ssh_direc ssh_proxy"
"""SSH over both endpoints, spelled as the official client spells it in every rental."""

LEASE_VARIABLE = "VASTBENCH_LEASE"
"""The variable of an instance's environment that holds its label: a second place, should the label be lost or cut."""

LONGEST_TEXT = 1024
"""Characters that are kept of a text: as many as a label may have. Every poll's sightings are kept."""

DOOMED = frozenset({"error", "exited", "offline", "stopped", "unknown"})
"""The statuses from which an instance that is being provisioned does not recover."""

_IMAGE_FAILS = re.compile(
    r"manifest unknown|manifest \S+ not found|no matching manifest|pull access denied|repository does not exist|no such image"
    r"|unauthorized|access to the resource is denied|invalid reference format|exec format error",
    re.IGNORECASE,
)
"""What the container daemon says of an image that no machine can run."""

_DAEMON_FAILS = re.compile(
    r"error response from daemon|oci runtime \w+ failed|nvidia-container-cli|too ?many ?requests|pull rate limit"
    r"|failed to (?:pull|register|extract|create|start|mount)|no space left|disk quota exceeded|unexpected eof",
    re.IGNORECASE,
)
"""What it says, besides, when there will be no container; where the words come and go, it tries again by itself."""

_STATED = re.compile(r"(\d+(?:\.\d+)?) (?:hours?|GB) at \$(\d+(?:\.\d+)?)/")
"""How a charge says what it is made of: so much at so much."""

_METER_OF = {"gpu": "gpu", "disk": "storage", "bwd": "transfer", "bwu": "transfer"}
"""The meter of each kind of item."""

LARGEST_USD = 1e9
"""A larger amount is no charge of anybody's."""


def number(value: object) -> float | None:
    """A number from a number or its text; None for anything else, and for impossible values: NaN, 1e308."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if measurable(found) else None


def whole(value: object) -> int | None:
    """A whole number of at most 18 digits from a number or its text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 10**18 else None
    found = number(value)
    return int(found) if found is not None and found.is_integer() and abs(found) < 2**53 else None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode("utf-8", "replace").decode().strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) and number(value) is not None else None


def flag(value: object) -> bool | None:
    """True or false from a truth value, its text, 1 or 0; None for anything else."""
    return {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())


def _ssh_port(ports: object) -> int | None:
    """Where an instance's port of SSH leads, from all its ports or as the number itself; the others are not kept."""
    mapped = ports.get("22/tcp") if isinstance(ports, dict) else None
    first = mapped[0] if isinstance(mapped, list) and mapped else None
    return whole(first.get("HostPort") if isinstance(first, dict) else ports)


def _rows(value: object) -> list[object]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list | tuple) else []


def _amount(value: object) -> float | None:
    """An amount of USD; None for anything else."""
    found = number(value)
    return found if found is not None and abs(found) <= LARGEST_USD else None


def _stated(text: str) -> Charged | None:
    """What "1.000 hours at $0.300/hour" comes to, and what the rounding of both numbers leaves open; None for other words."""
    found = _STATED.search(text)
    if found is None:
        return None
    low = high = 1.0
    for word in found.groups():
        value = number(word)
        if value is None:
            return None
        half = 0.5 * 10.0 ** -len(word.partition(".")[2])
        low, high = low * max(0.0, value - half), high * (value + half)
    return Charged.between(low, high) if high <= LARGEST_USD else None


def _noted(env: object) -> str | None:
    """The label that an environment notes; it comes as pairs of name and value, or as one object."""
    pairs = env.items() if isinstance(env, dict) else rows_of(env) or ()
    named = (pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] == LEASE_VARIABLE)
    return next((_text(value) for _, value in named), None)


Number = Annotated[float | None, BeforeValidator(number)]
Whole = Annotated[int | None, BeforeValidator(whole)]
Text = Annotated[str | None, BeforeValidator(_text)]
Flag = Annotated[bool | None, BeforeValidator(flag)]
Id = Annotated[int, BeforeValidator(whole), Field(ge=0)]
Price = Annotated[float, BeforeValidator(number), Field(ge=0)]
Amount = Annotated[float | None, BeforeValidator(_amount)]
OptionalPrice = Annotated[float | None, Field(ge=0, le=LARGEST, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)


class Offer(_Model):
    """A machine for rent. Prices are USD per hour, per GB and month (``storage_cost``) or per GB (``inet_*_cost``).

    ``dph_total`` includes storage for as much disk as the query allocated. An offer whose prices are missing, negative or not
    finite is no offer. ``reliability`` lies in 0–1, memory in MB, disk in GB.
    """

    id: Id
    machine_id: Whole = None
    host_id: Whole = None
    gpu_name: Text = None
    num_gpus: Whole = None
    gpu_ram_mb: Number = Field(None, validation_alias=AliasChoices("gpu_ram", "gpu_ram_mb"))
    dph_base: Price
    dph_total: Price
    storage_cost: Price
    inet_up_cost: OptionalPrice = None
    inet_down_cost: OptionalPrice = None
    inet_up: Number = None
    inet_down: Number = None
    reliability: Number = None
    geolocation: Text = None
    disk_space_gb: Number = Field(None, validation_alias=AliasChoices("disk_space", "disk_space_gb"))
    disk_bw: Number = None
    cuda_max_good: Number = None
    driver_version: Text = None
    cpu_cores_effective: Number = None
    direct_port_count: Whole = None
    hosting_type: Whole = None
    verification: Text = None
    rentable: Flag = None
    duration: Number = None
    dlperf: Number = None
    _row: dict[str, object] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_row(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Read ``ask_contract_id`` and ``reliability2`` where their twins are missing, and keep the row for ``value``."""
        if isinstance(data, Mapping):
            row = dict(data)
            for name, twin in (("id", "ask_contract_id"), ("reliability", "reliability2")):
                if row.get(name) is None:
                    row[name] = row.get(twin)
            offer = handler(row)
            offer._row = row
            return offer
        return handler(data)

    def usd_per_hour(self, disk_gb: float) -> float:
        """USD per hour while running with ``disk_gb`` GB of disk: dph_base + disk × storage_cost / 720."""
        return self.dph_base + storage_usd_per_hour(disk_gb, self.storage_cost)

    def has(self, name: str) -> bool:
        """Whether the marketplace sent a field ``name`` with this offer, null included."""
        return name in self._row

    def value(self, name: str) -> Any:
        """The field ``name`` as the marketplace sent it, under its own name; None when it did not."""
        return self._row.get(name)


class Instance(_Model):
    """A rented machine as the list or its own page shows it. Everything but the id may be missing at any time.

    ``actual_status`` None: accepted, nothing on the host yet. ``start_date`` is an epoch time in seconds; prices are USD per
    hour, ``inet_*_cost`` USD per GB. ``noted``: the label that its create wrote into its environment. Fields that change with
    every poll (load, remaining time) are left out, so that two polls of an unchanged instance are equal.
    """

    id: Id
    label: Text = None
    noted: Annotated[str | None, BeforeValidator(_noted)] = Field(None, validation_alias="extra_env")
    machine_id: Whole = None
    host_id: Whole = None
    actual_status: Text = None
    intended_status: Text = None
    cur_state: Text = None
    next_state: Text = None
    status_msg: Text = None
    ssh_host: Text = None
    ssh_port: Whole = None
    public_ipaddr: Text = None
    direct_port: Annotated[int | None, BeforeValidator(_ssh_port)] = Field(
        None, validation_alias=AliasChoices("ports", "direct_port")
    )
    gpu_name: Text = None
    num_gpus: Whole = None
    dph_base: Number = None
    dph_total: Number = None
    storage_total_cost: Number = None
    inet_up_cost: Number = None
    inet_down_cost: Number = None
    start_date: Number = None
    disk_space_gb: Number = Field(None, validation_alias=AliasChoices("disk_space", "disk_space_gb"))
    image: Text = Field(None, validation_alias=AliasChoices("image_uuid", "image"))
    geolocation: Text = None

    @property
    def proxy_endpoint(self) -> tuple[str, int] | None:
        """Host and port of SSH through the marketplace's proxy; None as long as they are unknown."""
        return _endpoint(self.ssh_host, self.ssh_port)

    @property
    def direct_endpoint(self) -> tuple[str, int] | None:
        """Host and port of SSH straight to the machine; None as long as they are unknown."""
        return _endpoint(self.public_ipaddr, self.direct_port)

    @property
    def usd_per_hour(self) -> float | None:
        """USD per hour while running, disk included, the higher if it says two; None as long as the contract does not say."""
        base, storage = self.dph_base, self.storage_total_cost
        parts = None if base is None or storage is None else base + storage
        return max((price for price in (parts, self.dph_total) if price is not None), default=None)

    @property
    def failed(self) -> str | None:
        """Why this instance will not become useful, if its status or the daemon's words say so; None otherwise.

        Meant for an instance that is being provisioned: one that we stopped on purpose is ``exited`` too. It may be a flicker.
        """
        said = f" ({self.status_msg})" if self.status_msg else ""
        if self.actual_status == "running":  # what the daemon said on the way was not its last word
            return None
        if (self.actual_status or "").lower() in DOOMED:
            return f"actual_status is {self.actual_status}{said}"
        if self.image_fails or _DAEMON_FAILS.search(self.status_msg or ""):
            return f"the container cannot be created{said}"
        states = {self.intended_status, self.cur_state, self.next_state}
        if self.actual_status in ("loading", "created") and states == {"stopped"}:
            return f"stopped while {self.actual_status}: outbid or never started{said}"
        return None

    @property
    def image_fails(self) -> bool:
        """Whether what the daemon says lies in the image, so that another machine would say it too."""
        return bool(_IMAGE_FAILS.search(self.status_msg or ""))


class SshKey(_Model):
    """A public key that the account knows."""

    id: Id
    public_key: Text = Field(None, validation_alias=AliasChoices("public_key", "key", "ssh_key"))


class ChargeItem(_Model):
    """One part of a charge: ``gpu``, ``disk``, ``bwd`` (down) or ``bwu`` (up); ``amount`` in USD. There may be several of a
    kind, one for each stretch of time."""

    type: Text = None
    amount: Amount = None
    description: Text = None

    @property
    def charged(self) -> Charged | None:
        """What it comes to, as far as the rounded amount and the rounded words leave it open; None where neither says."""
        stated = _stated(self.description or "")
        return stated if self.amount is None else Charged(self.amount, ROUNDED_USD).narrowed(stated)


class Charge(_Model):
    """What was charged for one contract in a window; ``amount`` in USD, to three decimals; times in epoch seconds."""

    start: Number = None
    end: Number = None
    type: Text = None
    source: Text = None
    description: Text = None
    label: Text = Field(None, validation_alias=AliasChoices(AliasPath("metadata", "label"), "label"))
    amount: Annotated[float, BeforeValidator(_amount)]
    items: Annotated[tuple[ChargeItem, ...], BeforeValidator(_rows)] = ()

    @property
    def instance_id(self) -> int | None:
        """The instance that the charge is for; None for anything else."""
        kind, _, contract = (self.source or "").rpartition("-")
        return whole(contract) if kind == "instance" else None

    @property
    def charged(self) -> dict[str, Charged]:
        """The amount of each meter, and of all of it as ``total``; a row without items tells of the total alone."""
        whole_row = Charged(self.amount, ROUNDED_USD)
        if not self.items:
            return {TOTAL: whole_row}
        parts = [(_METER_OF.get(item.type or ""), item.charged) for item in self.items]
        known = [part for _, part in parts if part is not None]
        vague = {meter for meter, part in parts if part is None}
        by_meter = {
            meter: together(part for one, part in parts if one == meter and part is not None)
            for meter in METERS
            if meter not in vague
        }
        return {**by_meter, TOTAL: whole_row if vague else whole_row.narrowed(together(known))}


class User(_Model):
    """The account behind the key; ``balance`` and ``credit`` in USD."""

    id: Whole = None
    email: Text = Field(None, repr=False)
    balance: Number = None
    credit: Number = None


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to a create: the contract id. The instance's own key, which comes with it, is not kept."""

    new_contract: int


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What to run on a rented offer.

    ``disk_gb`` in GB (at least 8, fixed for the instance's life); ``env`` holds variables, and Docker flags such as
    ``-p 8080:8080`` as keys with value "1"; ``price`` in USD per hour makes it an interruptible bid; ``cancel_unavail``
    refuses instead of creating a stopped instance when the offer has just gone.
    """

    image: str
    disk_gb: float
    label: str
    onstart: str = field(default="", repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    runtype: str = SSH_RUNTYPE
    price: float | None = None
    cancel_unavail: bool = True

    def body(self) -> dict[str, object]:
        """The request's JSON. Raises UsageError for what the marketplace would refuse or cut."""
        self._check()
        body: dict[str, object] = {
            "client_id": "me",
            "image": self.image,
            "disk": self.disk_gb,
            "label": self.label,
            "onstart": self.onstart,
            "env": {**self.env, LEASE_VARIABLE: self.label},
            "runtype": self.runtype,
            "cancel_unavail": self.cancel_unavail,
        }
        return body if self.price is None else body | {"price": self.price}

    def _check(self) -> None:
        if not self.image or len(self.image) > 1024 or not self.image.isprintable() or " " in self.image:
            raise UsageError(
                f"The image name {self.image[:80]!r} is not usable.", hint="Give repository:tag, at most 1024 long."
            )
        if not (math.isfinite(self.disk_gb) and self.disk_gb >= 8):
            raise UsageError(f"The disk has {self.disk_gb} GB.", hint="The marketplace rents 8 GB or more.")
        label = self.label
        if not label or len(label) > 256 or label != label.strip() or not label.isprintable():
            raise UsageError(f"The label {label[:80]!r} is not usable.", hint="Give 1 to 256 printable characters.")
        if (size := len(self.onstart.encode())) > 4048:
            raise UsageError(f"The onstart script has {size} bytes.", hint="At most 4048 fit; fetch the rest from inside it.")
        sizes = [(len(name.encode()), len(value.encode())) for name, value in self.env.items()]
        for name, (name_size, value_size) in zip(self.env, sizes, strict=True):
            if not 0 < name_size <= 256 or value_size > 256:
                raise UsageError(
                    f"The variable {name[:80]!r} has {name_size} + {value_size} bytes.",
                    hint="Name and value may have 256 bytes each.",
                )
        if (size := sum(a + b for a, b in sizes)) > 32_768:
            raise UsageError(f"The variables have {size} bytes together.", hint="At most 32768 fit.")
        if self.price is not None and not 0.001 <= self.price <= 128:
            raise UsageError(f"The bid is {self.price} USD per hour.", hint="Bids lie between 0.001 and 128.")


def rows_of(value: object) -> list[Any] | None:
    """A list that may have arrived as JSON text; None when it is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _endpoint(host: str | None, port: int | None) -> tuple[str, int] | None:
    return (host, port) if host and port is not None and 0 < port < 65536 else None
