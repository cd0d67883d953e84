"""Profiles: everything that an emulator's behaviour depends on, read from a TOML file.

Each parameter is a table that says where it comes from: ``basis = "data"`` (observed, with its ``source``) or
``basis = "assumption"``. ``extends = "NAME"`` starts from another profile and replaces whole parameters.
"""

import hashlib
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vastbench.bundled import shared
from vastbench.emulator import draws
from vastbench.errors import NotFound, SettingsError, did_you_mean


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Parameter(_Table):
    basis: Literal["data", "assumption"]
    source: str = ""


class Fixed(draws.Fixed, _Parameter):
    """A parameter that always has the same value."""


class Sequence(draws.Sequence, _Parameter):
    """A parameter that takes its values in turn."""


class Lognormal(draws.Lognormal, _Parameter):
    """A lognormal parameter."""


class Mixture(draws.Mixture, _Parameter):
    """A parameter drawn from lognormal components."""


Distribution = Annotated[Fixed | Sequence | Lognormal | Mixture, Field(discriminator="kind")]


class Chance(_Parameter):
    """A probability, 0–1."""

    p: float = Field(ge=0, le=1)


class Number(_Parameter):
    """A plain number; its unit is that of the parameter."""

    value: float = Field(ge=0)


class Latency(_Table):
    """Seconds of server time per call; ``effect`` is the part of it (0–1) after which the call reads or changes anything."""

    search: Distribution
    create: Distribution
    status: Distribution
    list: Distribution
    destroy: Distribution
    other: Distribution
    effect: Number


class Boot(_Table):
    """From creation to ``running``, and between stop and start; seconds. ``reporting_lag``: how long before ``running`` shows
    the container has started."""

    appears: Distribution
    created_first: Chance
    created_for: Distribution
    running: Distribution
    reporting_lag: Distribution
    never: Chance
    oci_error: Chance
    exits: Chance
    stop: Distribution
    restart: Distribution
    gpu_taken: Chance
    gpu_taken_for: Distribution


class Ssh(_Table):
    """From ``running`` to a command, in seconds. ``proxy`` and ``direct``: a whole connection with one command; ``login_share``
    (0–1) of it is spent on connection and login, the rest on each command."""

    accepts: Distribution
    auth_never: Chance
    account_key_lag: Distribution
    attached_key_lag: Distribution
    proxy: Distribution
    direct: Distribution
    login_share: Number


class Lag(_Table):
    """How late the marketplace shows what has happened; seconds."""

    gone: Distribution
    logs: Distribution
    charges: Distribution


class Interval(_Parameter):
    """The least seconds between two calls of one identity; the first refusal makes it wait ``penalty`` seconds from there."""

    seconds: float = Field(ge=0)
    penalty: float = Field(default=0, ge=0)


class Quota(_Parameter):
    """At most ``count`` calls of one identity in ``seconds``."""

    count: int = Field(ge=1)
    seconds: float = Field(gt=0)


class Limits(_Table):
    """Rate limits by endpoint."""

    search: Quota
    create: Interval
    list: Interval
    status: Interval
    change: Interval
    destroy: Interval
    plural: Interval
    bid: Interval
    account_keys: Interval
    instance_keys: Interval
    command: Interval
    copies: Interval
    charges: Interval
    invoices: Interval


class Faults(_Table):
    """What else goes wrong: calls answered 502, and create replies lost after the instance was made."""

    bad_gateway: Chance
    create_reply_lost: Chance


class Gpu(_Parameter):
    """A card on the market: its ``weight`` in the mix, memory in MB, $/h per card, and the vendor's index."""

    name: str
    weight: float = Field(gt=0)
    ram_mb: int = Field(gt=0)
    compute_cap: int
    price: float = Field(gt=0)
    price_sigma: float = Field(ge=0)
    dlperf: float = Field(gt=0)


class Pinned(_Parameter):
    """The market's first machine, given instead of drawn. It bills nothing for storage, so that one price tells all."""

    price: float = Field(gt=0)
    geolocation: str
    reliability: float = Field(ge=0, le=1)
    driver_version: str


class Market(_Table):
    """The machines on offer. ``shown``: rows per search at most; ``credit``: what the account starts with, in $."""

    machines: Number
    single_gpu: Chance
    gpus: tuple[Gpu, ...] = Field(min_length=1)
    price_floor: Number
    first: Pinned | None = None
    shown: Number
    offer_gone: Chance
    offer_gone_stale: Chance
    stale_after: Number
    elsewhere: Distribution
    credit: Number


