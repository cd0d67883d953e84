"""What a machine's GPUs, CPU, disk and network do, read in one round trip over SSH.

The script shows files of the kernel as they are and adds nothing; :func:`parse` reads them, and two readings in a row give a
:class:`Sample`. The CPU and the disk are the container's own where it sees its control group, else the sum over its processes:
``/proc/stat`` and ``/proc/diskstats`` show the whole host, whose other tenants are never idle. Whatever is missing, garbled or
cut off is None. The looks themselves count as use, and on an emulator the more the faster its clock runs.

Where processes are added up, one that was started from outside the container (``docker exec``, the emulator's SSH) and ended
between two looks is not counted: its time goes to its parent, which is not seen from inside.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.errors import VastbenchError
from vastbench.scenarios.idle import Gpu, Sample

if TYPE_CHECKING:
    from vastbench.ssh.session import Session

SCRIPT = r"""exec 2>/dev/null
show() { sed "s/^/$1 /" $2 | grep .; }
show uptime /proc/uptime
show cpu /sys/fs/cgroup/cpu.stat ||
  cat /proc/[0-9]*/stat | sed -n 's/^\([0-9]*\) (.*) /\1 /p' | cut -d ' ' -f 1,13-16 | show ticks
grep rbytes /sys/fs/cgroup/io.stat | show disk ||
  grep -HE '^(read|write)_bytes' /proc/[0-9]*/io 2>&1 | show io
show net /proc/net/dev
nvidia-smi --query-gpu=index,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits | show gpu
echo end
"""
"""A reading for :func:`parse`, by any POSIX shell."""

LIMIT_S = 15.0
"""Clock seconds that a look may take: a driver that has lost its GPU may hang for ever."""

SHORTEST_S = 0.2
"""Seconds between two readings below which counters of hundredths of a second say nothing."""

TICKS_PER_S = 100
"""Linux counts the time of processes in hundredths of a second on every machine that carries these GPUs."""

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
_CPU = re.compile(r"(usage_usec) (\d{1,18})", re.ASCII)
_DISK = re.compile(r"(\d{1,9}:\d{1,9}) rbytes=(\d{1,18}) wbytes=(\d{1,18})( .*)?", re.ASCII)
_TICKS = re.compile(r"(\d{1,9}) (\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,18})", re.ASCII)
_IO = re.compile(r"/proc/(\d{1,9})/io:(?:read|write)_bytes: (\d{1,18})", re.ASCII)
_NET = re.compile(r" *([^ :|]{1,15}): *(\d{1,18})(?: +\d{1,18}){7} +(\d{1,18})(?: +\d{1,18}){7} *", re.ASCII)
_NO_DATA = {
    "cpu": re.compile(r"(?!usage_usec)[\w.]+ \d+", re.ASCII),
    "io": re.compile(r"grep: /proc/\d+/io: No such (file or directory|process)", re.ASCII),
    "net": re.compile(r"(Inter-| face ).*\|.*\|.*"),
}
"""Lines without a counter in them: other statistics, a process that has just ended, headings."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts since some start, by what they count. ``source``: where they were read; only two of one source can be compared."""

    source: str
    counts: Mapping[str, int]

    def since(self, before: Counters | None) -> int | None:
        """How far the busiest went on, or all processes together; None where that cannot be told."""
        if before is None or before.source != self.source:
            return None
        old, new = before.counts, self.counts
        if self.source in ("ticks", "io"):
            # The count of a process that ended has gone over to its parent; a new one began with 0.
            return sum(count - old.get(name, 0) if count >= old.get(name, 0) else count for name, count in new.items())
        if old.keys() != new.keys() or any(count < old[name] for name, count in new.items()):
            return None
        return max(count - old[name] for name, count in new.items())


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look showed. ``uptime``: seconds by the machine's own clock, which the rates are taken by. None: unknown."""

    uptime: float | None = None
    gpus: tuple[Gpu, ...] = ()
    cpu: Counters | None = None
    disk: Counters | None = None
    net: Counters | None = None


