"""The label of an instance: it tells anybody, even without the store, whose it is and until when it may be needed.

``vb-MARK-RUN-ATTEMPT-EPOCH``: the mark of the store that holds its lease, the run, the attempt, and the deadline in epoch
seconds. It is unique to the attempt, so that an ambiguous create can be resolved by looking for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from vastbench.vast.models import Instance

_LABEL = re.compile(r"vb-([0-9a-f]{8})-([A-Za-z0-9._-]{1,60})-(0|[1-9][0-9]{0,2})-([1-9][0-9]{9,10})", re.ASCII)
# The epoch has ten digits since 2001: one that was cut would be long over.

CLOCKS_APART_S = 300.0
"""Real seconds by which our clock and the marketplace's may differ."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one of our labels says; ``deadline`` is the date after which nobody should need the instance any more."""

    mark: str
    run_id: str
    attempt: int
    deadline: datetime

    @property
    def lifetime(self) -> timedelta:
        """The longest that the instance may be needed: from the run's beginning, which its id says, to the deadline.

        Both were read off the owner's clock, so that it does not matter whether that goes right. Zero where the id has no date.
        """
        try:
            begun = datetime.strptime(self.run_id.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return timedelta()
        return self.deadline - begun

    def __str__(self) -> str:
        """The label itself."""
        return f"vb-{self.mark}-{self.run_id}-{self.attempt}-{int(self.deadline.timestamp())}"


def is_cut(shown: str | None, label: str) -> bool:
    """Whether ``shown`` is what is left of ``label`` after it was cut at its end, dots in place of the rest or not."""
    left = (shown or "").rstrip(".…")
    return bool(left) and left != label and label.startswith(left)


def names_attempt(shown: str | None, label: str) -> bool:
    """Whether ``shown`` is ``label``, or what is left of it and still names its attempt: no other instance is called so."""
    return shown == label or (is_cut(shown, label) and (shown or "").startswith(label.rpartition("-")[0] + "-"))


def label_of(one: Instance) -> str | None:
    """The label that ``one`` was made with: what its environment notes where it is shown without, or with a part of it."""
    return one.noted if one.noted and (not one.label or is_cut(one.label, one.noted)) else one.label


def read_label(text: str | None) -> Label | None:
    """What ``text`` says when it is one of our labels, to the last character; None for anybody else's."""
    found = _LABEL.fullmatch(text or "")
    if found is None:
        return None
    mark, run_id, attempt, epoch = found.groups()
    return Label(mark, run_id, int(attempt), datetime.fromtimestamp(int(epoch), UTC))


@dataclass(frozen=True, slots=True)
class Identity:
    """By what an instance is known to be ours.

    ``opened``: the date of its lease, in epoch seconds; 0 when nobody knows. ``machine_id``: that of the offer.
    """

    label: str
    opened: float = 0.0
    machine_id: int | None = None

    def labelled(self, one: Instance) -> bool:
        """Whether ``one`` has our label, which may be cut as long as it names the attempt."""
        return names_attempt(one.label, self.label)

    def noted(self, one: Instance) -> bool:
        """Whether ``one`` has our label, or has lost it and its environment notes it.

        An environment may have been copied by hand into another instance: look at it only where a create was not answered.
        """
        return names_attempt(label_of(one), self.label)

    def fits(self, one: Instance) -> bool:
        """Whether nothing that ``one`` shows, its label aside, speaks against it: its date, its machine, its environment."""
        began_before = one.start_date is not None and one.start_date <= self.opened - CLOCKS_APART_S
        elsewhere = None not in (one.machine_id, self.machine_id) and one.machine_id != self.machine_id
        another = read_label(one.noted) is not None and one.noted != self.label  # what was cut or masked says nothing
        return not began_before and not elsewhere and not another

    def proven_by(self, one: Instance | None) -> bool:
        """Whether ``one`` is ours by its label, or what is left of it, and by all else that it shows."""
        return one is not None and self.noted(one) and self.fits(one)
