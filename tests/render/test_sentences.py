"""Sentences carry their unit, n and interval, and say nothing that the data do not."""

import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from vastbench.analysis.attempts import pool
from vastbench.analysis.bottleneck import what_if
from vastbench.analysis.frames import phases_table
from vastbench.analysis.providers import compare, same_gpu, seed_ratios
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.io.prices import prices
from vastbench.record.cost import Cost
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.run import Run
from vastbench.render import sentences
from vastbench.render.wording import without_spans

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
PRICES = prices()
OF_PHASES = (
    sentences.study_verdict,
    sentences.source,
    sentences.useful,
    sentences.data,
    sentences.timing_answer,
    sentences.phase_waterfall,
    sentences.phase_distributions,
    sentences.runs_over_time,
    sentences.failures_by_cause,
    sentences.phase_shares,
    sentences.cost_meters,
    sentences.inside,
)


def later(run: Run, seconds: float, **changes: object) -> Run:
    """``run`` with ``seconds`` more of waiting for running, and everything after it that much later."""
    phases, moved = [], False
    for phase in run.phases:
        shift = seconds if moved else 0.0
        start = Moment.between(phase.start.lower + shift, phase.start.upper + shift, "file")
        moved |= phase.name == PhaseName.WAIT_RUNNING
        shift = seconds if moved else 0.0
        phases.append(replace(phase, start=start, end=Moment.between(phase.end.lower + shift, phase.end.upper + shift, "file")))
    return replace(run, phases=tuple(phases), total_s=run.total_s + seconds, **changes)


def runs(n: int, **changes: object) -> list[Run]:
    """The seed run and n - 1 others, each one second longer than the one before."""
    return [later(SEED, i, id=f"run-{i}", **changes) for i in range(n)]


def failed(name: str, cause: str) -> Run:
    """A run of which only the search passed."""
    cost = Cost(naive_usd=0.001)
    return replace(SEED, id=name, outcome=Outcome.FAILED, cause=cause, phases=SEED.phases[:1], total_s=9.0, cost=cost)


def numbers(text: str) -> list[str]:
    """The numbers of a text; "95 % interval" and "p95" are words."""
    return re.findall(r"\d+(?:\.\d+)?", re.sub(r"95 % interval|p95|\d+ × real time", "", text))


def test_the_published_run_reads_as_it_was_measured():
    phases = phases_table([SEED])
    text = f"{sentences.study_verdict(phases)} {sentences.longest(phases)} {sentences.spent(phases)}"
    assert "88.0 s" in text  # 1.26 + 1.59 + 72.77 + 12.36
    assert "72.8 s" in text
    assert "73.5 % of the mean total of 99.0 s" in text
    assert "0.0011 USD by meter" in text
    assert "wall clock × price would say 0.0046 USD" in text
    assert "no 95 % interval: 1 run is too few" in text
    assert "0 of 1 failed (95 % interval 0.0–97.5 %)" in text  # Clopper and Pearson: 1 - 0.025 for n = 1


def test_the_verdict_says_what_the_polls_prove():
    text = sentences.useful(phases_table([SEED]))
    wait = SEED.phase(PhaseName.WAIT_SSH)
    assert f"known within {wait.end.upper - wait.end.lower:.1f} s in one run" in text
    assert f"ready within **{wait.end.upper:.1f} s**" in text


def test_the_median_of_seven_lies_between_the_smallest_and_the_largest():
    # Of a binomial with n = 7 and p = 1/2 the two ends are 2/128 likely, the two ends and their neighbours 16/128: the
    # interval of 95 % lies between those of 98.4 % and of 87.5 %.
    text = sentences.useful(phases_table(runs(7)))
    assert "within **91.0 s** of their start" in text
    low, high = re.search(r"95 % interval ([\d.]+)–([\d.]+) s", text).groups()
    assert 88.0 < float(low) < 89.0
    assert 93.0 < float(high) < 94.0


@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_runs_have_no_interval(n):
    text = sentences.useful(phases_table(runs(n)))
    assert f"no 95 % interval: {n} run" in text
    assert "95 % interval 8" not in text


def test_few_machines_are_why_many_runs_have_no_interval():
    one = [replace(run, resources=run.resources | {"machine_id": i % 2}) for i, run in enumerate(runs(12))]
    for sentence in (sentences.ready, sentences.boot_curves, sentences.phase_distributions):
        assert "no 95 % interval: 12 runs on 2 machines are too few" in sentence(phases_table(one)), sentence


def test_failures_are_counted_by_cause_with_an_exact_interval():
    bad = [failed("a", "boot_failed"), failed("b", "boot_failed"), failed("c", "no_offer")]
    text = sentences.failures_by_cause(phases_table([*runs(9), *bad]))
    assert text.startswith("**3 of 12** attempted runs did not pass (25.0 %; 95 % interval 5.5–57.2 %)")
    assert "boot failed (2) and no offer (1)" in text


