"""What each drill asks, and which quantities of its runs answer it: the same ones in its notebook and in a report."""

from __future__ import annotations

from vastbench.errors import NotFound
from vastbench.record.acceptance import Measure, Question
from vastbench.record.phases import PhaseName, of_machine, returning
from vastbench.scenarios import failover, hibernation, model, snapshot

UNDRILLED = (
    "the same answer of a model after a restore on another machine",
    "a network that splits while both machines live",
    "a volume that stays with its host",
    "a region that is lost",
    "several losses at once",
)
"""What no drill does."""

SECOND, WAKE = (of_machine(name, PhaseName.REGISTER_KEY) for name in (snapshot.SECOND, hibernation.WOKEN))
"""With what the way to another machine begins."""

BYTES = "archives move as fast as this machine moves them: seconds, rates and shares of a snapshot are that many times too slow"

SNAPSHOT = Question(
    "Is it whole again?",
    "the workspace was whole again on another machine",
    (
        Measure("time until whole again", "s", SECOND, snapshot.COMPARE, drawn="Whole again after how long"),
        Measure("listing and hashing the workspace", "s", snapshot.READ, snapshot.READ),
        Measure("taking the first snapshot", "s", snapshot.FIRST, snapshot.FIRST),
        Measure("taking the incremental one", "s", snapshot.INCREMENTAL, snapshot.INCREMENTAL),
        Measure("restoring both", "s", snapshot.RESTORE, snapshot.RESTORE, drawn="Restored after how long"),
        Measure("comparing every file", "s", snapshot.COMPARE, snapshot.COMPARE),
        Measure("size of the workspace", "MB", place=("workspace", "bytes")),
        Measure("the first snapshot, as kept", "MB", place=(snapshot.FIRST, "bytes_stored")),
        Measure("changed after it", "MB", place=(snapshot.INCREMENTAL, "bytes_changed")),
        Measure("the incremental one, as kept", "MB", place=(snapshot.INCREMENTAL, "bytes_stored")),
        Measure(
            "its time, of the first one's", "share", place=(snapshot.INCREMENTAL, "seconds"), per=(snapshot.FIRST, "seconds")
        ),
        Measure("first snapshot, workspace kept", "MB/s", place=(snapshot.FIRST, "bytes_raw"), per=(snapshot.FIRST, "seconds")),
        Measure("first snapshot, per GB", "s/GB", place=(snapshot.FIRST, "seconds"), per=(snapshot.FIRST, "bytes_raw")),
        Measure("restoring, per GB", "s/GB", place=(snapshot.RESTORE, "seconds"), per=(snapshot.RESTORE, "bytes_raw")),
        Measure("sent while streamed", "Mbit/s", place=(snapshot.FIRST, "bytes_stored"), per=(snapshot.FIRST, "stream_s")),
    ),
    snapshot.SNAPSHOT.acceptance,
    "06-snapshot-restore",
    "The first row goes from the first request for another machine to a workspace that was compared file by file. The second "
    "snapshot holds what was changed since the first. Rates count the workspace's own bytes, unless they are of what was "
    "sent.",
    size=(snapshot.FIRST, "bytes_raw"),
    took=(snapshot.FIRST, "seconds"),
    emulated="On the emulator a stream goes over the loopback: no link of a marketplace is as fast.",
    faster=BYTES,
)

FAILOVER = Question(
    "What happens when it dies?",
    "the work of a machine that died went on",
    (
        Measure("recovery (RTO)", "s", failover.NOTICE, failover.RESUME, drawn="Recovered after how long"),
        Measure("of it, after the loss was known", "s", failover.RECOVERY["machine"][0], failover.RESUME),
        Measure("noticing the loss", "s", *failover.RECOVERY["notice"]),
        Measure("having another machine", "s", *failover.RECOVERY["machine"]),
        Measure("restoring the last snapshot", "s", *failover.RECOVERY["restore"]),
        Measure("writing again", "s", *failover.RECOVERY["resume"]),
        Measure("lost work (RPO)", "s", failover.LOST_WORK, failover.LOST_WORK, drawn="How much work is lost"),
        Measure("lost records", "", place=("recovery", "rpo_records")),
        Measure("restored", "MB", place=(failover.RESTORE, "bytes")),
    ),
    failover.FAILOVER.acceptance,
    "07-failover",
    "The loss lies somewhere between the last record that the lost machine acknowledged and the moment at which it was "
    "known: the first row is the most that the recovery time can have been, the second the least. Lost work are "
    "acknowledged records that the last whole snapshot does not hold, as seconds of work.",
    recovery=failover.RECOVERY,
    emulated="On the emulator a machine is lost at a moment that only the emulator's own log knows.",
    faster="archives move as fast as this machine moves them: restoring is that many times too slow",
)

_PAID = (hibernation.NOTICE_IDLE, hibernation.TRY_RULE, hibernation.SAVE, *returning())
_WAKING = (of_machine(hibernation.WOKEN, PhaseName.WAIT_SSH), hibernation.RESTORE, hibernation.COMPARE)

