"""What a run asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vastbench.errors import ARGUMENTS, UsageError, clean, did_you_mean

AHEAD_S = 180.0
"""Clock seconds that the deadline lies ahead of a living run."""

CLOSING_RESERVE_S = 240.0
"""Clock seconds beyond the deadlines and the scenario's work that a lease may last: for destroying."""

IMAGE = "nvidia/cuda:12.8.1-base-ubuntu24.04"
"""The usual image: NVIDIA's smallest with CUDA, of a version that is still maintained."""

_CUDA = re.compile(r"(?<![a-z])cu(?:da)?[-_.]?(1\d)(?:(\d)|[._](\d{1,2}))?(?!\d)", re.IGNORECASE)
_COUNTRY = re.compile("[A-Z]{2}")
_SECRET = re.compile(r"//[^/]*:[^/]*@")
_CUDA_TAG = re.compile(r"cuda(?:gl)?:(1\d)\.(\d{1,2})(?!\d)")


def asked(default: Any, option: str, about: str, low: float | None = None, high: float | None = None) -> Any:
    """A field that users set, under the name of the field in a notebook and as ``option`` on the command line.

    ``about`` says in either place what it is, unit and all; a number lies between ``low`` and ``high``.
    """
    return _field(default, option=option, about=about, low=low, high=high, of_drills=False)


def of_drills(option: str, about: str, low: float | None = None, high: float | None = None) -> Any:
    """A field that only some drills know, each with a default of its own; None where it was not asked for."""
    return _field(None, option=option, about=about, low=low, high=high, of_drills=True)


def _field(default: Any, **metadata: object) -> Any:
    return field(default=default, metadata=metadata)


COLD = "cold"
"""The variant of a failover in which a replacement is looked for once the loss is noticed: the usual one."""

STANDBY = "standby"
"""The variant of a failover in which a second machine runs from the start."""


