"""Labelled traces of busy and idle machines, and how often the idle rule is right about them.

The labels come from what each trace was made to be: a job runs from the second in which it begins to the one in which it ends,
whatever the readings show. ``--write`` makes data/traces/idle.parquet anew, from seed 1. Fresh ones of another seed are judged
beside them, so that the rule is not tuned to the published ones alone. All levels are assumptions, drawn wide. The two kinds
labelled ``beyond`` are what no rule over usage can tell apart: they are shown, not published and not counted.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from vastbench.analysis.survival.intervals import proportion_interval
from vastbench.scenarios.idle import PERIOD_S, Gpu, IdleRule, Sample, State, judge

PUBLISHED = Path(__file__).parent.parent / "data/traces/idle.parquet"
LENGTH = 1500
"""Seconds of a trace."""
FOUND_WITHIN_S = 600.0
"""An idle machine counts as found when it is called idle within so many seconds of becoming so: twice the window."""


@dataclass
class Machine:
    """What a machine does, second by second: the truth of which samples are taken. Rates per second, CPU in % of a core."""

    rng: np.random.Generator
    cards: int = 0
    busy: np.ndarray = field(default_factory=lambda: np.zeros(LENGTH, bool))

    def __post_init__(self) -> None:
        rng = self.rng
        self.cards = self.cards or int(rng.choice([1, 1, 1, 2, 4, 8]))
        self.total_mb = float(rng.choice([12288, 24564, 49140, 81559]))
        self.gpu = np.zeros((self.cards, LENGTH))
        self.memory_mb = np.full((self.cards, LENGTH), rng.integers(1, 20), float)
        # An sshd, a shell, a supervisor, our own looks; logs are flushed every half minute.
        self.cpu = rng.uniform(0.2, 2) * rng.lognormal(0, 0.4, LENGTH)
        self.disk = np.where(np.arange(LENGTH) % 30 == 7, rng.uniform(0, 5e5), rng.uniform(0, 5e3))
        self.net = rng.uniform(100, 3000) * rng.lognormal(0, 0.5, LENGTH)
        self.lost: list[tuple[str, float]] = []
        """Readings that fail, each with its probability."""

    def draw(self, low: float, high: float) -> float:
        """A number between, on a logarithmic scale."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def job(self, start: int, end: int) -> slice:
        """A job from one second to another: the truth."""
        self.busy[start:end] = True
        return slice(start, end)

    def hold(self, when: slice, low: float = 0.02, cards: slice = slice(None)) -> None:
        """Hold so much of the GPUs' memory at least: a CUDA context and what is loaded."""
        self.memory_mb[cards, when] = max(120.0, self.total_mb * self.draw(low, 0.95))

    def turns(self, when: slice, on: tuple[float, float], off: tuple[float, float]) -> Iterator[slice]:
        """Stretches of work between pauses, of lengths between these seconds."""
        at = when.start
        while at < when.stop:
            end = min(when.stop, at + max(1, round(self.draw(*on))))
            yield slice(at, end)
            at = end + max(1, round(self.draw(*off)))

    def spread(self, what: np.ndarray, when: slice, low: float, high: float) -> None:
        """Add values between these, around one level."""
        size = what[..., when].shape
        what[..., when] += self.draw(low, high) * self.rng.uniform(0.6, 1.4, size)


def training(m: Machine, when: slice) -> None:
    m.hold(when, 0.2)
    m.gpu[:, when] = m.rng.uniform(55, 100, m.gpu[:, when].shape)
    m.spread(m.cpu, when, 80, 800)


def bursts(m: Machine, when: slice) -> None:
    m.hold(when)
    for on in m.turns(when, (2, 60), (5, 120)):
        m.gpu[:, on] = m.rng.uniform(20, 100, m.gpu[:, on].shape)
        m.spread(m.cpu, on, 30, 200)


def loading(m: Machine, when: slice) -> None:
    if m.rng.random() < 0.5:
        m.hold(when)
    m.gpu[:, when] = m.rng.uniform(0, 4.5, m.gpu[:, when].shape)
    m.spread(m.cpu, when, 60, 1600)
    m.spread(m.disk, when, 5e6, 5e8)


def one_busy(m: Machine, when: slice) -> None:
    card = int(m.rng.integers(m.cards))
    m.hold(when, 0.1, slice(card, card + 1))
    m.gpu[card, when] = m.rng.uniform(10, 100, when.stop - when.start)
    m.spread(m.cpu, when, 2, 110)


def evaluation(m: Machine, when: slice) -> None:
    m.hold(when, 0.2)
    for on in m.turns(when, (40, 400), (20, 280)):
        m.gpu[:, on] = m.rng.uniform(60, 100, m.gpu[:, on].shape)
        m.spread(m.cpu, on, 80, 300)


