"""What the ways to look came to: moments beside the truth, requests, and the tables that show them."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pollers import STATUS_CALLS
from rich.table import Table

from vastbench.record.moments import Moment

OURS, TEN, TWO, CLIENT = "vastbench", "GET by id, 10 s", "GET by id, 2 s", "vastai show, 10 s"
METHODS = (OURS, TEN, TWO, CLIENT)

RUNNING, SSH, DESTROYED, GUEST_SSH = "running", "SSH ready", "destroyed", "guest: SSH ready"
CONTAINER = "guest: container_started"
GUEST = {
    "container_started": "container_started",
    "onstart_started": "onstart_started",
    "sshd_up": "ssh_open",
    "key_installed": "key_written",
}
"""The guest's moments and the truth log's words for them."""

TRUTHS = {
    RUNNING: "status running",
    "port open": "ssh_open",
    SSH: "ssh_ready",
    DESTROYED: "destroy_effective",
    "gone": "gone",
    GUEST_SSH: "ssh_ready",
} | {f"guest: {name}": event for name, event in GUEST.items()}
"""Every moment that is compared, and the event of the truth log that it is about."""


@dataclass(frozen=True)
class Task:
    """One way to look, on one profile, for so many runs, at most so many of them at once."""

    method: str
    profile: str
    runs: int
    at_once: int


@dataclass(frozen=True)
class Look:
    """What was measured of one moment of one run, beside the truth; monotonic seconds. Unseen: ``upper`` is infinite.

    The event happened in [``early``, ``late``]; None when it never did. ``latency``: what the answer that showed it took.
    """

    name: str
    lower: float
    upper: float
    early: float | None
    late: float | None
    latency: float | None = None

    @property
    def seen(self) -> bool:
        """Whether it was measured to have happened."""
        return math.isfinite(self.upper)

    @property
    def holds(self) -> bool:
        """Whether the bounds hold the truth."""
        if self.early is None or self.late is None:
            return not self.seen
        return self.lower <= self.late and self.early <= self.upper

    @property
    def width(self) -> float:
        """Seconds between the bounds."""
        return self.upper - self.lower

    @property
    def late_by(self) -> float:
        """How long after the truth the figure is that a tool shows: that of the answer that told."""
        assert self.early is not None
        assert self.late is not None
        return self.upper - (self.early + self.late) / 2


@dataclass(frozen=True)
class Campaign:
    """What one task came to. ``spans``: begin and end of each run. ``ended``: how many runs ended in which way."""

    task: Task
    looks: list[Look]
    answers: list[tuple[str, int, float]]
    spans: list[tuple[float, float]]
    ended: Counter[str]

    def per_run(self, calls: Iterable[str] | None = None, status: int | None = None) -> float:
        """Requests per run: of these calls (default: all), answered with this HTTP status (default: any)."""
        counted = [1 for call, code, _ in self.answers if (calls is None or call in calls) and status in (None, code)]
        return len(counted) / max(1, len(self.spans))

    @property
    def mean_at_once(self) -> float:
        """How many runs were under way at once, on average from the first run's begin to the last one's."""
        first, last = min(begin for begin, _ in self.spans), max(begin for begin, _ in self.spans)
        if last == first:
            return float(len(self.spans))
        return sum(min(end, last) - begin for begin, end in self.spans) / (last - first)

    @property
    def most_at_once(self) -> int:
        """How many runs were under way at once at most."""
        changes = sorted([(begin, 1) for begin, _ in self.spans] + [(end, -1) for _, end in self.spans])
        now = most = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most


def beside_truth(
    moments: dict[str, Moment], instance: int, events: list[dict[str, Any]], *, origin: float = 0.0, key: str = ""
) -> list[Look]:
    """``moments`` (readings from ``origin`` on) of an instance beside the first events of the truth log that they are about.

    ``key``: the comment of the run's own key; every key of the account reaches every machine, and only this one is looked for.
    """
    truth: dict[str, tuple[float, float]] = {}
    for event in events:
        if event["instance"] == instance and event.get("comment") in (None, key):
            name = f"status {event['status']}" if event["event"] == "status" else event["event"]
            truth.setdefault(name, (event["not_before_s"], event["s"]))
    looks = []
    for name, moment in moments.items():
        early, late = truth.get(TRUTHS[name], (None, None))
        took = None if moment.yes_received is None or moment.yes_sent is None else moment.yes_received - moment.yes_sent
        looks.append(Look(name, moment.lower + origin, moment.upper + origin, early, late, took))
    return looks


def moments_table(title: str, campaigns: list[Campaign]) -> Table:
    """Every way's moments: how many hold the truth, how wide the bounds are, how late the figure is."""
    caption = "inside: bounds that hold the truth; late: the shown figure − the truth; middle: that of the bounds − the truth"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("way to look", no_wrap=True)
    table.add_column("moment", no_wrap=True)
    for column in ("n", "unseen", "inside", "width: median", "p95", "late: median", "mean", "middle: mean"):
        table.add_column(column, justify="right")
    for method in METHODS:
        looks = [look for campaign in campaigns if campaign.task.method == method for look in campaign.looks]
        for name in TRUTHS:
            mine = [look for look in looks if look.name == name]
            if mine:
                table.add_row(method, name, *_figures(mine))
        table.add_section()
    return table


def _figures(looks: list[Look]) -> list[str]:
    known = [look for look in looks if look.seen and look.early is not None]
    inside = sum(look.holds for look in looks)
    cells = [str(len(looks)), str(sum(not look.seen for look in looks)), f"{inside / len(looks):.1%}"]
    if not known:
        return [*cells, *["–"] * 5]
    widths = sorted(look.width for look in known)
    late = [look.late_by for look in known]
    middle = [look.late_by - look.width / 2 for look in known]
    figures = [statistics.median(widths), widths[round(0.95 * (len(widths) - 1))]]
    return cells + [f"{x:.3f}" for x in (*figures, statistics.median(late), statistics.mean(late), statistics.mean(middle))]


def requests_table(campaigns: list[Campaign]) -> Table:
    """What every way asked of the API, as the emulator counted it."""
    table = Table("way to look", "profile", "runs", "at once: mean, most", title="API requests per run", title_justify="left")
    for column in ("all", "for a status", "429s", "how the runs ended"):
        table.add_column(column, justify="left" if " the " in column else "right")
    for one in sorted(campaigns, key=lambda c: (c.task.at_once, METHODS.index(c.task.method))):
        counts = [f"{x:.1f}" for x in (one.per_run(), one.per_run(STATUS_CALLS), one.per_run(status=429))]
        ended = ", ".join(f"{number} {how}" for how, number in one.ended.most_common())
        task, at_once = one.task, f"{one.mean_at_once:.0f}, {one.most_at_once}"
        table.add_row(task.method, Path(task.profile).stem, str(len(one.spans)), at_once, *counts, ended)
    return table