POLICIES = ("cheapest", "reliable", "spread")
"""Which of the offers that fit is taken: the cheapest; the most reliable of the cheap ones; of the cheap ones, one on a machine
that was rented least often so far. Of equal ones the cheapest."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run asks for; each field says what it is in its metadata. Raises UsageError for what cannot be asked for.

    ``gpu_name`` may be written with underscores; "any", like None, is any GPU.

    >>> vastbench.Conditions(gpu_name="RTX_4090").gpu_name
    'RTX 4090'
    """

    gpu_name: str | None = asked("RTX 4090", "--gpu", 'the GPU\'s name on the marketplace; "any" for any')
    num_gpus: int = asked(1, "--num-gpus", "GPUs in the instance", 1, 64)
    max_usd_per_hour: float = asked(0.5, "--max-price", "USD per hour at most, disk included", 0.001, 128)
    min_reliability: float = asked(0.9, "--min-reliability", "the host's reliability at least, 0 to 1", 0, 1)
    region: str | None = asked(None, "--region", "the host's country as two letters, several with commas; any if not given")
    choose: str = asked(
        "cheapest", "--choose", "which of the offers that fit: cheapest, reliable or spread; see docs/conditions.md"
    )
    disk_gb: float = asked(20.0, "--disk", "GB of disk, at least 8", 8, 100_000)
    image: str = asked(IMAGE, "--image", "container image")
    boot_deadline_s: float = asked(600.0, "--boot-deadline", "seconds to wait for status running", 1, 86_400)
    ssh_deadline_s: float = asked(300.0, "--ssh-deadline", "seconds to wait for SSH after running", 1, 86_400)
    attempts: int = asked(3, "--attempts", "creates at most, while they are refused: offer gone, calls too fast", 1, 20)
    files: int | None = of_drills("--files", "files in the workspace of a drill that has one", 20, 1_000_000)
    size_mb: float | None = of_drills("--size", "MB in the workspace of a drill that has one", 0.1, 1_000_000)
    interval_s: float | None = of_drills("--interval", "seconds of work that a loss may take with it, at most", 5, 86_400)
    variant: str | None = of_drills("--variant", "the way of a drill that can be made in several; see vastbench scenarios")
    hedge: int | None = of_drills("--hedge", "machines that are rented at once, of which the first that comes is used", 2, 10)
    stagger_s: float | None = of_drills("--stagger", "seconds until the next of them is rented, if none has come", 0, 3600)
    place: str | None = of_drills(
        "--place",
        "where a drill keeps its snapshots: a folder, or an address that fsspec opens; a temporary folder if not given",
    )
    model: str | None = of_drills(
        "--model", "the model that a drill deploys, as Ollama names it; NAME@DIGEST demands its digest, too"
    )
    repository: str | None = of_drills(
        "--repository", "a restic repository that the machines reach, such as s3:https://HOST/BUCKET; needs RESTIC_PASSWORD"
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be asked for."""
        if self.gpu_name is not None:
            name = self.gpu_name.replace("_", " ")
            object.__setattr__(self, "gpu_name", None if name == "any" else name)
        if self.region is not None:
            countries = [one.strip().upper() for one in self.region.split(",")]
            if not all(_COUNTRY.fullmatch(one) for one in countries):
                raise UsageError(f"region is {self.region!r}.", hint="Give countries such as US or SE,NO.")
            object.__setattr__(self, "region", ",".join(sorted(countries)))
        if self.choose not in POLICIES:
            raise UsageError(
                f"choose is {self.choose!r}.",
                hint=f"{did_you_mean(str(self.choose), POLICIES)}Policies: {', '.join(POLICIES)}.",
            )
        for one in fields(self):
            value, low, high = getattr(self, one.name), one.metadata["low"], one.metadata["high"]
            if low is None or (value is None and one.metadata["of_drills"]):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise UsageError(
                    f"{one.metadata['option']} is {value!r}.",
                    hint=f"It is {one.metadata['about']}: give a number from {low:g} to {high:g}.",
                )
        for address in (self.place, self.repository):
            if address and _SECRET.search(address):  # it would be kept with every run
                raise UsageError(
                    f"The {clean(address.partition(':')[0])} address holds a password.",
                    hint="Give it as that store's own settings do, such as AWS_SECRET_ACCESS_KEY or RESTIC_REST_PASSWORD.",
                )
        if not self.image or any(c.isspace() for c in self.image):
            raise UsageError(f"image is {self.image!r}.", hint="Give an image name such as ubuntu:22.04.")

    @property
    def cuda(self) -> str | None:
        """The CUDA version that the image needs, as far as its name or tag says one.

        >>> Conditions(image="nvidia/cuda:12.8.1-base-ubuntu24.04").cuda, Conditions(image="me/vllm:cu124").cuda
        ('12.8', '12.4')
        """
        name = self.image.partition("@")[0].rpartition("/")[2]
        found = _CUDA_TAG.match(name) or _CUDA.search(name)
        if found is None:
            return None
        major, *minors = found.groups()
        return f"{major}.{next((minor for minor in minors if minor), '0')}"

    def lifetime_s(self, work_s: float, boots: int = 1) -> float:
        """The longest that an instance may be needed, in clock seconds.

        ``work_s``: how long the scenario works on its machines. ``boots``: how many it may have to wait for, one after the
        other; each that comes to nothing is given back before the next begins.
        """
        return boots * (self.boot_deadline_s + self.ssh_deadline_s + CLOSING_RESERVE_S) + work_s

    @property
    def unattended_s(self) -> float:
        """How long an instance may live, in clock seconds, whose owner was not heard of since it was created."""
        return self.boot_deadline_s + self.ssh_deadline_s + AHEAD_S

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Conditions:
        """The conditions that ``document`` (of a study or a run) holds among others."""
        return cls(
            **{one.name: document[one.name] for one in fields(cls) if one.name in document or not one.metadata["of_drills"]}
        )

    def to_dict(self) -> dict[str, object]:
        """The conditions as the run's record keeps them, without the options that its drill does not know."""
        unknown = {one.name for one in fields(self) if one.metadata["of_drills"] and getattr(self, one.name) is None}
        return {name: value for name, value in asdict(self).items() if name not in unknown}


ARGUMENTS.update({one.metadata["option"]: one.name for one in fields(Conditions)})