def test_no_failure_is_not_no_risk():
    assert "0 of 13 failed (95 % interval 0.0–24.7 %)" in sentences.failures_by_cause(phases_table(runs(13)))


def test_runs_that_we_stopped_are_not_failures():
    stopped = replace(failed("stopped", "interrupted"), outcome=Outcome.CENSORED)
    text = sentences.failures_by_cause(phases_table([*runs(2), stopped]))
    assert "All 2 attempted runs passed" in text
    assert text.endswith("1 run is not counted: we stopped it, or the account was refused.")


def test_a_success_pays_for_the_failures():
    costly = replace(
        failed("costly", "boot_failed"), cost=Cost(gpu_usd=0.01, storage_usd=0.0, transfer_usd=0.0, naive_usd=0.02)
    )
    one = replace(SEED, cost=Cost(gpu_usd=0.002, storage_usd=0.0, transfer_usd=0.0, naive_usd=0.004))
    text = sentences.cost_meters(phases_table([one, costly]))
    assert "A run cost 0.0060 USD by meter (mean of 2 runs), a success 0.0120 USD" in text
    assert "says **2.0 times** as much" in text


def test_a_cost_known_for_some_runs_only_is_a_least():
    unknown = replace(failed("unknown", "deadline"), cost=Cost(naive_usd=0.02))
    assert "known for 1 of 2 runs), a success at least 0.0011 USD" in sentences.cost_meters(phases_table([SEED, unknown]))


@pytest.mark.parametrize("sentence", OF_PHASES, ids=lambda f: f.__name__)
def test_without_runs_there_is_no_number(sentence):
    assert numbers(sentence(phases_table([]))) in ([], ["0"])


@pytest.mark.parametrize("sentence", OF_PHASES, ids=lambda f: f.__name__)
def test_without_a_success_there_is_no_duration(sentence):
    text = sentence(phases_table([failed("a", "deadline"), failed("b", "deadline")]))
    assert not re.search(r"median|mean total", text)
    assert "nan" not in text


@pytest.mark.parametrize("sentence", OF_PHASES, ids=lambda f: f.__name__)
def test_a_run_that_we_killed_says_nothing(sentence):
    killed = replace(SEED, outcome=Outcome.CENSORED, cause="killed", phases=(), total_s=None, cost=Cost())
    text = sentence(phases_table([killed]))
    assert "nan" not in text
    assert " USD" not in text


def test_emulated_live_and_mixed_runs_say_so():
    emulated = replace(SEED, id="e", source="emulator", conditions={"profile": "flaky"}, instrument={"clock_speed": 20.0})
    assert sentences.study_verdict(phases_table([emulated])).startswith("**EMULATED**, not live")
    assert "profile flaky, at 20 × real time" in sentences.source(phases_table([emulated]))
    assert sentences.source(phases_table([replace(SEED, source="live")])) == "Measured live on the marketplace."
    assert "**MIXED SOURCES**: 1 emulated and 1 imported" in sentences.source(phases_table([emulated, SEED]))


def test_the_bottleneck_is_what_saves_most_when_halved():
    frame = phases_table(runs(9))
    saved = what_if(frame, resamples=200)
    assert sentences.bottleneck_answer(frame, saved).startswith(
        "**Make wait running faster first**: halving it would save 38.4 s"
    )
    assert "halving wait SSH would save **6.2 s**" in sentences.what_if(saved)  # 12.36 / 2, the same in every run
    nothing = what_if(frame[:0])
    assert numbers(sentences.bottleneck_answer(frame[:0], nothing) + sentences.what_if(nothing)) == []


def test_shares_name_the_phase_that_makes_runs_differ():
    text = sentences.phase_shares(phases_table(runs(9)))
    assert "and **100.0 %** of its variance" in text  # the runs differ in nothing but wait running
    assert "cannot show what makes runs differ" in sentences.phase_shares(phases_table(runs(2)))


def test_one_run_is_placed_among_the_others():
    text = sentences.beside(phases_table(runs(4)), phases_table([later(SEED, 1.5, id="other")]))
    assert text == "Run other took **74.3 s** in wait running (n = 1), longer than 50.0 % of these runs (n = 4)."


def test_a_trend_is_told_by_halves():
    early = [replace(run, started_at=f"2026-01-02T00:0{i}:00+00:00") for i, run in enumerate(runs(4))]
    text = sentences.runs_over_time(phases_table(reversed(early)))
    assert "earlier half of the passed runs is **99.5 s" in text
    assert "later half **101.5 s" in text


