"""How soon a lost machine is noticed, against how often a living one is called lost: over heartbeat periods and rules.

On a virtual clock, with the real detector. False alarms are counted kind by kind of trouble (a Monte Carlo in strata): so many
episodes of each kind are played, and the share that ends in an alarm is multiplied by the episodes of 30 days. Losses happen in
good weather, and again while the API is down.

A heartbeat is a line to a shell over the run's one SSH connection, answered in order. TCP sends what is lost on the way again
after 0.4 s, 0.8 s later, and so on, which holds up all that follows; after ``DEAD_PEER_S`` without an acknowledgement the
connection is dead, and it is made anew, one try after the other. The status is read from the list every second.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from vastbench.scenarios.heartbeat import GONE, Beat, Detector, HeartbeatRule, Loss, Poll
from vastbench.ssh.transport import DEAD_PEER_S

RESEND_S, API_TIMEOUT_S, LOGIN_TIMEOUT_S = 0.4, 10.0, 5.0
ANSWER, LOGIN, LIST = (0.15, 0.35), (1.20, 0.35), (0.35, 0.25)
"""Median and sigma of the seconds that an answered line, a new connection and the list take: the emulator's default profile."""
STRAY_POLL = 0.005
"""Polls that fail by themselves, in any weather. Assumed."""
CLEAR_S = 30.0
"""Seconds that are played before and after an episode."""
OUTAGE_S = 600.0
"""The API's outage, once in 30 days."""
AIM_S, AIM_ALARMS = 15.0, 1.0

Span = tuple[float, float]
NEVER: Span = (math.inf, math.inf)


@dataclass(frozen=True)
class Weather:
    """What goes wrong, in seconds from the start: our network is down, the path to the machine is, round trips take about
    ``slow_s`` longer or packets are ``lossy``, the API answers with errors, the status is wrong, the connection is reset; the
    machine dies, in silence or refusing connections."""

    ends: float
    own: Span = NEVER
    path: Span = NEVER
    bad: Span = NEVER
    slow_s: float = 0.0
    lossy: float = 0.0
    api: Span = NEVER
    flicker: Span = NEVER
    died: float = math.inf
    silent: bool = True
    reset: float = math.inf
    said: tuple[float, str] = (math.inf, "")
    """When the status says so, and what."""


def inside(at: float, span: Span) -> bool:
    return span[0] <= at < span[1]


@dataclass
class Play:
    """One stretch of weather, drawn from ``rng``."""

    rng: random.Random
    weather: Weather
    patient: bool = True

    def arrival(self, at: float, usual: tuple[float, float], down: tuple[Span, ...]) -> float:
        """When what is asked for at ``at`` is answered, if nobody loses patience."""
        took = self.rng.lognormvariate(math.log(usual[0]), usual[1])
        for span in down:
            if at < span[1] and at + took > span[0]:
                wait = RESEND_S
                while at < span[1]:
                    at, wait = at + wait, 2 * wait
        if inside(at, self.weather.bad):
            took += self.weather.slow_s * self.rng.uniform(0.5, 1.5)
            for _ in range(2):  # there and back
                wait = RESEND_S
                while self.rng.random() < self.weather.lossy:
                    took, wait = took + wait, 2 * wait
        return at + took

    def beats(self, rule: HeartbeatRule) -> Iterator[Beat]:
        """Heartbeats that failed, and answers, not in order; a late answer comes after the failure of its heartbeat."""
        weather, at = self.weather, self.rng.uniform(0, rule.period_s)
        broken = weather.reset if weather.silent else min(weather.reset, weather.died)  # when the connection is, or will be
        last = 0.0  # answers come in order
        while at < weather.ends:
            if at < broken:
                answered = max(last, self.arrival(at, ANSWER, (weather.own, weather.path)))
                if answered - at > DEAD_PEER_S or answered > weather.died:
                    broken = min(broken, at + DEAD_PEER_S)
                answered = last = answered if answered < min(broken, weather.died) else math.inf
                gives_up, symptom = (broken, "reset") if answered > broken else (math.inf, "")
                following = at + rule.period_s
            else:
                refused = at >= weather.died and not weather.silent
                answered = math.inf if at >= weather.died else self.arrival(at, LOGIN, (weather.own, weather.path))
                gives_up, symptom = (at + 0.2, "refused") if refused else (at + LOGIN_TIMEOUT_S, "no answer")
                if answered <= min(gives_up, weather.died):
                    broken, last, following = math.inf, answered, max(answered, at + rule.period_s)
                    if not weather.silent:
                        broken = weather.died
                else:
                    answered, following = math.inf, max(gives_up, at + rule.period_s)
            if not self.patient:
                following = max(following, min(answered, at + rule.timeout_s))
            if answered > at + rule.timeout_s or math.isinf(answered):
                late = at + rule.timeout_s
                yield Beat(at, min(late, gives_up), symptom if gives_up < late else "no answer")
            if not math.isinf(answered) and (self.patient or answered <= at + rule.timeout_s):
                yield Beat(at, answered)
            at = following

    def polls(self) -> Iterator[Poll]:
        """What the list says, every second."""
        weather, at = self.weather, self.rng.random()
        while at < weather.ends:
            received, status = self.arrival(at, LIST, (weather.own,)), "running"
            if received >= weather.said[0]:
                status = weather.said[1]
            elif inside(at, weather.flicker):
                status = self.rng.choice([GONE, "offline"])
            unread = inside(at, weather.api) or self.rng.random() < STRAY_POLL or received > at + API_TIMEOUT_S
            received = min(received, at + API_TIMEOUT_S)
            yield Poll(at, received, None if unread else status)
            at = max(at + 1.0, received)

    def loss(self, rule: HeartbeatRule) -> Loss | None:
        """What the detector decides."""
        detector = Detector(rule, Beat(-1.0, -0.5))
        for event in sorted([*self.beats(rule), *self.polls()], key=lambda event: event.received):
            if loss := detector.observe(event):
                return loss
        return None


