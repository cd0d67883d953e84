"""Prices from gpuhunt's catalogue and to it: a file of CSV for each provider, as its variable ``GPUHUNT_CATALOG_DIR`` names.

The catalogue names a GPU without its form (``A100`` for A100 PCIe and A100 SXM) and without blanks; forms are lost on the way
there. Offers without a GPU, a place or a price above 0 are left out and counted.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.analysis.providers import PROVIDER
from vastbench.errors import SettingsError, clean
from vastbench.io.fetching import FIELDS
from vastbench.io.prices import COLUMNS, PEERS_HIGH, PEERS_LOW, Finding
from vastbench.record.formats import dollars
from vastbench.record.numbers import measurable
from vastbench.settings import environment_for_child

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "GPUHUNT_CATALOG_DIR"

DEADLINE_S = 120.0
"""Real seconds that the whole catalogue may take to come."""

NAMES = {
    "aws": "AWS",
    "azure": "Azure",
    "gcp": "GCP",
    "lambdalabs": "Lambda",
    "nebius": "Nebius",
    "oci": "OCI",
    "runpod": "RunPod",
    "verda": "Verda",
    "cloudrift": "CloudRift",
    "crusoe": "Crusoe",
    "digitalocean": "DigitalOcean",
    "jarvislabs": "JarvisLabs",
    "vastai": PROVIDER,
    "vultr": "Vultr",
    "tensordock": "TensorDock",
    "cudo": "Cudo",
    "akash": "Akash",
    "coreweave": "CoreWeave",
    "fluidstack": "FluidStack",
    "hyperstack": "Hyperstack",
    "modal": "Modal",
    "ovhcloud": "OVHcloud",
    "paperspace": "Paperspace",
}
"""What the catalogue calls providers, and what we do; others keep their names."""

ASKED = ("aws", "azure", "verda", "gcp", "lambdalabs", "nebius", "oci", "runpod", "cloudrift")
"""The files that gpuhunt opens whatever it is asked for."""

MOVED = "far from the former price"

_FORMS = re.compile(r" (PCIe|SXM\d?|NVLink)$")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Prices by the columns of a file of prices, and how many offers were left out, by why."""

    rows: tuple[dict[str, str], ...]
    left_out: Mapping[str, int]


def refreshed(deadline_s: float = DEADLINE_S) -> Catalogue:
    """The newest catalogue: that of the folder which ``GPUHUNT_CATALOG_DIR`` names, else what gpuhunt fetches.

    Raises SettingsError for a folder that cannot be read or holds no catalogue, where gpuhunt is not installed, and when it
    fails or has not answered within ``deadline_s``.
    """
    folder = os.environ.get(FOLDER)
    found = _converted(_in_folder(Path(folder)) if folder else _fetched(deadline_s))
    if not found.rows:
        raise SettingsError(
            f"The catalogue holds no price of a GPU; left out: {dict(found.left_out)}.", hint="Keep the table that you have."
        )
    return found


def write_prices(rows: Iterable[Mapping[str, str]], path: Path) -> None:
    """A file of prices with these rows; it is there whole or not at all. Raises SettingsError where it cannot be written."""
    ordered = sorted(rows, key=lambda row: (row["provider"], row["gpu_name"], float(row["price_usd_per_hour"])))
    _write(path, tuple(COLUMNS), ordered)


def write_catalogue(prices: pd.DataFrame, folder: Path) -> list[Path]:
    """The rows of ``prices`` as a catalogue in ``folder``, one file for each provider, also an empty one where gpuhunt asks.

    gpuhunt itself skips, with a warning, those of which CPUs or main memory are not known. Raises SettingsError where it
    cannot be written.
    """
    ours = {name: known for known, name in NAMES.items()}
    offers: dict[str, list[dict[str, object]]] = {name: [] for name in ASKED}
    rows: list[dict[Any, Any]] = prices.astype(object).where(prices.notna(), None).to_dict("records")
    for row in rows:
        provider = ours.get(row["provider"]) or re.sub(r"\W", "", row["provider"].lower())
        offers.setdefault(provider, []).append(_offer(row))
    paths = {provider: folder / f"{provider}.csv" for provider in sorted(offers)}
    for provider, path in paths.items():
        _write(path, (*FIELDS, "disk_size"), offers[provider])
    return list(paths.values())


