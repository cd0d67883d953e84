"""The conditions that a study compares, and the order in which their runs are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from vastbench.errors import UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.stopping import StoppingRule
from vastbench.record.study import check_name, check_plan


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the conditions of a design, by its ``name``: which ``scenario`` (None for the usual one), and what it asks for.

    Examples
    --------
    >>> vastbench.Condition("old", vastbench.Conditions(gpu_name="RTX 3090")).scenario is None
    True
    """

    name: str
    conditions: Conditions
    scenario: str | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """Several conditions, each repeated ``repeats`` times, in blocks: every block makes one run of each, in random order.

    What changes with the hour or with the market then changes for all conditions alike. Each condition is a study of its
    own, called as :meth:`study` says, so that every command takes it by that name. ``seed`` decides the order in the blocks;
    ``stopping`` ends the whole once every condition is known well enough; ``budget_usd`` is what it may cost, in USD.

    Raises UsageError for names that no study can have, for fewer than two conditions, and for two that are the same.

    Examples
    --------
    >>> asked = [vastbench.Condition(name, vastbench.Conditions(gpu_name=name)) for name in ("RTX_3090", "RTX_4090")]
    >>> gpus = vastbench.Design("gpus", tuple(asked), repeats=2)
    >>> gpus.studies
    ('gpus.RTX_3090', 'gpus.RTX_4090')
    >>> len(list(gpus.order({"gpus.RTX_3090": 1})))
    3
    """

    name: str
    conditions: tuple[Condition, ...]
    repeats: int
    seed: int = 0
    stopping: StoppingRule | None = None
    budget_usd: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what cannot be made or compared."""
        check_plan(self.name, self.repeats)
        if len(self.conditions) < 2:
            raise UsageError(
                f"The study {self.name} has {len(self.conditions)} condition, so nothing to compare.",
                hint="Give two or more; for one alone: vastbench study --name NAME.",
            )
        asked: dict[tuple[str | None, Conditions], str] = {}
        names: set[str] = set()
        for one in self.conditions:
            check_name(self.study(one))
            same = asked.setdefault((one.scenario, one.conditions), one.name)
            if one.name in names or same != one.name:
                which = f"{same} and {one.name}" if same != one.name else f"two of the name {one.name}"
                raise UsageError(f"Two conditions are the same: {which}.", hint="Leave one out, or give it another name.")
            names.add(one.name)

    def study(self, condition: Condition) -> str:
        """The name of the study that holds the runs of ``condition``."""
        return f"{self.name}.{condition.name}"

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the studies, in the order of the conditions."""
        return tuple(map(self.study, self.conditions))

    def order(self, made: Mapping[str, int]) -> Iterator[str]:
        """The studies of the runs that are missing, block after block, where so many are ``made`` already."""
        for block in range(self.repeats):
            # The hash shuffles alike on every machine.
            names = sorted(self.studies, key=lambda name: sha256(f"{self.seed}/{block}/{name}".encode()).digest())
            yield from (name for name in names if made.get(name, 0) <= block)
