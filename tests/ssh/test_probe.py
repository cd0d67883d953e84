"""Waiting for a machine: what counts as ready, what is retried, what is refused, and what the bounds contain."""

from tests.ssh.machine import Machine
from vastbench.ssh.probe import Step


def test_a_ready_machine_gives_a_working_session(machine, wait):
    ready = wait(machine().endpoint())
    assert ready.session.run("echo hello").stdout == "hello\n"
    assert ready.winner.tries == 1
    assert ready.winner.refusals_by_symptom == {}


def test_the_bounds_of_every_step_contain_the_scripted_truth(machine, wait):
    booting: Machine = machine("closed")
    booting.play(("closed", 0.7), ("close", 0.8), ("denied", 1.3), ("broken", 0.9), ("ready", 0))
    ready = wait(booting.endpoint())
    moments = ready.winner.moments
    for step, behaviour in {
        Step.PORT: "close",
        Step.BANNER: "denied",
        Step.LOGIN: "broken",
        Step.FIRST_COMMAND: "ready",
    }.items():
        not_before, at = booting.truth[behaviour]
        assert moments[step].lower <= at
        assert not_before <= moments[step].upper
        assert moments[step].upper - moments[step].lower < 2.5