def download(m: Machine, when: slice) -> None:
    for on in m.turns(when, (30, 600), (2, 90)):  # stalls, and waits before the next try
        rate = m.draw(3e5, 3e8)
        m.spread(m.net, on, rate, rate)
        m.spread(m.disk, on, rate, rate)
        m.spread(m.cpu, on, 3, 120)


def upload(m: Machine, when: slice) -> None:
    m.spread(m.net, when, 3e5, 1e8)
    m.spread(m.cpu, when, 2, 60)


def checkpoints(m: Machine, when: slice) -> None:
    m.hold(when, 0.2)
    for saved in m.turns(when, (10, 300), (20, 200)):
        m.spread(m.disk, saved, 1e7, 1e9)
        m.spread(m.cpu, saved, 20, 120)
        m.gpu[:, saved.stop : min(when.stop, saved.stop + 20)] = m.rng.uniform(50, 100)


def compiling(m: Machine, when: slice) -> None:
    for on in m.turns(when, (20, 300), (1, 5)):
        m.spread(m.cpu, on, 90, 6400 if m.rng.random() < 0.7 else 100)  # linking has one thread
        m.spread(m.disk, on, 1e4, 1e7)


def preprocessing(m: Machine, when: slice) -> None:
    m.spread(m.cpu, when, 60, 100)
    m.spread(m.disk, when, 1e4, 1e7)


def serving(m: Machine, when: slice) -> None:
    m.hold(when, 0.1)
    for on in m.turns(when, (1, 5), (5, 500)):
        m.gpu[:, on] = m.rng.uniform(20, 95, m.gpu[:, on].shape)
        m.spread(m.cpu, on, 30, 100)


def agent(m: Machine, when: slice) -> None:
    for on in m.turns(when, (3, 30), (5, 90)):  # it waits for an answer from elsewhere
        m.spread(m.cpu, on, 60, 300)
        m.spread(m.net, on, 1e4, 1e6)


def steps(m: Machine, when: slice) -> None:
    """Install, build, train: one job."""
    at = when.start
    for step in (download, compiling, loading, training):
        end = min(when.stop, at + m.rng.integers(60, 500)) if step is not training else when.stop
        if at < end:
            step(m, slice(at, end))
        at = end + m.rng.integers(1, 15)


JOBS = (training, bursts, loading, evaluation, download, upload, checkpoints, compiling, preprocessing, serving, agent, steps)


def telemetry(m: Machine) -> None:
    m.spread(m.cpu, slice(0, LENGTH), 0.5, 3)
    for on in m.turns(slice(0, LENGTH), (1, 2), (10, 60)):
        m.spread(m.net, on, 2e4, 2e5)


def cron(m: Machine) -> None:
    every = int(m.rng.choice([300, 600, 900]))
    size = round(m.draw(1, 20))
    for at in range(int(m.rng.integers(every)), LENGTH, every):
        m.spread(m.cpu, slice(at, at + size), 20, 150)
        m.spread(m.disk, slice(at, at + size), 1e4, 2e7)


def notebook(m: Machine) -> None:
    m.spread(m.cpu, slice(0, LENGTH), 0.5, 2)
    m.spread(m.net, slice(0, LENGTH), 500, 5000)


def desktop(m: Machine) -> None:
    m.gpu[0] = m.rng.uniform(0, 3, LENGTH)
    m.memory_mb[0] = m.rng.uniform(10, 60)
    m.spread(m.cpu, slice(0, LENGTH), 1, 4)


def daily(m: Machine) -> None:
    at, size = int(m.rng.integers(LENGTH - 60)), round(m.draw(5, 60))
    m.spread(m.cpu, slice(at, at + size), 50, 120)
    m.spread(m.disk, slice(at, at + size), 1e6, 5e7)
    m.spread(m.net, slice(at, at + size), 1e4, 2e7)


def flaky(m: Machine) -> None:
    m.lost = [("gpus", 0.01), ("cpu", 0.01), ("sample", 0.02)]


NOISE = (lambda _: None, telemetry, cron, notebook, desktop, daily, flaky)
"""What machines do that nobody uses."""


def sleeper(m: Machine, when: slice) -> None:
    for on in m.turns(when, (2, 20), (150, 600)):  # a queue's worker that is rarely asked
        m.spread(m.cpu, on, 60, 100)


def eager_cron(m: Machine) -> None:
    for at in range(int(m.rng.integers(100)), LENGTH, 100):
        m.spread(m.cpu, slice(at, at + 10), 50, 100)


def idle(noise: Callable[[Machine], None]) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        noise(m)
        if m.rng.random() < 0.5:  # a job came before
            m.rng.choice(np.array(JOBS, object))(m, m.job(0, int(m.rng.integers(60, 500))))

    return make


