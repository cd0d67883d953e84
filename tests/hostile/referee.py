"""The referee: plays a schedule of acts against a whole command, and says which promises were broken.

::

    vastbench run ── acts, lags, a signal ── marketplace        then, while acts are left:  vastbench reap, under them
                                                                then, honestly:             vastbench reap
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.hostile.between import Answer, Call, Raw, between
from tests.processes import clean_environment, forked
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.record.conditions import Conditions
from vastbench.rental.label import read_label
from vastbench.rental.offers import choose, query
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest

SPEED = 60
LIMIT_S = 75.0
"""Real seconds within which every command has to end, ten of them for a busy machine: boot and SSH 2 x 120 s, the search for a
label 120 s, closing 2 x 180 s, each in clock seconds, and four calls that take both of their time limits."""

CALLS = ("create", "list", "page", "destroy", "search", "key", "other")
HONEST = "honest"


@dataclass(frozen=True)
class Act:
    """What is done to the calls of one kind: from the ``nth`` on, ``times`` in a row."""

    on: str
    nth: int
    what: str
    times: int = 1


@dataclass(frozen=True)
class Signal:
    """A signal to the command when the ``nth`` call of a kind arrives, before it is passed on or after."""

    name: str
    on: str
    nth: int
    after: bool


@dataclass(frozen=True)
class Schedule:
    """``lags``: clock seconds by which list, page and delete know nothing of an instance after it was made."""

    acts: tuple[Act, ...] = ()
    lags: tuple[int, int, int] = (0, 0, 0)
    signal: Signal | None = None


def kind(call: Call) -> str:
    """Which kind of call it is."""
    instance = call.path.startswith("/api/v0/instances/") and call.path.split("?")[0].strip("/").split("/")[-1].isdigit()
    if call.is_create:
        return "create"
    if call.is_list:
        return "list"
    if instance and call.method in ("GET", "DELETE"):
        return "page" if call.method == "GET" else "destroy"
    if call.path.startswith("/api/v0/bundles/"):
        return "search"
    return "key" if "ssh" in call.path else "other"


class Middle:
    """What stands between the command and the marketplace while one schedule is played."""

    def __init__(self, schedule: Schedule, stranger: int) -> None:
        """Nothing was called yet."""
        self.schedule = schedule
        self.stranger = stranger
        self.tell: Callable[[int], None] = lambda _: None
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._born: dict[int, float] = {}
        self._before: dict[str, Answer] = {}

    @property
    def acts_left(self) -> bool:
        """Whether acts are still to come."""
        return any(self._calls[act.on] < act.nth + act.times for act in self.schedule.acts)

    def __call__(self, call: Call) -> Answer | Raw:
        """Answer a call as the schedule says."""
        which = kind(call)
        with self._lock:
            number = self._calls[which]
            self._calls[which] += 1
        told = self.schedule.signal
        due = told is not None and (told.on, told.nth) == (which, number)
        if due and told and not told.after:
            self.tell(getattr(signal, told.name))
        act = next((one for one in self.schedule.acts if one.on == which and 0 <= number - one.nth < one.times), None)
        answer = ACTS[act.what if act else HONEST](self, call)
        if due and told and told.after:
            self.tell(getattr(signal, told.name))
        return answer

    def true(self, call: Call) -> Answer:
        """The marketplace's own answer, lags included; an earlier one is kept to be repeated."""
        list_lag, page_lag, delete_lag = self.schedule.lags
        which = kind(call)
        if which in ("page", "destroy") and self._is_young(int(call.path.split("?")[0].strip("/").split("/")[-1]), page_lag):
            if which == "page":
                return 200, b'{"instances": null}'
            if delete_lag:
                return 404, b'{"success": false, "error": "no_such_instance", "msg": "no such instance"}'
        if which == "list":
            answer = call.rows(lambda rows: [row for row in rows if not self._is_young(row["id"], list_lag)])
        else:
            answer = call.send()
        if which == "create" and (made := _json(answer).get("new_contract")):
            self._born[made] = time.monotonic()
        self._before.setdefault(call.method + call.path, answer)
        return answer

    def stale(self, call: Call) -> Answer:
        """The first answer that was ever given to this question."""
        return self._before.get(call.method + call.path) or self.true(call)

    def _is_young(self, instance: int, lag_s: float) -> bool:
        return time.monotonic() - self._born.get(instance, 0.0) < lag_s / SPEED