def test_list_prices_are_set_beside_ours():
    comparison = compare(PRICES, phases_table([SEED]))
    text = sentences.provider_costs(same_gpu(comparison))
    assert text.startswith("Ours is **0.1689 USD per GPU and hour** (RTX 4090, median of 1 run)")
    assert "0.1689 USD (Vast.ai, offer 29292839" in text
    assert numbers(sentences.provider_costs(compare(PRICES, phases_table([])))) == []
    assert sentences.cost_answer(phases_table([]), comparison) == sentences.NO_RUN


def test_the_published_ratios_are_reproduced_and_put_in_context():
    text = sentences.seed_ratios(seed_ratios(PRICES))
    assert "**6.0 times**" in text
    assert "**21.7 times**" in text
    assert "2.5 times at a usual price of 0.4000 USD" in text
    assert numbers(sentences.seed_ratios(seed_ratios(PRICES[:0]))) == []


def test_a_price_table_says_how_much_of_it_is_used():
    text = sentences.price_table(PRICES, compare(PRICES, phases_table([SEED])))
    assert (
        "**222** can be compared: the source of 46 names a region, and 176 are placed by a stated rule. 40 of them are" in text
    )
    assert sentences.price_table(PRICES[:0], PRICES[:0]) == "The price table is empty."


def test_a_break_even_is_one_plain_sentence():
    text = sentences.break_even(compare(PRICES, phases_table([SEED])))
    assert (
        text
        == "**Vast.ai is cheaper per success than AWS g5.xlarge unless more than 93.3 % of runs fail**, if none fails there."
    )
    dear = replace(SEED, cost=replace(SEED.cost, gpu_usd=1.0))
    assert "AWS g5.xlarge is cheaper per success than Vast.ai, even if no" in sentences.break_even(
        compare(PRICES, phases_table([dear]))
    )
    assert sentences.break_even(compare(PRICES, phases_table([]))) == ""


def test_what_is_billed_is_said_with_its_source_and_what_is_not_known():
    text = sentences.billing(compare(PRICES, phases_table([SEED])))
    lines = {line.split("**")[1]: line for line in text.splitlines()}
    assert set(lines) == set(PRICES["provider"])
    assert (
        "per second, 60 s at least, from running on; not known: disk; Linux; the disk is billed apart; from https:"
        in lines["AWS"]
    )
    assert "per 3600 s begun, 3600 s at least, from its creation on, disk included" in lines["Vultr"]
    assert lines["Cudo"] == "- **Cudo** not known: minimum, granularity, boot, disk"
    assert sentences.billing(compare(PRICES[:0], phases_table([]))) == "There is no price to compare."


def test_costs_per_run_say_that_they_are_means_and_least_ones():
    text = sentences.provider_costs(compare(PRICES, phases_table([SEED])), value="usd_per_run")
    assert text.startswith("Ours is **0.0011 USD for a run** (RTX 4090, mean of 1 run; too few machines for an interval)")
    assert "of them are the least that it can be: not all that is billed there is known." in text


HOSTILE = "*A* <b>|x|</b> [l](http://x) $a_b$ `c`\x1b[31m"


def test_foreign_strings_cannot_format_or_break_a_table():
    run = replace(
        SEED, id=HOSTILE, cause=HOSTILE, outcome=Outcome.FAILED, source="emulator", conditions={"profile": HOSTILE}, phases=()
    )
    good = replace(SEED, id=HOSTILE + "2", resources=SEED.resources | {"gpu_name": HOSTILE})
    frame = pool(phases_table([run, good]))
    texts = [sentence(frame) for sentence in OF_PHASES] + [sentences.provider_costs(compare(PRICES, frame))]
    for text in texts:
        assert not re.search(r"(?<!\\)[|<>$`]|(?<!\\)\*A|\x1b", without_spans(text)), text


def test_every_number_is_finite_over_mixed_runs():
    frame = pool(phases_table([*runs(7), failed("a", "deadline"), replace(SEED, id="live", source="live")]))
    assert all(math.isfinite(float(n)) for sentence in OF_PHASES for n in numbers(sentence(frame)))
    assert not any("nan" in sentence(frame) or "None" in sentence(frame) for sentence in OF_PHASES)
    assert isinstance(frame, pd.DataFrame)


def test_the_last_run_answers_in_bold_and_says_which_runs_are_shown():
    text = sentences.last_answer(runs(2), of=5)
    assert text.startswith("**The RTX 4090 was ready 89.0 s after the start")
    assert "Shown are the last 2 of 5 runs of `data`. 2 of these 2 passed. This is run run-1, the last one." in text
    assert re.search(r"(?<!\\)\$", text) is None  # two of them would be mathematics
    mixed = [failed("a", "boot_failed"), *runs(2), failed("b", "ssh")]
    assert "Shown are 4 runs made now. 2 of these 4 passed." in sentences.last_answer(mixed)
    assert "Shown is 1 run made now. This" in sentences.last_answer([failed("a", "boot_failed")])
    assert "**The RTX 4090 did not become ready" in sentences.last_answer([failed("a", "boot_failed")])
    assert sentences.last_answer([]) == sentences.NO_RUN


