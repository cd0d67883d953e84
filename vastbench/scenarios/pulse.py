"""Heartbeats of a machine, as :mod:`vastbench.scenarios.heartbeat` wants them: one a period, whatever became of the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from vastbench.errors import DeadlineExceeded, Interrupted, SshError
from vastbench.rental.login import probes_of
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.heartbeat import Beat, Detector, Loss, Poll
from vastbench.vast.watch import Following

LOOKS = 3
"""A heartbeat has failed only after its answer was looked for so often."""


@dataclass(slots=True)
class _Sent:
    """A heartbeat on its way: when it was sent, when it ended and how, and whether the detector knows of its failure.

    ``looks``: how often its end was looked for. While we ourselves stand still, on a busy machine, nobody is silent.
    """

    at: float
    ended: float | None = None
    symptom: str = ""
    told: bool = False
    looks: int = 0


class Pulse:
    """Sends heartbeats: over the machine's session while that carries them, else over new connections, one after the other."""

    def __init__(self, machine: Machine) -> None:
        """Take a machine that runs commands."""
        self.clock = machine.rental.recorder.clock
        self._machine = machine
        self._pending: list[_Sent] = []
        self._broken = False

    def send(self, limit_s: float) -> None:
        """Send a heartbeat that is waited for ``limit_s`` clock seconds at least."""
        self._broken |= not self._machine.session.alive
        if self._broken and any(one.ended is None for one in self._pending):
            return
        sent = _Sent(self.clock.now())
        self._pending.append(sent)
        # A thread of its own: no socket gives up below two real seconds, and the heartbeat must.
        threading.Thread(target=self._wait, args=(sent, limit_s), name="vastbench-heartbeat-ssh", daemon=True).start()

    def _wait(self, sent: _Sent, limit_s: float) -> None:
        try:
            if self._broken:
                with self._machine.connect_again(limit_s).session as session:
                    session.run("true", timeout_s=limit_s)
            else:
                self._machine.session.run("true", timeout_s=limit_s)
        except (SshError, DeadlineExceeded) as error:
            counts = [probe.refusals_by_symptom for probe in probes_of(error)]
            sent.symptom = next((max(one, key=one.__getitem__) for one in counts if one), "no answer")
        except Interrupted:  # the drill is being stopped, which its own thread hears, too
            sent.symptom = "no answer"
        sent.ended = self.clock.now()

    def news(self, timeout_s: float) -> Iterator[Beat]:
        """What has become of the heartbeats since this was asked last: failed after ``timeout_s``, answered however late."""
        for one in list(self._pending):
            if one.ended is not None:
                self._pending.remove(one)
                if not (one.symptom and one.told):
                    yield Beat(one.at, one.ended, one.symptom)
                continue
            one.looks += 1
            if not one.told and one.looks >= LOOKS and self.clock.now() - one.at >= timeout_s:
                one.told = True
                yield Beat(one.at, self.clock.now(), "no answer")


def wait_for_loss(pulse: Pulse, following: Following, detector: Detector, give_up: float) -> Loss | None:
    """Send heartbeats and read the status until the detector says that the machine is lost; None when it lives at ``give_up``.

    ``give_up``: a clock reading.
    """
    clock, rule, read = pulse.clock, detector.rule, following.since
    while (begun := clock.now()) < give_up:
        pulse.send(rule.timeout_s)
        clock.rest(begun + rule.period_s - clock.now())
        polls = [one for one in following.history if one.sent > read]
        read = max([read, *(one.sent for one in polls)])
        news: list[Beat | Poll] = [*map(Poll.of, polls), *pulse.news(rule.timeout_s)]
        for seen in sorted(news, key=lambda one: one.received):
            if loss := detector.observe(seen):
                return loss
    return None
