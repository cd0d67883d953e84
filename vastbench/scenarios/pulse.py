"""Heartbeats of a machine, each given up in time however long the network makes it wait."""

from __future__ import annotations

import threading

from vastbench.errors import DeadlineExceeded, SshError
from vastbench.rental.login import probes_of
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.heartbeat import Beat, Detector, Loss, Poll
from vastbench.vast.watch import Following


def _symptom(error: SshError | DeadlineExceeded) -> str:
    counts = [probe.refusals_by_symptom for probe in probes_of(error)]
    return next((max(one, key=one.__getitem__) for one in counts if one), "no answer")


class Pulse:
    """Sends one heartbeat at a time: over the machine's session while that carries them, else over a connection of its own."""

    def __init__(self, machine: Machine) -> None:
        """Take a machine that runs commands."""
        self.clock = machine.rental.recorder.clock
        self._machine = machine
        self._broken = False

    def beat(self, timeout_s: float) -> Beat:
        """Send a heartbeat; it is given up after ``timeout_s`` clock seconds."""
        clock, symptoms, ended = self.clock, ["no answer"], threading.Event()

        def send() -> None:
            try:
                if self._broken or not self._machine.session.alive:
                    with self._machine.connect_again(timeout_s).session as session:
                        session.run("true", timeout_s=timeout_s)
                else:
                    self._machine.session.run("true", timeout_s=timeout_s)
                symptoms.clear()
            except (SshError, DeadlineExceeded) as error:
                symptoms[0] = _symptom(error)
            ended.set()

        sent = clock.now()
        # A thread of its own: below two real seconds no socket gives up, and the heartbeat must.
        threading.Thread(target=send, name="vastbench-heartbeat-ssh", daemon=True).start()
        clock.wait(ended, timeout_s)
        self._broken = bool(symptoms)
        return Beat(sent, clock.now(), *symptoms)


def wait_for_loss(pulse: Pulse, following: Following, detector: Detector, give_up: float) -> Loss | None:
    """Send heartbeats and read the status until the detector says that the machine is lost; None when it lives at ``give_up``.

    ``give_up``: a clock reading. A machine that answers over a new connection after its own one broke is not lost: the caller
    asks that of the detector's ``alive``.
    """
    clock, rule, read = pulse.clock, detector.rule, following.since
    while clock.now() < give_up:
        beat = pulse.beat(rule.timeout_s)
        news: list[Beat | Poll] = [Poll.of(one) for one in following.history if one.sent > read]
        read = max([read, *(one.sent for one in news)])
        for seen in (*news, beat):
            if loss := detector.observe(seen):
                return loss
        clock.rest(beat.sent + rule.period_s - clock.now())
    return None
