"""A store, a Parquet and a JSON file that an earlier vastbench wrote open, and show the same figures."""

import json
import shutil
from pathlib import Path

import pytest

import vastbench
from vastbench.analysis.summary import phase_summary
from vastbench.store import Store

WRITTEN = Path(__file__).parent / "written_by_0_1"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())


@pytest.fixture
def store(tmp_path):
    """A copy: opening a store may migrate it."""
    return Path(shutil.copy(WRITTEN / "runs.sqlite", tmp_path))


@pytest.mark.parametrize("name", ["runs.sqlite", "runs.parquet", "runs.json"])
def test_a_table_of_an_earlier_version_shows_the_same_figures(name, store):
    phases = vastbench.load(store if name == "runs.sqlite" else WRITTEN / name)
    summary = phase_summary(phases)
    assert dict(zip(summary["phase"], summary["median_s"].round(6), strict=True)) == EXPECTED[name]["medians"]
    assert vastbench.runs_table(phases)["cost_usd"].sum() == pytest.approx(EXPECTED[name]["cost_usd"])


def test_the_runs_and_the_study_of_an_earlier_store_print_as_before(store):
    with Store.existing(store) as opened:
        assert {run.id: words(str(run)) for run in opened.runs()} == {
            name: words(text) for name, text in EXPECTED["runs"].items()
        }
        assert words(str(opened.study("old"))) == words(EXPECTED["study"])


def words(text: str) -> list[str]:
    """What is said, however far apart: shares have a space before their % since."""
    return text.replace("%", " %").split()