def test_only_waits_that_were_cut_off_can_have_been_longer():
    wait = SEED.phase(PhaseName.WAIT_RUNNING)
    endless = replace(wait, end=Moment.between(600.0, None, "poll"), outcome=Outcome.CENSORED)
    cut = replace(SEED, id="cut", outcome=Outcome.CENSORED, cause="boot_timeout", phases=(*SEED.phases[:2], endless))
    dead = replace(cut, id="dead", outcome=Outcome.FAILED, phases=(*SEED.phases[:2], replace(wait, outcome=Outcome.FAILED)))
    text = sentences.phase_distributions(phases_table([*runs(4), cut, dead, replace(dead, id="too")]))
    assert "took **75.8 s** (median; no 95 % interval" not in text
    assert "; those that ended took 72.8 to 75.8 s; 1 run was cut off in it" in text
    assert (
        "; 1 run was cut off in it and took longer than that; 2 runs failed in it and count as longer than all others." in text
    )
    few = sentences.phase_distributions(phases_table([*runs(2), cut, dead, replace(dead, id="too")]))
    assert few.startswith("**wait running** has no median: 3 of 5 tries never reached its end")


# How sure


SURE = (
    sentences.certainty_answer,
    sentences.boot_curves,
    sentences.clusters,
    sentences.naive_beside_honest,
)


@pytest.mark.parametrize("sentence", SURE, ids=lambda f: f.__name__)
def test_no_run_is_sure_of_nothing(sentence):
    assert sentence(phases_table([])) == sentences.NO_RUN


@pytest.mark.parametrize("sentence", SURE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_every_number_of_certainty_is_finite(sentence, n):
    text = sentence(phases_table([*runs(n), failed("a", "deadline"), failed("b", "boot_failed")]))
    assert text
    assert not re.search(r"nan|inf\b|None|  ", text)


def test_half_of_the_runs_are_told_with_those_that_never_came():
    text = sentences.boot_curves(phases_table([*runs(7), waited_in_vain("a"), waited_in_vain("b")]))
    assert text.startswith("Half of 9 attempted runs had a running instance within")
    assert "2 of 9 never had a running instance (95 % interval 2.8–60.0 %)" in text  # Clopper and Pearson
    too_few = sentences.boot_curves(phases_table([*runs(2), *(waited_in_vain(f"{i}") for i in range(3))]))
    assert too_few.startswith("Less than half of 5 attempted runs had a running instance; ")


def waited_in_vain(name: str) -> Run:
    """A run that failed while it waited to be running."""
    wait = replace(SEED.phase(PhaseName.WAIT_RUNNING), end=Moment.between(90.0, None, "poll"), outcome=Outcome.FAILED)
    return replace(SEED, id=name, outcome=Outcome.FAILED, cause="boot_failed", phases=(*SEED.phases[:2], wait))


def test_one_host_behind_most_runs_is_a_warning():
    one = [replace(run, resources=run.resources | {"machine_id": 99 if i < 5 else i}) for i, run in enumerate(runs(8))]
    assert "**One machine gave 62.5 % of them**" in sentences.clusters(phases_table(one))
    each = [replace(run, resources=run.resources | {"machine_id": i}) for i, run in enumerate(runs(8))]
    assert sentences.clusters(phases_table(each)) == "The 8 runs came from as many machines: each says something of its own."
    assert "do not name their machines" in sentences.clusters(phases_table(runs(8)))


def test_a_poller_reads_later_than_the_bounds_allow():
    text = sentences.naive_beside_honest(phases_table(runs(7)))
    assert "**65.2 and 75.8 s**" in text  # 62.15 and 72.77, three seconds later each
    assert "with a poll every 10.0 s" in text


def test_a_timeline_says_what_its_looks_prove():
    text = sentences.poll_timeline(SEED)
    assert "it ran from an instant between **65.0 and 75.6 s** on (10.6 s wide)" in text
    assert "clock" not in text
    doubted = sentences.poll_timeline(replace(SEED, guest={"trusted": False, "why": "it jumps by 3 s"}))
    assert "was not trusted: it jumps by 3 s." in doubted
    own = sentences.poll_timeline(read_run(shared("data/runs") / "emulated-rtx4090.json"))
    lag = re.search(r"the status said so between ([\d.]+) and ([\d.]+) s later", own)
    assert float(lag[1]) < 2.0 < float(lag[2])  # the seed profile's reporting lag is 2 s
    nothing = sentences.poll_timeline(replace(SEED, phases=()))
    assert nothing.endswith("no event was seen, so there is no number.")