HIBERNATION = Question(
    "What does it cost to let a GPU sleep?",
    "nothing was paid any more for a machine without work",
    (
        Measure("time until nothing is paid", "s", hibernation.NOTICE_IDLE, PhaseName.CONFIRM, drawn="Unpaid after how long"),
        Measure("noticing that it is idle", "s", hibernation.NOTICE_IDLE, hibernation.NOTICE_IDLE),
        Measure("keeping the workspace", "s", hibernation.SAVE, hibernation.SAVE),
        Measure("waking", "s", WAKE, hibernation.COMPARE, drawn="Awake after how long"),
        Measure("idle time from which it pays", "min", parts=(*map(str, _PAID), *_WAKING)),
    ),
    hibernation.HIBERNATION.acceptance,
    "08-hibernation",
    "The first row goes from the end of the work to a machine that is confirmed gone. Waking: from the first request "
    "for another machine to a workspace that was compared file by file. It pays to sleep for longer than what is paid in "
    "any case: until the machine is gone, and while the new one runs and is not ready.",
    emulated="An emulated GPU is never busy: that part of the idle rule rests on the traces in data/traces.",
    faster="archives move as fast as this machine moves them: keeping and restoring are that many times too slow",
)

_STATES = {
    "just loaded": "first token, just loaded",
    "loaded": "first token, loaded",
    "prompt-cached": "first token, the same prompt again",
    "page-cache-warm": "first token, loaded from memory first",
    "disk-cold": "first token, loaded from the disk first",
}
"""What the drill calls the states that a model can be in, and what is waited for in each."""

MODEL = Question(
    "How long until a model answers, and how fast?",
    "a model that was pulled onto a rented GPU had said its first word",
    (
        Measure("time until the first word", "s", PhaseName.REGISTER_KEY, model.OUTPUT, drawn="First word after how long"),
        Measure("installing Ollama", "s", model.INSTALL, model.INSTALL),
        Measure("until its API answers", "s", model.SERVE, model.SERVE),
        Measure("pulling the model", "s", model.PULL, model.PULL),
        Measure("loading it", "s", model.LOAD, model.LOAD),
        Measure("first output token, just loaded", "s", model.OUTPUT, model.OUTPUT),
        *(Measure(words, "ms", place=(model.FIRST, "seconds", state)) for state, words in _STATES.items()),
        Measure("output, one at a time", "tokens/s", place=(model.ONE, "tokens_per_s")),
        Measure("output, four at a time", "tokens/s", place=(model.FOUR, "tokens_per_s")),
        Measure("from token to token, one at a time", "ms", place=(model.ONE, "inter_token_s")),
        Measure("from token to token, four at a time", "ms", place=(model.FOUR, "inter_token_s")),
        Measure("a million tokens, one at a time", "USD", place=(model.PRICE, "one_at_a_time")),
        Measure("a million tokens, four at a time", "USD", place=(model.PRICE, "four_at_a_time")),
        Measure("pulled", "MB", place=(model.PULL, "bytes")),
        Measure("pulled over the line", "Mbit/s", place=(model.PULL, "bytes"), per=(model.PULL, "seconds")),
        Measure("GPU memory, loaded", "MiB", place=("gpu memory", "loaded_mib")),
    ),
    model.MODEL.acceptance,
    "09-model-deployment",
    "The first row goes from the first request for a machine to the first token that is no thinking. A first token "
    "waits for the prompt, and for the model where it is not loaded. Every prompt is new but the one that is asked again."
    " Dollars are the machine's hourly price over its tokens per second, of a machine that does nothing else.",
    emulated="On the emulator the model is SmolLM2-135M, on the CPU of the machine that emulates: its seconds, rates and "
    "dollars are those of neither a GPU nor another model.",
    faster="the engine answers as fast as this machine lets it: its seconds and dollars are that many times too high",
)

QUESTIONS = {
    snapshot.SNAPSHOT.name: SNAPSHOT,
    failover.FAILOVER.name: FAILOVER,
    hibernation.HIBERNATION.name: HIBERNATION,
    model.MODEL.name: MODEL,
}
"""What the drills ask, by the scenario's name."""


def question(scenario: str) -> Question:
    """What a drill asks, and which quantities of its runs answer it.

    Parameters
    ----------
    scenario
        The drill's name: ``snapshot``, ``failover``, ``hibernation`` or ``model``.

    Returns
    -------
    Question
        ``measures``: the quantities, each with its unit and the phases or figures that it is made of; ``answer``, the first of
        them; ``done``: what has happened at its end, in words; ``criteria``: what is asked of the runs. For
        ``vastbench.measures`` and ``vastbench.sentences``.

    Raises
    ------
    NotFound
        No drill of that name asks anything.

    Examples
    --------
    >>> asked = vastbench.question("failover")
    >>> asked.answer.what
    'recovery (RTO)'
    >>> vastbench.measures.measured(vastbench.load("failover-40"), asked.measures[:1])[["what", "unit", "n"]]
                 what unit   n
    0  recovery (RTO)    s  33
    """
    if scenario not in QUESTIONS:
        raise NotFound(f"The drill {scenario!r} asks nothing.", hint=f"Choose one of {', '.join(QUESTIONS)}.")
    return QUESTIONS[scenario]