def span(rng: random.Random, median: float, sigma: float, start: float = CLEAR_S) -> Span:
    return (start, start + rng.lognormvariate(math.log(median), sigma))


def path(rng: random.Random) -> Weather:
    down = span(rng, 3, 1.0)
    return Weather(down[1] + CLEAR_S, path=down)


def own(rng: random.Random) -> Weather:
    down = span(rng, 6, 1.2)
    return Weather(down[1] + CLEAR_S, own=down)


def slow(rng: random.Random) -> Weather:
    bad = span(rng, 20, 0.8)
    return Weather(bad[1] + CLEAR_S, bad=bad, slow_s=rng.lognormvariate(math.log(0.8), 0.6))


def lossy(rng: random.Random) -> Weather:
    bad = span(rng, 20, 0.8)
    return Weather(bad[1] + CLEAR_S, bad=bad, lossy=rng.uniform(0.05, 0.3))


def flicker(rng: random.Random) -> Weather:
    return Weather(2 * CLEAR_S, flicker=(CLEAR_S, CLEAR_S + rng.uniform(1, 4)))


def reset(_: random.Random) -> Weather:
    return Weather(2 * CLEAR_S, reset=CLEAR_S)


def api_outage(rng: random.Random) -> Weather:
    """With a broken path and a slow network in the middle of it."""
    start = rng.uniform(0, OUTAGE_S - 200)
    down, bad = span(rng, 3, 1.0, start), span(rng, 20, 0.8, start + 60)
    return Weather(OUTAGE_S + CLEAR_S, path=down, bad=bad, slow_s=rng.lognormvariate(math.log(0.8), 0.6), api=(0.0, OUTAGE_S))


@dataclass(frozen=True)
class Trouble:
    """A kind of episode: how many come in 30 days and are played for a point, what one is, and on what that rests."""

    per_month: float
    episodes: int
    draw: Callable[[random.Random], Weather]
    about: str


TROUBLES = {
    "path down": Trouble(
        12,
        2000,
        path,
        "12, log-normal, median 3 s, sigma 1; 0.8 of them last 13.5 s and look like a host that died in silence",
    ),
    "our network down": Trouble(8, 1000, own, "8, median 6 s, sigma 1.2: a router, a radio link, a laptop that roams"),
    "slow network": Trouble(
        300, 600, slow, "300, median 20 s; round trips later by a level of 0.8 s in the median, sigma 0.6, ± 50 %"
    ),
    "lossy network": Trouble(150, 1000, lossy, "150, median 20 s; 5 to 30 % of packets lost each way"),
    "connection reset": Trouble(120, 100, reset, "120, as by a router that forgets"),
    "status flickers": Trouble(10, 100, flicker, "10, 1 to 4 s"),
    "API outage": Trouble(1, 30, api_outage, "1, of 600 s, with a broken path and a slow network in it"),
}
"""All numbers are assumptions: nobody publishes them for this marketplace."""


def lost(rng: random.Random, kind: str) -> Weather:
    """A machine that is lost at 30 to 60 s: ``silent`` (host, power or uplink; the status says so after minutes), ``stopped``
    (the container is ended, the connection closed) or ``destroyed`` (by somebody else)."""
    died = rng.uniform(CLEAR_S, 2 * CLEAR_S)
    lag, sigma, word = {"silent": (90, 0.8, "offline"), "stopped": (4, 0.5, "exited"), "destroyed": (1.5, 0.5, GONE)}[kind]
    said = died + rng.lognormvariate(math.log(lag), sigma)
    return Weather(died + 150, died=died, silent=kind == "silent", said=(said, word))