def working(job: Callable[[Machine, slice], None]) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        m.rng.choice(np.array(NOISE, object))(m)
        began = int(m.rng.integers(300, 900)) if m.rng.random() < 0.25 else 0
        job(m, m.job(began, LENGTH))

    return make


def unread(m: Machine) -> None:
    m.rng.choice(np.array([one_busy, serving], object))(m, m.job(0, LENGTH))  # which the GPU shows best
    m.lost = [("gpus", m.rng.choice([0.3, 1.0])), ("sample", m.draw(0.01, 0.5))]


def held(m: Machine) -> None:
    m.rng.choice(np.array(NOISE[:4], object))(m)
    m.hold(slice(0, LENGTH), 0.05, slice(0, int(m.rng.integers(1, m.cards + 1))))


def unreadable(m: Machine) -> None:
    m.lost = [(str(m.rng.choice(["gpus", "one gpu", "use", "cpu", "disk", "net"])), m.rng.choice([0.4, 0.8, 1.0]))]


KINDS: dict[str, tuple[str, Callable[[Machine], None]]] = {
    **{job.__name__.replace("_", " "): ("busy", working(job)) for job in JOBS},
    "one GPU of several": ("busy", working(one_busy)),
    "busy, readings fail": ("busy", unread),
    **{
        f"idle, {name}": ("idle", idle(noise))
        for name, noise in zip(
            ("nothing", "telemetry", "cron", "notebook", "desktop", "daily job", "some readings fail"), NOISE, strict=True
        )
    },
    "model loaded": ("held", held),
    "idle, readings fail": ("unreadable", unreadable),
    "pauses of minutes, no memory": ("beyond", working(sleeper)),
    "cron every 100 s": ("beyond", idle(eager_cron)),
}
"""Each kind of trace: its label, and what makes it."""


def trace(kind: str, seed: list[int]) -> pd.DataFrame:
    """One trace: a row per sample, and whether a job ran all the time since the sample before."""
    rng = np.random.default_rng(seed)
    m = Machine(rng, int(rng.integers(2, 9)) if kind == "one GPU of several" else 0)
    KINDS[kind][1](m)
    # Looks ten seconds apart, a little late each.
    ats = np.unique((np.arange(0, LENGTH - 1, PERIOD_S) + rng.uniform(0, 1.5, int(LENGTH / PERIOD_S))).astype(int))
    rows, before = [], None
    for at in ats:
        lost = {what for what, chance in m.lost if rng.random() < chance}
        if "sample" in lost:
            continue
        past = slice(before, at)
        rates = [None if before is None else round(float(one[past].mean()), 1) for one in (m.cpu, m.disk, m.net)]
        cpu, disk, net = (None if what in lost else rate for what, rate in zip(("cpu", "disk", "net"), rates, strict=True))
        use = [None if {"gpus", "use"} & lost else float(round(one)) for one in m.gpu[:, at]]
        used = [None if "gpus" in lost else float(round(one)) for one in m.memory_mb[:, at]]
        if "one gpu" in lost:
            use[-1] = used[-1] = None
        rows.append((float(at), bool(m.busy[past if before is not None else at].all()), use, used, cpu, disk, net))
        before = at
    table = pd.DataFrame(rows, columns=["at", "busy", "use_pct", "used_mb", "cpu_pct", "disk_bytes_per_s", "net_bytes_per_s"])
    return table.assign(trace="-".join(map(str, seed)), kind=kind, label=KINDS[kind][0], total_mb=m.total_mb)


def samples_of(table: pd.DataFrame) -> list[Sample]:
    """The samples of one trace's rows."""

    def number(value: float | None) -> float | None:
        return None if value is None or np.isnan(value) else float(value)

    return [
        Sample(
            row.at,
            tuple(Gpu(number(use), number(used), row.total_mb) for use, used in zip(row.use_pct, row.used_mb, strict=True)),
            number(row.cpu_pct),
            number(row.disk_bytes_per_s),
            number(row.net_bytes_per_s),
        )
        for row in table.itertuples()
    ]