class GuestClock(_Parameter):
    """What is wrong with the clock that machines show to their programs."""

    value: Literal["steady", "skewed", "jumping", "missing"]


class Guest(_Table):
    """What machines are like inside."""

    clock: GuestClock


class Hours(_Table):
    """What changes with the hour: at the busiest moment of each ``period`` (seconds) boots take exp(``boot``) times as long as
    on average, and prices are exp(``price``) times as high; at the quietest as much less."""

    period: Number
    boot: Number
    price: Number

    def busy(self, epoch: float) -> float:
        """How busy the market is at this date: from -1 to 1."""
        return math.sin(2 * math.pi * epoch / self.period.value)


class Image(_Parameter):
    """How many gigabytes images are whose name begins with ``name``."""

    name: str
    gb: float = Field(ge=0)


class Pull(_Table):
    """What pulling an image adds to a boot: its size over ``share`` (0–1) of the machine's link, nothing where it is cached.

    ``cached`` is the chance that a machine has an image, which it keeps. The first of ``images`` that fits counts; one that
    none fits has ``other`` GB.
    """

    images: tuple[Image, ...]
    other: Number
    share: Distribution
    cached: Chance

    def gb(self, image: str) -> float:
        """The size of ``image`` in GB."""
        return next((one.gb for one in self.images if image.startswith(one.name)), self.other.value)


class Profile(_Table):
    """A whole profile. ``seed`` fixes the draws when the caller gives none; ``shapes`` are those of a real marketplace's
    answers, by method and path, ``lacks`` the permissions that its key had not (:mod:`vastbench.emulator.shapes`)."""

    about: str
    seed: int | None = None
    latency: Latency
    boot: Boot
    ssh: Ssh
    guest: Guest
    lag: Lag
    limits: Limits
    faults: Faults
    market: Market
    hours: Hours | None = None
    pull: Pull | None = None
    shapes: dict[str, Any] = Field(default={}, exclude=True)
    lacks: dict[str, int] = Field(default={}, exclude=True)

    def slower(self, epoch: float) -> float:
        """How many times as long boots take at this date as on average."""
        return 1.0 if self.hours is None else math.exp(self.hours.boot.value * self.hours.busy(epoch))

    def dearer(self, epoch: float) -> float:
        """How many times as much machines cost at this date as on average."""
        return 1.0 if self.hours is None else math.exp(self.hours.price.value * self.hours.busy(epoch))


def load(name: str | Path) -> Profile:
    """The profile of that name among those that come with vastbench, or the one in that TOML file.

    Raises NotFound when there is none, SettingsError (naming file, key and value) when it is malformed.
    """
    path = _find(name)
    try:
        return Profile.model_validate(_read(path, ()))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        value = "missing" if first["type"] == "missing" else f"{first['input']!r:.200}"
        raise SettingsError(
            f"In the profile {path} the key {key} is {value}: {first['msg']}.",
            hint="Correct that key; see the default profile.",
        ) from error


def content_hash(profile: Profile) -> str:
    """The first twelve hexadecimal digits of the SHA-256 of what ``profile`` says, whatever it extends and however it is
    written."""
    # A profile that says nothing of these is known as it was before there were any.
    silent = {"about", *(name for name in ("hours", "pull") if getattr(profile, name) is None)}
    return hashlib.sha256(profile.model_dump_json(exclude=silent).encode()).hexdigest()[:12]


def names() -> list[str]:
    """The profiles that come with vastbench."""
    return sorted(path.stem for path in shared("data/profiles").glob("*.toml"))


def _find(name: str | Path) -> Path:
    if isinstance(name, str) and not name.endswith(".toml") and "/" not in name:
        path = shared("data/profiles") / f"{name}.toml"
        hint = f"{did_you_mean(name, names())}Known profiles: {', '.join(names())}; or give the path of a TOML file."
    else:
        path, hint = Path(name), "Give the path of an existing TOML file, or the name of a profile."
    if not path.is_file():
        raise NotFound(f"There is no profile {str(name)!r}.", hint=hint)
    return path


def _read(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path in children:
        raise SettingsError(f"The profile {path} extends itself.", hint="Remove one of the extends keys.")
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The profile {path} cannot be read: {error}.", hint="Give a file of valid TOML.") from error
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise SettingsError(f"In the profile {path} the key extends is {base!r}.", hint="Give the name of a profile.")
    return _merge(_read(_find(base), (*children, path)), own)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the parameters of ``own``'s sections in place of its own; a parameter is replaced as a whole."""
    merged = dict(base)
    for key, value in own.items():
        inner = merged.get(key)
        merged[key] = inner | value if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