def moved(prices: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Prices that lie outside 0.4–2.5 × what the table ``before`` asks for the same offer, as findings about ``prices``.

    The same offer has the provider, the type, the region, the number of GPUs and the tier in common.
    """
    import pandas as pd

    key = ["provider", "instance_type", "region", "gpu_count", "pricing"]
    former = before.groupby(key)["price_usd_per_hour"].median().rename("former")
    both = prices.reset_index().merge(former, on=key)
    ratio = both["price_usd_per_hour"] / both["former"]
    far = both[~ratio.between(PEERS_LOW, PEERS_HIGH)]
    found = [
        Finding(row["row"], MOVED, f"{dollars(row['price_usd_per_hour'])} where it was {dollars(row['former'])}", None)
        for row in far.to_dict("records")
    ]
    return pd.DataFrame(found, columns=list(Finding._fields))


def _offer(row: Mapping[str, Any]) -> dict[str, object]:
    """A price as an offer of the catalogue."""
    return {
        "instance_name": row["instance_type"],
        "location": row["region"],
        "price": row["price_usd_per_hour"],
        "cpu": None if row["vcpus"] is None else int(row["vcpus"]),
        "memory": row["memory_gb"],
        "gpu_count": row["gpu_count"],
        "gpu_name": re.sub(r"^RTX (?=A\d)| ", "", _FORMS.sub("", row["gpu_name"])),
        "gpu_memory": row["gpu_memory_gb"],
        "spot": row["pricing"] == "spot",
        "disk_size": None,
    }


def _in_folder(folder: Path) -> Iterator[dict[str, Any]]:
    """The offers of a catalogue's folder, as of the last change of each file."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise SettingsError(f"{FOLDER} is {str(folder)!r}, where no catalogue lies.", hint=f"Correct or unset {FOLDER}.")
    for path in files:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                lacking = [name for name in FIELDS if name not in (reader.fieldnames or ())]
                if lacking:
                    raise SettingsError(f"{str(path)!r} lacks the columns {', '.join(lacking)}.", hint="Is it a catalogue?")
                for row in reader:
                    yield row | {"provider": path.stem, "as_of": changed, "source": f"gpuhunt catalogue {path.name}"}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SettingsError(f"{str(path)!r} cannot be read: {error}.", hint="Copy the catalogue again.") from None


def _fetched(deadline_s: float) -> Iterator[dict[str, Any]]:
    """The offers that gpuhunt fetches, as of the version of each provider's catalogue."""
    if find_spec("gpuhunt") is None:
        raise SettingsError(
            "Fresh prices need gpuhunt, which is not installed.",
            hint=f"Install it: pip install 'vastbench[prices]', or name a folder with its catalogue in {FOLDER}.",
        )
    hint = "The table that you have is as it was. Try again later."
    command = [sys.executable, "-m", "vastbench.io.fetching"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=deadline_s, check=False, env=environment_for_child()
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(f"gpuhunt has not fetched its catalogue within {deadline_s:g} s.", hint=hint) from None
    if done.returncode:
        last = clean(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else f"exit code {done.returncode}"
        raise SettingsError(f"gpuhunt could not fetch its catalogue: {last[:300]}.", hint=hint)
    for line in done.stdout.splitlines():
        row = json.loads(line)
        version = str(row.pop("version"))
        day = re.match(r"(\d{4})(\d\d)(\d\d)", version)
        as_of = date(*map(int, day.groups())) if day else datetime.now(UTC).date()
        yield row | {"as_of": as_of, "source": f"gpuhunt catalogue {row['provider']} {version}"}


def _converted(offers: Iterable[Mapping[str, Any]]) -> Catalogue:
    left_out: Counter[str] = Counter()
    rows = []
    for offer in offers:
        why = _unusable(offer)
        if why:
            left_out[why] += 1
        else:
            rows.append(_row(offer))
    return Catalogue(tuple(rows), dict(left_out))


def _unusable(offer: Mapping[str, Any]) -> str:
    """Why an offer is no price of ours, or nothing."""
    if not _number(offer["gpu_count"]) or not offer["gpu_name"]:
        return "no GPU"
    if not _number(offer["price"]):
        return "no price above 0"
    return "" if offer["location"] and offer["instance_name"] else "no place or type"


def _number(value: object) -> float | None:
    """A number above 0 that can have been asked, or None."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if number > 0 and measurable(number) else None


def _row(offer: Mapping[str, Any]) -> dict[str, str]:
    """An offer of the catalogue as a row of a file of prices."""
    provider = NAMES.get(offer["provider"], offer["provider"])
    spot = str(offer["spot"]).lower() == "true"
    name = re.sub(r"^A(?=[2456]0{3})", "RTX A", str(offer["gpu_name"]))
    sizes = {"gpu_memory_gb": "gpu_memory", "vcpus": "cpu", "memory_gb": "memory"}
    return {
        "provider": provider,
        "instance_type": str(offer["instance_name"]),
        "region": str(offer["location"]),
        "gpu_name": re.sub(r"^(RTX|GTX)(PRO)?(?=\w)", lambda found: " ".join(filter(None, found.groups())) + " ", name),
        "gpu_count": f"{int(float(offer['gpu_count']))}",
        **{ours: f"{size:g}" if (size := _number(offer[theirs])) else "" for ours, theirs in sizes.items()},
        "price_usd_per_hour": f"{_number(offer['price']):.10g}",
        "pricing": "spot" if spot else "marketplace" if provider == PROVIDER else "on-demand",
        "as_of": f"{offer['as_of']:%Y-%m-%d}",
        "source": offer["source"],
    }


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, object]]) -> None:
    whole = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        whole.replace(path)
    except OSError as error:
        whole.unlink(missing_ok=True)
        raise SettingsError(f"{str(path)!r} cannot be written: {error.strerror}.", hint="Name another place.") from None
