"""Answers that never end keep no command: it gives up, hears signals, and accounts for what it rented."""

import os
import signal
import threading
from itertools import chain, repeat

import pytest

from tests.hostile.between import Raw
from tests.hostile.meddling import nobody_lost_anything, place, run
from tests.processes import Started
from vastbench.rental import lease

SOON_S = 40.0
"""For how long is asked here what a destroy came to; two minutes more would show nothing else."""

ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
CALLS = {
    "search": lambda call: "/bundles/" in call.path,
    "key": lambda call: call.method == "POST" and call.path.startswith("/api/v0/ssh/"),
    "create": lambda call: call.is_create,
    "list": lambda call: call.is_list,
    "its page": lambda call: call.method == "GET" and call.path.startswith("/api/v0/instances/"),
    "destroy": lambda call: call.is_destroy,
}
CODES = {"search": 4, "key": 4, "create": 4, "list": 8, "its page": 8, "destroy": 8}
SHORT = ["--boot-deadline", "120", "--ssh-deadline", "60"]


class Hanging:
    """Answers to calls of one kind never end, although they take effect; to the list only once something was rented."""

    def __init__(self, kind, endless=ENDLESS["headers"]):
        self.kind, self.endless = kind, endless
        self.rented, self.called = False, threading.Event()

    def __call__(self, call):
        if CALLS[self.kind](call) and (self.rented or self.kind != "list"):
            self.called.set()
            if call.is_create:
                call.send()
            begin, drop = self.endless
            return Raw(chain([begin], repeat(drop)), pause_s=0.1)
        self.rented |= call.is_create
        return call.send()


@pytest.mark.timeout(170)
@pytest.mark.parametrize(
    ("kind", "endless"), [*((kind, "headers") for kind in CALLS), ("create", "continue"), ("list", "continue")]
)
def test_a_run_accounts_for_its_instance_whatever_never_ends(market, tmp_path, monkeypatch, kind, endless):
    monkeypatch.setattr(lease, "CONFIRM_DEADLINE_S", SOON_S)
    with place(market, Hanging(kind, ENDLESS[endless]), tmp_path, monkeypatch) as store:
        ended = run("run", "--live", "--budget", "1", "--yes", *SHORT)
        assert ended.code == CODES[kind]
        assert nobody_lost_anything(market, store) == set()
        assert all(str(row.instance_id) in ended.error for row in store.leases(open_only=True))


def give_up_soon():
    lease.CONFIRM_DEADLINE_S = SOON_S


@pytest.mark.timeout(170)
@pytest.mark.parametrize("kind", CALLS)
def test_a_signal_is_heard_while_an_answer_never_ends(market, tmp_path, monkeypatch, kind):
    hanging = Hanging(kind)
    words = ["run", "--live", "--budget", "1", "--yes"]
    with (
        place(market, hanging, tmp_path, monkeypatch) as store,
        Started(*words, env=os.environ, cwd=tmp_path, first=give_up_soon) as process,
    ):
        assert hanging.called.wait(60)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait() == (8 if store.leases(open_only=True) else 130), said
        assert nobody_lost_anything(market, store) == set()
