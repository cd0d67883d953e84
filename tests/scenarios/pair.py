"""A scenario that rents two machines at the same time: a word goes from the first to the second."""

import secrets
from dataclasses import replace

from vastbench.errors import CheckFailed
from vastbench.record.phases import renting, returning
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.drill import Drill, Scenario

HAND_OVER = "hand over"
"""Read from the first machine sent → the second has the same word."""

STANDBY = "standby"


def run(drill: Drill) -> None:
    """Write a random word on the first machine, read it there, and write it on the standby. Raises CheckFailed."""
    with drill.rent_all() as (primary, standby):
        word = secrets.token_hex(8)
        primary.session.run(f"echo {word} > /workspace/word")
        with drill.recorder.phase(HAND_OVER):
            read = primary.session.run("cat /workspace/word").stdout
            found = standby.session.run("tee /workspace/word", stdin=read.encode()).stdout.strip()
        drill.checks["word"] = {"matches": found == word}
        if found != word:
            raise CheckFailed(f"The standby has {found!r}, not {word!r}.", hint="Do not use these machines.")


PAIR = Scenario(
    "pair",
    "until two GPUs run commands and one has what the other had",
    {**renting(), **renting(STANDBY), HAND_OVER: None, **returning(STANDBY), **returning()},
    ready=HAND_OVER,
    work_s=60.0,
    run=run,
    machines=("", STANDBY),
)
SCENARIOS[PAIR.name] = PAIR


def race(drill: Drill) -> None:
    """Use the first of several second machines that runs commands."""
    conditions = drill.conditions
    hedge, stagger_s = conditions.hedge or 1, conditions.stagger_s or 0.0
    with (
        drill.rent(),
        drill.rent(STANDBY, hedge=hedge, stagger_s=stagger_s) as second,
        drill.recorder.phase(HAND_OVER),
    ):
        drill.checks["word"] = {"matches": second.session.run("echo word").stdout == "word\n"}


RACE = replace(PAIR, name="race", run=race, variants={"raced": {"hedge": 3, "stagger_s": 0.0}})
SCENARIOS[RACE.name] = RACE
