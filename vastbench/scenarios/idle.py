"""When a rented machine is idle: a rule over samples of all that it has, without any I/O.

A missing reading is *unknown* and never 0. One sample is no window, and uptime is no idleness: each moment of the window must
be covered by readings. GPUs must be low in all samples. CPU, disk and network are averages over all the time since the sample
before; they may be high for a small part of the window, as every machine has its cron jobs, but not at its end, where work may
just have begun.

What a rule over usage cannot see: work that holds no GPU memory and does nothing for minutes looks like a cron job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from vastbench.errors import UsageError

PERIOD_S = 10.0
"""Clock seconds from one sample to the next that the rule's defaults are made for."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its use in % over the driver's last sample, and its memory in MiB. None: unknown."""

    use_pct: float | None = None
    used_mb: float | None = None
    total_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The readings of one look at ``at``, in clock seconds. None: unknown.

    ``gpus``: all that were rented. The others are averages since the look before: ``cpu_pct`` of one core (800 are eight busy
    cores), so that one busy thread shows on a machine of any size; bytes per second of the busiest disk and network interface.
    """

    at: float
    gpus: tuple[Gpu, ...] = ()
    cpu_pct: float | None = None
    disk_bytes_per_s: float | None = None
    net_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class IdleRule:
    """From which readings on a machine is in use. Raises UsageError for a rule that nothing could satisfy.

    ``window_s``: 5 minutes, as SkyPilot has it; the 3 minutes of the system that these drills began with are shorter than many
    evaluations. ``gpu_pct``: that system's 5 %; a desktop takes 1 to 3 %. ``cpu_pct``: agents and an open notebook take 1 to
    3 % of a core, one busy thread 100 %. ``disk_bytes_per_s``: logs take tens of kB/s. ``net_bytes_per_s``: telemetry and our
    own looks take up to 20 kB/s, and a download that somebody waits for brings more than 100. ``held_mb`` of one GPU: a driver
    holds 1 to 20, a desktop tens, the smallest CUDA context 100.

    ``share`` of the window that must be known and low, in time; the rest may be unknown, or busy but for the GPUs.
    ``quiet_s``: the end of the window, in which nothing may be unknown or busy. ``gap_s``: samples further apart leave the time
    between them unknown. ``samples``: the fewest in a window.
    """

    window_s: float = 300.0
    gpu_pct: float = 5.0
    cpu_pct: float = 10.0
    disk_bytes_per_s: float = 1e6
    net_bytes_per_s: float = 1e5
    held_mb: float = 64.0
    share: float = 0.9
    quiet_s: float = 120.0
    gap_s: float = 45.0
    samples: int = 10

    def __post_init__(self) -> None:
        """Refuse what no readings could be judged by."""
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise UsageError(f"The idle rule's {name} is {value!r}.", hint="Give a number above 0.")
        if self.share > 1 or max(self.quiet_s, self.gap_s) > self.window_s or self.samples < 2:
            raise UsageError(
                f"The idle rule cannot hold: {self}.",
                hint="share is at most 1, quiet_s and gap_s at most window_s, and a window has at least 2 samples.",
            )


