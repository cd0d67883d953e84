"""From a running container to a first command over SSH."""

from __future__ import annotations

from collections.abc import Callable

from vastbench.clock import Clock
from vastbench.errors import DeadlineExceeded, SshError
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.recorder import Recorder
from vastbench.rental.startup import FIRST_COMMAND
from vastbench.ssh.keys import HostKeyPin, RunKey
from vastbench.ssh.probe import Endpoint, Probe, Ready, Step, wait_ready
from vastbench.ssh.session import Session
from vastbench.vast.models import Instance


def wait_ssh(recorder: Recorder, latest: Callable[[], Instance], running: Moment, key: RunKey, deadline_s: float) -> Ready:
    """Try all endpoints of an instance until one runs a command, at most ``deadline_s`` clock seconds after ``running``.

    ``latest``: how it was last seen. It may run before its endpoints are named, and others may be named later. Raises NotReady
    when none answered in time; what the endpoints showed comes with it.
    """
    with recorder.phase(PhaseName.WAIT_SSH, running) as phase:
        try:
            ready = wait_ready(
                (),
                key,
                HostKeyPin(),
                clock=recorder.clock,
                since=running.lower,
                deadline=running.upper + deadline_s,
                command=FIRST_COMMAND,
                latest=lambda: endpoints_of(latest()),
            )
        except (DeadlineExceeded, SshError) as error:
            furthest = max(probes_of(error), key=lambda p: sum(m.seen for m in p.moments.values()), default=None)
            if furthest is not None:
                inside_ssh(recorder, running, furthest)
                phase.last_negative = max(m.lower for m in furthest.moments.values()) if furthest.moments else None
            raise
        inside_ssh(recorder, running, ready.winner)
        phase.end = ready.winner.moments[Step.FIRST_COMMAND]
        phase.queued_s = ready.winner.queued_login_s
        phase.detail = f"over the {ready.winner.endpoint.kind} endpoint"
    return ready


def reconnect(session: Session, key: RunKey, clock: Clock, deadline_s: float) -> Ready:
    """Wait until another connection to the endpoint of ``session``, under the same host key, runs a command."""
    now = clock.now()
    return wait_ready([session.endpoint], key, session.pin, clock=clock, since=now, deadline=now + deadline_s)


def probes_of(error: BaseException) -> tuple[Probe, ...]:
    """What each endpoint showed until ``error`` ended the wait."""
    return tuple(getattr(error, "probes", ()))


def inside_ssh(recorder: Recorder, running: Moment, probe: Probe) -> None:
    """The steps of one endpoint's way to a first command, each from the end of the one before."""
    start = running
    for step in Step:
        moment = probe.moments.get(step)
        if moment is None:
            return
        outcome = Outcome.PASSED if moment.seen else Outcome.CENSORED
        queued_s = probe.queued_login_s if step is Step.LOGIN and moment.seen else 0.0
        recorder.add(Phase(PhaseName(str(step)), start, moment, outcome, queued_s=queued_s))
        start = moment


def endpoints_of(instance: Instance) -> list[Endpoint]:
    """Where the instance's SSH may answer: through the proxy and, where the host maps the port, directly."""
    found: list[Endpoint] = []
    if instance.proxy_endpoint:
        found.append(Endpoint("proxy", *instance.proxy_endpoint))
    if instance.direct_endpoint:
        found.append(Endpoint("direct", *instance.direct_endpoint))
    return found
