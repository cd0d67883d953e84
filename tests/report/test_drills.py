"""What a report says of the drill that its runs are of, and of those that were not made."""

import json

import pytest

from tests.report.test_model import model_of, unfounded
from vastbench.analysis.measures import measured, with_curves
from vastbench.io.tables import load
from vastbench.record.phases import Outcome
from vastbench.render import sentences
from vastbench.render.sentences.drills import rows_of
from vastbench.report.drills import pictures, question_of
from vastbench.report.page import index_page, markdown_text
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.questions import QUESTIONS

DATA = {"snapshot": "snapshot-20", "failover": "failover-40", "hibernation": "hibernation-20", "model": "model-12"}


@pytest.fixture(scope="module", params=DATA)
def drill(request):
    """A drill's name, its runs, and what a report says of them."""
    phases = load(DATA[request.param])
    return request.param, phases, json.loads(json.dumps(model_of(phases), allow_nan=False))


def test_every_drill_of_which_something_is_asked_has_a_question():
    assert list(QUESTIONS) == [name for name, one in SCENARIOS.items() if one.acceptance]


def test_the_measures_are_of_phases_that_the_drill_has():
    for name, question in QUESTIONS.items():
        timeline = SCENARIOS[name].timeline
        for one in question.measures:
            assert {one.first, one.last, *one.parts} - {""} <= {*timeline}, one.what
            assert one.what not in timeline
            assert bool(one.place) + bool(one.parts) + bool(one.first) == 1
            assert one.unit == "s" or not one.drawn
        assert question.answer.drawn
        assert len({one.what for one in question.measures}) == len(question.measures)


def test_a_report_and_its_notebook_say_the_same(drill):
    name, phases, model = drill
    asked = QUESTIONS[name]
    assert question_of(phases) is asked
    text = markdown_text(model)
    spanned = with_curves(phases, asked.measures)
    assert sentences.until_answer(spanned, asked.answer.what, asked.done) in text
    rows = [row for row in rows_of(measured(phases, asked.measures)) if row["n"]]
    assert [row["what"] for row in model["drill"]["measures"]] == [row["what"] for row in rows]
    for row in sentences.acceptance_table(phases, asked.criteria).splitlines()[4:]:
        cells = [cell.strip(" *") for cell in row.strip("|").split("|")]
        assert any(all(cell in line for cell in cells) for line in text.splitlines()), row


def test_every_number_of_a_drill_is_in_its_data(drill):
    _, _, model = drill
    assert unfounded(model, markdown_text(model)) == []


def test_the_page_shows_what_was_asked_and_the_other_drills(drill, tmp_path):
    name, _, model = drill
    page = index_page(model | {"figures": []}, tmp_path)
    assert QUESTIONS[name].title in page
    assert "<h3>Criteria</h3>" in page
    assert ("What would shorten it" in page) == (name == "failover")
    assert "Not measured yet" not in page
    lacking = {row["scenario"] for row in model["next_steps"]["lacking"]}
    assert lacking == {*QUESTIONS} - {name}
    assert all(f"vastbench study --name {other} --scenario {other}" in page for other in lacking)


def test_each_curve_is_of_a_quantity_and_its_sentence_has_the_same_median(drill):
    name, phases, model = drill
    rows = {row["what"]: row for row in model["drill"]["measures"]}
    for picture, frame in pictures(phases, QUESTIONS[name]):
        row = rows[picture.heading]
        assert f"in half of {row['n']} runs **{row['value']:.1f} s** at most" in picture.sentence(frame)


def test_a_report_of_another_study_names_the_drills_that_were_not_made():
    model = model_of(load())
    assert model["drill"] is None
    assert model["failover"]["fresh_boot"]["n"] > 0
    assert [row["scenario"] for row in model["next_steps"]["lacking"]] == [*QUESTIONS]


def test_a_drill_that_never_passed_has_no_estimate_and_no_end():
    phases = load("failover-40")
    some = phases[phases["run"].isin(phases.loc[phases["run_outcome"] == Outcome.PASSED, "run"].unique()[:5])]
    broken = some[~some["phase"].str.startswith(("replacement", "restore", "resume"))].assign(run_outcome=Outcome.FAILED)
    model = model_of(broken)
    assert model["drill"]["estimate"] is None
    assert "| recovery (RTO) | 5, 5 never | never |" in markdown_text(model)


def test_emulated_figures_say_what_a_faster_clock_does_to_them():
    fast, asked = load("failover-40"), QUESTIONS["failover"]
    assert "10 times as fast as time" in sentences.caveats(fast, asked)
    assert "times as fast" not in sentences.caveats(fast.assign(scale=1.0), asked)
    assert sentences.caveats(fast.assign(source="live", scale=1.0), asked) == ""


def test_nothing_emulated_is_called_by_the_name_of_another_model():
    asked = QUESTIONS["model"]
    said = f"{asked.title} {asked.done} {asked.reading} {asked.emulated} {asked.faster}"
    assert "SmolLM2-135M" in said
    assert "qwen" not in said.lower()