def parse(text: str) -> Reading:
    """What the script's output says; a text without its end says nothing. Never raises."""
    *lines, last, rest = ["", *text.split("\n")]
    if last != "end" or rest:
        return Reading()
    said: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        said.setdefault(name, []).append(value)
    uptimes = said.get("uptime", [])
    lan = _counters(said, "net", _NET)
    if (
        lan is not None and len(lan.counts) > 1
    ):  # what stays inside needs a CPU; where there is nothing else, it is all there is
        lan = Counters("net", {name: count for name, count in lan.counts.items() if name != "lo"})
    return Reading(
        _number(uptimes[0].partition(" ")[0]) if len(uptimes) == 1 else None,
        tuple(_gpu(line) for line in said.get("gpu", [])),
        _counters(said, "cpu", _CPU) or _counters(said, "ticks", _TICKS),
        _counters(said, "disk", _DISK) or _counters(said, "io", _IO),
        lan,
    )


def between(before: Reading | None, after: Reading, *, at: float, gpus: int) -> Sample:
    """The sample of two looks in a row; ``at``: the clock reading of the second. GPUs missing of ``gpus`` are unknown."""
    before = before or Reading()
    passed = 0.0 if before.uptime is None or after.uptime is None else after.uptime - before.uptime

    def rate(new: Counters | None, old: Counters | None, unit: float) -> float | None:
        grown = new.since(old) if new is not None and passed >= SHORTEST_S else None
        return None if grown is None else grown * unit / passed

    unit = 100 / TICKS_PER_S if after.cpu is not None and after.cpu.source == "ticks" else 100 / 1e6
    return Sample(
        at,
        after.gpus + (Gpu(),) * (gpus - len(after.gpus)),
        rate(after.cpu, before.cpu, unit),
        rate(after.disk, before.disk, 1.0),
        rate(after.net, before.net, 1.0),
    )


def read_sample(session: Session, now: Callable[[], float], gpus: int, before: Reading | None) -> tuple[Sample, Reading]:
    """Look at the machine of ``session``, which was rented with so many ``gpus``; ``before`` is the look before this one, and
    ``now`` reads the clock by which the sample is dated.

    A look that fails is a sample in which all is unknown; nothing is raised for it. ::

        sample, last = read_sample(machine.session, clock.now, machine.offer.num_gpus or 1, None)  # its rates are unknown
        sample, last = read_sample(machine.session, clock.now, machine.offer.num_gpus or 1, last)
    """
    try:
        reading = parse(session.run(f"sh -c {shlex.quote(SCRIPT)}", timeout_s=LIMIT_S).stdout)
    except VastbenchError:
        reading = Reading()
    return between(before, reading, at=now(), gpus=gpus), reading


def _counters(said: Mapping[str, list[str]], source: str, pattern: re.Pattern[str]) -> Counters | None:
    """The counters of one source; None where there are none, one is given twice, or a line is not understood."""
    counts: dict[str, int] = {}
    for line in said.get(source, []):
        found = pattern.fullmatch(line)
        if found is None:
            if source in _NO_DATA and _NO_DATA[source].fullmatch(line):
                continue
            return None
        name, *numbers = found.groups()
        if name in counts and source != "io":  # which gives bytes read and written on two lines
            return None
        counts[name] = counts.get(name, 0) + sum(int(number) for number in numbers if number and number.isdigit())
    return Counters(source, counts) if counts else None


def _gpu(line: str) -> Gpu:
    fields = line.split(", ")
    if len(fields) != 4 or _number(fields[0]) is None:
        return Gpu()
    use, used, total = map(_number, fields[1:])
    if total is None or used is None or used > total:
        used = total = None
    return Gpu(use if use is not None and use <= 100 else None, used, total)


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None
