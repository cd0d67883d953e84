"""The words of a report and of the documentation, each with its meaning: one place for both."""

from __future__ import annotations

import re

GLOSSARY = {
    "attempted run": "A run that says something of a machine: it passed, it failed, or a deadline cut it off. Runs that we "
    "stopped, and those that were refused to the account, are not counted.",
    "bounds": "The earliest and the latest instant at which something can have happened, by the last look that did not see it "
    "and the first that did.",
    "censored": "Stopped by a deadline, a budget or the user before it ended: it took longer than it had waited.",
    "cost by meter": "What the marketplace charges: the GPU while the instance runs, storage from its creation until it is "
    "destroyed, and bytes both ways.",
    "cost per success": "Everything that was spent, failures included, divided by the number of runs that passed.",
    "design effect": "How many times more runs are needed because several came from one machine.",
    "effective n": "How many independent runs would carry the same information.",
    "emulated": "Made on the emulator, which rents nothing: it draws delays and failures from a profile.",
    "interval": "A 95 % interval: a range that is made so that it holds the true value in 95 of 100 studies like this one.",
    "known within": "The width of the bounds of one duration; of several runs their median width.",
    "live": "Made on the real marketplace, with money.",
    "median": "Half of the runs took at most as long. Runs that never came to the end count as longer than all others.",
    "moment": "An instant that is known only within bounds.",
    "naive": "Wall clock times the price per hour: the commonly reported cost, which counts hours that are not charged.",
    "p90": "Nine in ten runs took at most as long.",
    "phase": "One step of a run, from a start moment to an end moment. Its seconds are how long the user waited: until the "
    "poll or the answer that showed its end.",
    "poll": "One request for the status of an instance.",
    "profile": "The delays and failures that the emulator draws from.",
    "RPO": "Recovery point: acknowledged records that are missing afterwards, in records and seconds.",
    "RTO": "Recovery time: from the loss of a machine to the first accepted write afterwards.",
    "run": "One execution of a scenario; it passed, failed or was censored.",
    "scenario": "A named drill: integration, snapshot, failover, hibernation or model.",
    "study": "One scenario repeated under the same conditions.",
    "time to ready": "From the start of a run to its first successful command over SSH; in other drills than the "
    "integration drill to the end of the phase that they are made for.",
    "unattributed": "Time of a run that no phase explains.",
}
"""What each word means, in the order of the alphabet."""


def used_in(text: str) -> dict[str, str]:
    """The words of :data:`GLOSSARY` that stand in ``text``, in singular or plural, with their meanings.

    >>> list(used_in("Time to ready is 97.0 s; two polls missed it."))
    ['poll', 'time to ready']
    """
    return {word: meaning for word, meaning in GLOSSARY.items() if re.search(rf"\b{re.escape(word)}s?\b", text, re.IGNORECASE)}
