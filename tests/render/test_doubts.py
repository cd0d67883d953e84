"""What the data themselves say against the numbers made from them."""

from dataclasses import replace

from vastbench.analysis.facts import Facts
from vastbench.analysis.findings import Kind, findings
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.moments import Moment
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.run import Run
from vastbench.render.findings import doubts, spoken
from vastbench.render.sentences import NO_RUN
from vastbench.render.wording import escaped

SEED = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")


def on_machine(name: str, machine: int) -> Run:
    return replace(SEED, id=name, resources=SEED.resources | {"machine_id": machine})


def test_no_run_raises_no_doubt():
    assert doubts(phases_table([])) == NO_RUN


def test_one_run_is_few_and_known_within_its_polls():
    text = doubts(phases_table([SEED]))
    assert "Only 1 run passed: a median of fewer than 6 has no 95 % interval." in text
    assert "known only within" in text
    assert "4.3 % of the mean total (4.2 s, n = 1)" in text  # 4.21 of 98.98 s


def test_runs_that_did_not_end_would_have_been_longer():
    wait = SEED.phase(PhaseName.WAIT_RUNNING)
    cut = replace(wait, end=Moment.between(600.0, None, "poll"), outcome=Outcome.CENSORED)
    late = replace(SEED, id="late", outcome=Outcome.CENSORED, cause="deadline", phases=(*SEED.phases[:2], cut))
    assert (
        "A deadline cut off wait running: 1 run. Medians reckon with that; means and extremes leave such runs out."
        in doubts(phases_table([SEED, late]))
    )


def test_boots_that_failed_say_nothing_of_how_long_a_boot_takes():
    wait = replace(SEED.phase(PhaseName.WAIT_RUNNING), outcome=Outcome.FAILED)
    dead = replace(SEED, id="dead", outcome=Outcome.FAILED, cause="boot_failed", phases=(*SEED.phases[:2], wait))
    text = doubts(phases_table([SEED, dead]))
    assert "Failed in wait running: 1 run." in text
    assert "reckon" not in text
    assert "too short" not in text


def test_runs_on_one_machine_are_not_independent():
    many = [on_machine(f"run-{i}", 0 if i < 5 else i) for i in range(10)]
    told = "10 runs that were ready came from 6 machines, 50.0 % of them from one: they are not independent"
    assert told in doubts(phases_table(many))
    assert "machine" not in doubts(phases_table([on_machine("a", 1), on_machine("b", 2)]))


def test_what_is_taken_together_is_named():
    other = replace(SEED, id="other", resources=SEED.resources | {"gpu_name": "A|100"})
    assert "2 GPUs: RTX 4090 (1) and A\\|100 (1)" in doubts(phases_table([SEED, other]))


def test_stopped_runs_are_counted_nowhere():
    stopped = replace(SEED, id="stopped", outcome=Outcome.CENSORED, cause="interrupted")
    assert "Not counted: 1 run that we stopped" in doubts(phases_table([SEED, stopped]))


def test_notebooks_and_reports_raise_the_same_doubts():
    phases = phases_table([on_machine(f"run-{i}", 0) for i in range(3)])
    told = [f"- {escaped(spoken(one))}" for one in findings(Facts(phases)) if one.kind is Kind.DOUBT]
    assert "\n".join(told) == doubts(phases)
    assert "they describe that machine" in doubts(phases)
