"""From a lease to a running container, as the polls of the list show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vastbench.errors import BootFailed, Vanished
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, Phase, PhaseName
from vastbench.record.recorder import Recorder
from vastbench.rental.lease import Lease
from vastbench.vast.models import Instance
from vastbench.vast.watch import Following, Sighting

VERDICT_POLLS = 5
"""How many polls in a row must show that an instance will not boot, until that is believed: one may be a flicker."""


def wait_running(
    recorder: Recorder, lease: Lease, following: Following, deadline_s: float, check: Callable[[Sighting], None]
) -> tuple[Moment, Instance]:
    """Wait until the leased instance runs: when it did, and how it was listed then.

    ``deadline_s``: clock seconds after its create was answered. ``check`` sees every sighting of it, and may raise to give up.
    Raises Vanished, BootFailed and DeadlineExceeded.
    """
    contract = Moment.exact(lease.created.upper)
    failing: set[float] = set()  # when the polls were sent, of which the history keeps the first and the last

    def settled(sighting: Sighting) -> bool:
        if sighting.instance is None:
            return vanished(following.history, sighting)
        check(sighting)
        if sighting.instance.failed is None:
            failing.difference_update([sent for sent in failing if sent < sighting.sent])
            return sighting.instance.actual_status == "running"
        failing.add(sighting.sent)
        return sum(sent <= sighting.sent for sent in failing) >= VERDICT_POLLS

    with recorder.phase(PhaseName.WAIT_RUNNING, contract) as phase:
        try:
            running = following.wait_until(settled, deadline=contract.upper + deadline_s, waited_for="status running")
        finally:
            phase.last_negative = following.history[-1].sent if following.history else None
            lease.seen = lease.seen or any(sighting.instance is not None for sighting in following.history)
            _inside_boot(recorder, contract, following)
        instance = following.history[-1].instance
        if instance is None:
            raise Vanished(
                f"Instance {lease.instance_id} left the account's list while it was booting.",
                hint="The host withdrew it, or somebody destroyed it by hand.",
            )
        if instance.actual_status != "running":
            raise BootFailed(
                f"Instance {lease.instance_id} will not boot: {instance.failed}.",
                hint="Check the image (--image): no machine can run it. docs/live.md says how to choose one."
                if instance.image_fails
                else "Run again: another machine may be chosen.",
            )
        phase.end = running
        return running, instance


def _inside_boot(recorder: Recorder, contract: Moment, following: Following) -> None:
    """The parts of the boot, from what the polls saw: nothing is reported that no poll saw."""

    def status(sighting: Sighting) -> str | None:
        return sighting.instance.actual_status if sighting.instance else None

    allocated = following.moment(lambda s: status(s) is not None)
    if allocated.seen:
        recorder.add(Phase(PhaseName.ALLOCATE, contract, allocated))
    loading = following.moment(lambda s: status(s) == "loading")
    running = following.moment(lambda s: status(s) == "running")
    if loading.seen:
        outcome = Outcome.PASSED if running.seen else Outcome.CENSORED
        recorder.add(Phase(PhaseName.PULL, loading, running, outcome))


def vanished(history: Sequence[Sighting], sighting: Sighting) -> bool:
    """Whether ``sighting`` is at least the second in a row to lack an instance that was listed before.

    A list may lag behind a create, and may miss an instance once; neither means that it is gone.
    """
    before = [earlier for earlier in history if earlier.sent < sighting.sent]
    return bool(before) and before[-1].instance is None and any(earlier.instance is not None for earlier in before)