class State(StrEnum):
    """What a window shows."""

    BUSY = "busy"
    IDLE = "idle"
    HELD = "memory held"
    """Nothing is used, but GPU memory is held: a loaded model that nobody asks. Not idle for everybody."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a window shows, and why in words."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class _Interval:
    """The time that a sample speaks for, from the one before on; in words what was high, unknown or held, if anything was."""

    start: float
    end: float
    gpu: str
    rest: str
    held: str
    unknown: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


def judge(samples: Iterable[Sample], rule: IdleRule, now: float) -> Verdict:
    """What the window that ends at the clock reading ``now`` shows.

    >>> quiet = [Sample(at, (Gpu(0.0, 1.0, 24564.0),), 1.0, 0.0, 500.0) for at in range(0, 310, 10)]
    >>> judge(quiet, IdleRule(), now=300.0).state.value, judge(quiet[-1:], IdleRule(), now=300.0).state.value
    ('idle', 'unknown')
    """
    window = _intervals(samples, rule, now)

    def verdict(state: State, words: str, one: _Interval) -> Verdict:
        return Verdict(state, f"{words} {now - one.end:.0f} s ago")

    for one in reversed(window):
        if one.gpu:
            return verdict(State.BUSY, one.gpu, one)
    high = [one for one in window if one.rest]
    blind = [one for one in window if one.unknown and not one.rest]
    quiet_from, spare_s = now - rule.quiet_s, (1 - rule.share) * rule.window_s + 1e-9
    high_s = sum(one.seconds for one in high)
    if high and (high[-1].end > quiet_from or high_s > spare_s):
        return verdict(State.BUSY, high[-1].rest, high[-1])
    if len(window) < rule.samples:
        return Verdict(State.UNKNOWN, f"{len(window)} samples in {rule.window_s:g} s, and {rule.samples} are needed")
    silent_s = now - window[-1].end
    if silent_s > rule.gap_s:
        return Verdict(State.UNKNOWN, f"no sample for {silent_s:.0f} s")
    blind_s = silent_s + sum(one.seconds for one in blind)
    if blind and (blind[-1].end > quiet_from or high_s + blind_s > spare_s):
        return verdict(State.UNKNOWN, blind[-1].unknown, blind[-1])
    if high_s + silent_s > spare_s:
        return Verdict(State.UNKNOWN, f"the last {silent_s:.0f} s are not known")
    for one in reversed(window):
        if one.held:
            return verdict(State.HELD, f"nothing is used, and {one.held}", one)
    return Verdict(State.IDLE, f"GPUs, CPU, disk and network were quiet for {rule.window_s:g} s, {len(window)} samples")


def _intervals(samples: Iterable[Sample], rule: IdleRule, now: float) -> list[_Interval]:
    """The samples of the window, each with the time that it speaks for; together they reach back to the window's start."""
    ordered = sorted((one for one in samples if one.at <= now), key=lambda one: one.at)
    start = now - rule.window_s
    inside = [one for one in ordered if one.at > start]
    cards = max((len(one.gpus) for one in ordered), default=0)
    past = ordered[-len(inside) - 1].at if len(ordered) > len(inside) else None
    found = []
    for one in inside:
        alone = past is None or one.at - past > rule.gap_s
        since = start if past is None else max(past, start)
        gap = f"nothing is known of {one.at - since:.0f} s before the sample" if alone else ""
        found.append(_judged(one, rule, cards, since, gap))
        past = one.at
    return found


def _judged(sample: Sample, rule: IdleRule, cards: int, since: float, gap: str) -> _Interval:
    gpus = [(f"GPU {n} was at {{:.3g}} %", gpu.use_pct, rule.gpu_pct) for n, gpu in enumerate(sample.gpus)]
    memory = [(f"{{:.0f}} MiB were held on GPU {n}", gpu.used_mb, rule.held_mb) for n, gpu in enumerate(sample.gpus)]
    rest = [
        ("the CPU was at {:.3g} % of a core", sample.cpu_pct, rule.cpu_pct),
        ("the disk moved {:.3g} bytes/s", sample.disk_bytes_per_s, rule.disk_bytes_per_s),
        ("the network moved {:.3g} bytes/s", sample.net_bytes_per_s, rule.net_bytes_per_s),
    ]
    names = [*(f"GPU {n}" for n in range(len(sample.gpus))), "the CPU", "the disk", "the network"]
    missing = {name for name, (_, value, _) in zip(names, gpus + rest, strict=True) if not _known(value)}
    missing |= {name for name, (_, value, _) in zip(names, memory, strict=False) if not _known(value)}
    missing |= {f"GPU {n}" for n in range(len(sample.gpus), max(cards, 1))}
    unread = f"{', '.join(sorted(missing))} could not be read" if missing else ""
    return _Interval(since, sample.at, _high(gpus), _high(rest), _high(memory), gap or unread)


def _known(value: float | None) -> bool:
    """NaN and what lies below 0 are no readings."""
    return value is not None and value >= 0


def _high(readings: list[tuple[str, float | None, float]]) -> str:
    """The first reading at or above its limit, in words; empty where there is none."""
    return next((words.format(value) for words, value, limit in readings if value is not None and value >= limit), "")