KINDS = {"silent": 0.5, "stopped": 0.3, "destroyed": 0.2}
"""How losses are divided. Assumed; the 95th percentile is that of the silent ones."""


@dataclass(frozen=True)
class Way:
    """A point of the curve: a rule, and whether no heartbeat waits for the one before and late answers count."""

    name: str
    rule: HeartbeatRule
    patient: bool = True


DEFAULT = HeartbeatRule()
WAYS = [
    *(Way(f"silence {s:g} s", replace(DEFAULT, silence_s=s)) for s in (6, 8, 10, 12, DEFAULT.silence_s, 17, 20, 30)),
    *(Way(f"every {s:g} s", replace(DEFAULT, period_s=s)) for s in (2, 3, 5, 10)),
    Way("one at a time", DEFAULT, patient=False),
    Way("API no witness", replace(DEFAULT, blind_s=DEFAULT.silence_s)),
    Way("no status", replace(DEFAULT, dead_polls=10**6)),
]


def detections(way: Way, number: int, *, api_down: bool = False) -> dict[str, list[float]]:
    """Seconds from each loss to the verdict, by kind of loss; infinity for one that was missed. Its bounds hold the truth."""
    rng = random.Random(f"losses {api_down}")
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind in [kind for kind, share in KINDS.items() for _ in range(round(share * number))]:
        weather = lost(rng, kind)
        if api_down:
            weather = replace(weather, api=(0.0, math.inf))
        loss = Play(random.Random(rng.random()), weather, way.patient).loss(way.rule)
        if loss and not loss.moment.lower <= weather.died <= loss.moment.upper:
            raise SystemExit(f"The loss at {weather.died} is outside of its bounds: {loss}")
        found[kind].append(loss.moment.upper - weather.died if loss else math.inf)
    return found


def alarms(way: Way, trouble: Trouble, number: int) -> tuple[float, float]:
    """False alarms in 30 days by episodes of this kind, and their variance; the episodes are the same for every rule."""
    rng = random.Random(trouble.draw.__name__)
    weathers = [trouble.draw(rng) for _ in range(number)]
    count = sum(Play(random.Random(n), one, way.patient).loss(way.rule) is not None for n, one in enumerate(weathers))
    weight = trouble.per_month / number
    return weight * count, weight**2 * (count + 1)


def quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share, method="higher"))


def main() -> int:
    """Print the curve; 1 when the default rule misses the aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the episodes and losses: a look, not a measurement")
    effort = 0.1 if parser.parse_args().quick else 1.0
    short = (name.removesuffix(" network").removeprefix("connection ").removeprefix("status ") for name in TROUBLES)
    seconds = ("stopped, p50 s", "all, p95 s", "silent, p95 s", "API down, p95 s")
    title = "seconds to detect, and false alarms in 30 days by trouble"
    curve = Table(Column("rule", no_wrap=True), *seconds, *short, Column("false alarms", no_wrap=True), title=title)
    for way in WAYS:
        own = way.rule == DEFAULT and way.patient
        found = detections(way, round(effort * (4000 if own else 1000)))
        every = [one for kind in found.values() for one in kind]
        down = [one for kind in detections(way, round(100 * effort), api_down=True).values() for one in kind]
        counts = {name: max(20, round(effort * (10 if own else 1) * one.episodes)) for name, one in TROUBLES.items()}
        rates = {name: alarms(way, one, counts[name]) for name, one in TROUBLES.items()}
        total, error = sum(rate for rate, _ in rates.values()), 2 * math.sqrt(sum(variance for _, variance in rates.values()))
        p95 = quantile(every, 0.95)
        shown = [
            f"{quantile(one, share):.1f}"
            for one, share in ((found["stopped"], 0.5), (every, 0.95), (found["silent"], 0.95), (down, 0.95))
        ]
        shown += [f"{rate:.2f}" for rate, _ in rates.values()]
        curve.add_row(("▶ " if own else "") + way.name, *shown, f"{total:.2f}" + (f" ± {error:.2f}" if own else ""))
        if own:
            met = p95 <= AIM_S and total <= AIM_ALARMS
            paths, broken = rates["path down"][0], TROUBLES["path down"].per_month
            spare = (AIM_ALARMS - total + paths) / paths * broken if paths else math.inf
            verdict = (
                f"▶ the default rule: p95 {p95:.1f} s, {total:.2f} ± {error:.2f} false alarms in 30 days, all bounds hold.\n"
                f"The aim, {AIM_S:g} s at {AIM_ALARMS:g} false alarm, is {'met' if met else 'NOT met'} as assumed. "
                f"It allows {spare:.1f} broken paths in 30 days, where {broken:g} are assumed."
            )
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(curve)
    for name, trouble in TROUBLES.items():
        console.print(f"{name}, in 30 days: {trouble.about}")
    console.print(verdict)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