def _json(answer: Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer[1])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _after(status: int, body: bytes) -> Callable[[Middle, Call], Answer]:
    def act(middle: Middle, call: Call) -> Answer:
        middle.true(call)
        return status, body

    return act


def _instead(status: int, body: bytes) -> Callable[[Middle, Call], Answer]:
    return lambda _middle, _call: (status, body)


def _lost(middle: Middle, call: Call) -> Raw:
    middle.true(call)
    return Raw()


def _cut(middle: Middle, call: Call) -> Raw:
    status, body = middle.true(call)
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return Raw([head + body[: len(body) // 2]])


def _late(middle: Middle, call: Call) -> Answer:
    answer = middle.true(call)
    time.sleep(10 / SPEED)
    return answer


def _twice(middle: Middle, call: Call) -> Answer:
    middle.true(call)
    return middle.true(call)


def _drip(head: bytes, piece: bytes) -> Callable[[Middle, Call], Raw]:
    def act(middle: Middle, call: Call) -> Raw:
        middle.true(call)

        def pieces() -> Iterator[bytes]:
            yield head
            yield from repeat(piece, 1_000)

        return Raw(pieces(), 0.4)

    return act


def _swapped(middle: Middle, call: Call) -> Answer:
    """Our label stands with the stranger's instance, and the stranger's with ours."""
    status, body = middle.true(call)
    shown = _json((status, body)).get("instances")
    if not isinstance(shown, list):
        return status, body
    theirs = next((row for row in shown if row["id"] == middle.stranger), None)
    ours = next((row for row in shown if read_label(row["label"])), None)
    if theirs and ours:
        theirs["label"], ours["label"] = ours["label"], theirs["label"]
    return status, json.dumps(_json((status, body)) | {"instances": shown}).encode()


def _strangers_id(middle: Middle, call: Call) -> Answer:
    """An answer that names the stranger's instance."""
    status, body = middle.true(call)
    made = _json((status, body)).get("new_contract")
    return status, body.replace(str(made).encode(), str(middle.stranger).encode()) if made else body


GATEWAY = b'{"error": "Forbidden"}'
ACTS: dict[str, Callable[[Middle, Call], Answer | Raw]] = {
    HONEST: Middle.true,
    "lost": _lost,
    "cut off": _cut,
    "late": _late,
    "twice": _twice,
    "stale": Middle.stale,
    "swapped labels": _swapped,
    "a stranger's id": _strangers_id,
    "done, then 403 of a gateway": _after(403, GATEWAY),
    "done, then 404 of a framework": _after(404, b'{"detail": "Not Found"}'),
    "done, then 502": _after(502, b"<html>bad gateway</html>"),
    "done, then no_such_ask": _after(410, b'{"success": false, "error": "no_such_ask", "msg": "gone"}'),
    "done, then 429": _after(429, b"API requests too frequent: endpoint threshold=4.5"),
    "not done, 403 of a gateway": _instead(403, GATEWAY),
    "not done, 502": _instead(502, b"<html>bad gateway</html>"),
    "not done, HTML": _instead(200, b"<html>please log in</html>"),
    "done, headers in drips": _drip(b"HTTP/1.1 200 OK\r\n", b"X-Header: y\r\n"),
    "done, endless 100": _drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "done, body in drips": _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
}


TELLING = ["create", "list", "page", "destroy"]
acts = st.builds(
    Act,
    on=st.sampled_from(TELLING * 3 + list(CALLS)),
    nth=st.integers(0, 6),
    what=st.sampled_from([what for what in ACTS if what != HONEST]),
    times=st.integers(1, 3),
)
signals = st.builds(
    Signal,
    name=st.sampled_from(["SIGTERM", "SIGINT", "SIGKILL", "SIGHUP"]),
    on=st.sampled_from(TELLING),
    nth=st.integers(0, 4),
    after=st.booleans(),
)
schedules = st.builds(
    Schedule,
    acts=st.lists(acts, max_size=4).map(tuple),
    lags=st.sampled_from([(0, 0, 0)] * 3 + [(20, 0, 0), (20, 20, 0), (20, 20, 20), (45, 45, 45)]),
    signal=st.none() | signals,
)


@dataclass
class Referee:
    """A marketplace with an instance of a stranger on the same account, and a folder for stores.

    ``plant`` is called in each process before its command: it may bring a fault back that was mended.
    """

    vast: Emulator
    api: VastApi
    folder: Path
    plant: Callable[[], None] | None = None
    stranger: int = 0
    played: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    def play(self, schedule: Schedule) -> list[str]:
        """Play one schedule; which promises were broken, none if none."""
        self._be_a_stranger()
        self.played += 1
        home = self.folder / str(self.played)
        home.mkdir()
        middle = Middle(schedule, self.stranger)
        with between(self.vast.url, middle) as url:
            broken = self._command(home, url, middle, *RUN)
            if middle.acts_left:
                broken += self._command(home, url, middle, *REAP)
            middle.schedule = Schedule()
            broken += self._command(home, url, middle, *REAP)
        left = set(self.vast.alive) - {self.stranger}
        broken += [f"after the last reap instance {instance} lives" for instance in left]
        for instance in left:
            self.api.destroy_instance(instance)
        return broken

    def _be_a_stranger(self) -> None:
        while self.stranger not in self.vast.alive:
            conditions = Conditions()
            offer = choose(self.api.search_offers(query(conditions)).value, conditions)
            theirs = CreateRequest("ubuntu:22.04", 20.0, "somebody else's")
            self.stranger = self.api.create_instance(offer.id, theirs).value.new_contract

    def _command(self, home: Path, url: str, middle: Middle, *words: str) -> list[str]:
        """Run a command through ``middle``; what it broke."""
        environment = clean_environment(
            home,
            VAST_URL=url,
            VAST_API_KEY=self.vast.api_key,
            VASTBENCH_SPEED=str(SPEED),
            VASTBENCH_STORE=str(home / "runs.sqlite"),
        )
        out, err = home / f"{words[0]}.out", home / f"{words[0]}.err"
        process = forked(words, environment, home, out, err, self.plant)
        middle.tell = lambda number: os.kill(process.pid or 0, number)
        process.join(LIMIT_S)
        hangs = process.exitcode is None
        if hangs:
            process.kill()
            process.join()
        said, name = err.read_text(), " ".join(words[:1])
        self.ended[f"{name} {process.exitcode}"] += 1
        broken = [f"{name} did not end within {LIMIT_S:g} s"] if hangs else []
        if "Traceback" in said or "internal error" in said or process.exitcode == 1:
            broken.append(f"{name} ended with {process.exitcode}: {said[-2000:]}")
        return broken + self._lost_sight_of(home, name)

    def _lost_sight_of(self, home: Path, name: str) -> list[str]:
        """What lives although its lease is closed, and whether the stranger does not."""
        with Store(home / "runs.sqlite") as store:
            closed = {row.label: row for row in store.leases() if row.state == "closed"}
        shown = self.api.list_instances().value
        broken = [
            f"after {name} instance {one.id} lives, its lease closed as {closed[one.label].verdict}: {closed[one.label].note}"
            for one in shown
            if one.label in closed
        ]
        return broken if self.stranger in self.vast.alive else [*broken, f"{name} destroyed the stranger's instance"]


RUN = ("run", "--live", "--budget", "1", "--yes", "--boot-deadline", "120", "--ssh-deadline", "120")
REAP = ("reap", "--live", "--yes")


@contextmanager
def refereed(profile: Path, folder: Path, plant: Callable[[], None] | None = None) -> Iterator[Referee]:
    """A referee over an emulator of its own."""
    with Emulator(profile, seed=4, speed=SPEED) as vast, VastApi(vast.url, vast.api_key, clock=Clock(SPEED)) as api:
        yield Referee(vast, api, folder, plant)