@dataclass(frozen=True)
class Outcome:
    """What the rule made of one trace: its verdicts in order, each with the sample's clock reading and whether a job ran."""

    kind: str
    label: str
    verdicts: list[tuple[float, bool, State]]

    @property
    def wronged(self) -> bool:
        """Whether it was called idle while a job ran, or while it held memory."""
        return any(state is State.IDLE and (busy or self.label == "held") for _, busy, state in self.verdicts)

    @property
    def noticed_s(self) -> float | None:
        """Seconds from the last sample in which a job ran, or from the first of all, to the first that was called idle."""
        since = max((at for at, busy, _ in self.verdicts if busy), default=0.0)
        return next((at - since for at, _, state in self.verdicts if state is State.IDLE and at > since), None)

    @property
    def found(self) -> bool:
        """Whether the rule saw in time what the trace is; a trace of a job is only ever wronged."""
        states = {state for _, _, state in self.verdicts}
        expected = {"busy": not self.wronged, "held": State.HELD in states and not self.wronged}
        expected |= {"unreadable": State.IDLE not in states, "beyond": not self.wronged and State.IDLE in states}
        late = self.noticed_s is None or self.noticed_s > FOUND_WITHIN_S
        return not late if self.label == "idle" else expected[self.label]


def outcome(table: pd.DataFrame, rule: IdleRule, seen: Callable[[Sample], Sample] = lambda one: one) -> Outcome:
    """What ``rule`` says at each sample of one trace, of which a look keeps what ``seen`` makes of it."""
    samples = [seen(one) for one in samples_of(table)]
    most = round(2 * rule.window_s / PERIOD_S)
    verdicts = [
        (one.at, bool(busy), judge(samples[max(0, n - most) : n + 1], rule, one.at).state)
        for n, (one, busy) in enumerate(zip(samples, table["busy"], strict=True))
    ]
    return Outcome(table["kind"].iloc[0], table["label"].iloc[0], verdicts)


def made(asked: tuple[str, int, int]) -> Outcome:
    """The outcome of one fresh trace."""
    kind, seed, number = asked
    return outcome(trace(kind, [seed, list(KINDS).index(kind), number]), IdleRule())


def published(each: int = 10) -> pd.DataFrame:
    """The traces of data/traces/idle.parquet."""
    kinds = [(at, kind) for at, (kind, (label, _)) in enumerate(KINDS.items()) if label != "beyond"]
    table = pd.concat([trace(kind, [1, at, number]) for at, kind in kinds for number in range(each)], ignore_index=True)
    return table.astype({"trace": "category", "kind": "category", "label": "category"})


def show(title: str, outcomes: list[Outcome]) -> tuple[int, float]:
    """Print how often the rule was right; the busy traces called idle, and the share of the idle ones found."""
    table = Table(
        "kind", "label", "traces", "called idle, wrongly", "found", "noticed after, p50", "p95", "samples", title=title
    )
    for kind, (label, _) in KINDS.items():
        some = [one for one in outcomes if one.kind == kind]
        if not some:
            continue
        after = [one.noticed_s for one in some if label == "idle" and one.noticed_s is not None]
        quantiles = [f"{np.quantile(after, q):.0f} s" for q in (0.5, 0.95)] if after else ["", ""]
        counts = Counter(state.value for one in some for _, _, state in one.verdicts)
        words = " ".join(f"{state} {count}" for state, count in counts.most_common())
        table.add_row(
            kind,
            label,
            str(len(some)),
            *(str(sum(x)) for x in ([o.wronged for o in some], [o.found for o in some])),
            *quantiles,
            words,
        )
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    counted = [one for one in outcomes if one.label != "beyond"]
    wrong, idles = sum(one.wronged for one in counted), [one for one in counted if one.label == "idle"]
    found = sum(one.found for one in idles)
    low, high = proportion_interval(found, len(idles))
    console.print(
        f"Called idle while a job ran, or memory was held: {wrong} of {len(counted)} traces. Idle ones found within "
        f"{FOUND_WITHIN_S:g} s: {found} of {len(idles)}, {found / len(idles):.2%} ({low:.2%} – {high:.2%})."
    )
    return wrong, found / len(idles)


def main() -> int:
    """Print the confusion counts; 1 when a busy machine is called idle, or fewer than 99 % of idle ones are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PUBLISHED.name} anew")
    parser.add_argument("--traces", type=int, default=50, help="fresh traces of each kind")
    parser.add_argument("--seed", type=int, default=2, help="their seed; 1 is that of the published ones")
    asked = parser.parse_args()
    if asked.write:
        PUBLISHED.parent.mkdir(exist_ok=True)
        published().to_parquet(PUBLISHED, index=False, compression="zstd")
    known = [outcome(table, IdleRule()) for _, table in pd.read_parquet(PUBLISHED).groupby("trace", observed=True, sort=False)]
    verdicts = [show("the published traces", known)]
    with ProcessPoolExecutor(2) as pool:
        fresh = pool.map(made, [(kind, asked.seed, n) for kind in KINDS for n in range(asked.traces)], chunksize=10)
        verdicts.append(show(f"fresh traces, seed {asked.seed}", list(fresh)))
    return int(any(wrong or found < 0.99 for wrong, found in verdicts))


if __name__ == "__main__":
    sys.exit(main())
