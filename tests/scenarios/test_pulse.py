"""Heartbeats of a machine: each ends, whatever it meets."""

import threading
from types import SimpleNamespace

from tests.clocks import HandClock
from vastbench.errors import Interrupted
from vastbench.scenarios.pulse import Pulse


def test_a_heartbeat_that_the_end_of_the_drill_stops_ends_quietly():
    def stopped(limit_s):
        raise Interrupted("Stopped while waiting for SSH.")

    machine = SimpleNamespace(
        rental=SimpleNamespace(recorder=SimpleNamespace(clock=HandClock())),
        session=SimpleNamespace(alive=False),
        connect_again=stopped,
    )
    pulse = Pulse(machine)
    pulse.send(8.0)
    for thread in threading.enumerate():
        if thread.name == "vastbench-heartbeat-ssh":
            thread.join(10)
    assert [beat.symptom for beat in pulse.news(8.0)] == ["no answer"]
