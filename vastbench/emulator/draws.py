"""Distributions and the seeded streams that draw from them.

Every purpose of every instance has a stream of its own, named by words and counters, so that the order in which requests happen
to arrive cannot change what is drawn. A stream may share part of its variance with a machine: a slow machine stays slow.
"""

import math
import random
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_NORMAL = NormalDist()


class Fixed(BaseModel):
    """Always the same value, in seconds unless the parameter says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["fixed"]
    value: float = Field(ge=0)


class Sequence(BaseModel):
    """The values in turn, then the last one for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["sequence"]
    values: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)


class Lognormal(BaseModel):
    """``median`` · exp(``sigma`` · Z); ``host_share`` of the variance of its logarithm belongs to the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["lognormal"]
    median: float = Field(gt=0)
    sigma: float = Field(ge=0, le=3)
    host_share: float = Field(default=0.0, ge=0, le=1)


class Part(BaseModel):
    """One component of a mixture, with its weight."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: float = Field(gt=0)
    median: float = Field(gt=0)
    sigma: float = Field(ge=0, le=3)


class Mixture(BaseModel):
    """Lognormal components with weights; ``host_share`` applies to the choice and to the value alike."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["mixture"]
    parts: tuple[Part, ...] = Field(min_length=1)
    host_share: float = Field(default=0.0, ge=0, le=1)


class Stream:
    """The draws for one purpose, in order."""

    def __init__(self, seed: int, purpose: str, *names: object, machine: int | None = None) -> None:
        """Name the stream; ``machine`` is the machine whose persistent effect it shares."""
        self._own = random.Random("/".join(map(str, (seed, purpose, *names))))  # noqa: S311
        self._machine = None if machine is None else "/".join(map(str, (seed, purpose, "machine", machine)))
        self._count = 0

    def draw(self, distribution: Fixed | Sequence | Lognormal | Mixture) -> float:
        """The next value."""
        position, self._count = self._count, self._count + 1
        match distribution:
            case Fixed(value=value):
                return value
            case Sequence(values=values):
                return values[min(position, len(values) - 1)]
            case Lognormal(median=median, sigma=sigma, host_share=share):
                _, z = self._scores(share)
                return median * math.exp(sigma * z)
            case Mixture(parts=parts, host_share=share):
                choice, z = self._scores(share)
                part = _pick(parts, _NORMAL.cdf(choice))
                return part.median * math.exp(part.sigma * z)

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens this time."""
        return self._own.random() < probability

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count`` − 1, all equally likely."""
        return self._own.randrange(count)

    def between(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``, all equally likely."""
        return self._own.uniform(low, high)

    def weighted(self, weights: list[float]) -> int:
        """The position of one of ``weights``, drawn in proportion to them."""
        return self._own.choices(range(len(weights)), weights)[0]

    def _scores(self, share: float) -> tuple[float, float]:
        """Two standard normal scores that share ``share`` of their variance with the machine."""
        own = self._own.gauss(0, 1), self._own.gauss(0, 1)
        if self._machine is None or share == 0:
            return own
        # The machine's generator starts afresh for every draw: its part of the score never changes.
        host = random.Random(self._machine)  # noqa: S311
        first, second = (math.sqrt(share) * host.gauss(0, 1) + math.sqrt(1 - share) * score for score in own)
        return first, second


def _pick(parts: tuple[Part, ...], level: float) -> Part:
    """The component at ``level`` (0–1) of the stacked weights."""
    total = sum(part.weight for part in parts)
    reached = 0.0
    for part in parts:
        reached += part.weight / total
        if level < reached:
            return part
    return parts[-1]
