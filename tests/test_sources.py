"""Tables from the store, Parquet and JSON are the same table; what is none is refused by name."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vastbench.analysis.frames import phases_table
from vastbench.errors import NotFound, SchemaError, SettingsError, UsageError
from vastbench.report.files import read_run, read_runs
from vastbench.resources import shared
from vastbench.sources import SCHEMA_KEY, export, export_runs, load
from vastbench.store import Store

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
OTHER = replace(RUN, id="other", study="second", started_at="2026-01-03T00:00:00+00:00")


def test_store_parquet_and_json_give_the_same_table(tmp_path):
    expected = phases_table([RUN, OTHER])
    with Store(tmp_path / "runs.sqlite") as store:
        for run in (RUN, OTHER):
            store.save_run(run)
    export(expected, tmp_path / "runs.parquet")
    export_runs([RUN, OTHER], tmp_path / "runs.json")
    for name in ("runs.sqlite", "runs.parquet", "runs.json"):
        pd.testing.assert_frame_equal(load(tmp_path / name), expected)


def test_json_loses_nothing(tmp_path):
    export_runs([RUN, OTHER], tmp_path / "runs.json")
    assert read_runs(tmp_path / "runs.json") == [RUN, OTHER]


def test_a_run_in_two_places_is_there_once(tmp_path):
    export(phases_table([RUN]), tmp_path / "a.parquet")
    export(phases_table([RUN, OTHER]), tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "a.parquet", tmp_path / "b.parquet"), phases_table([RUN, OTHER]))


def test_one_study_can_be_asked_for_and_a_missing_one_is_named(tmp_path):
    export(phases_table([RUN, OTHER]), tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", study="second")["run"].unique().tolist() == ["other"]
    with pytest.raises(NotFound, match="third"):
        load(tmp_path / "a.parquet", study="third")


def test_the_published_run_has_a_name():
    assert load("2026-01-02-rtx4090")["run"].unique().tolist() == [RUN.id]


def test_what_is_not_there_is_not_made(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.sqlite"):
        load(tmp_path / "nowhere.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_another_version_or_of_none_is_refused(tmp_path):
    table = pa.Table.from_pandas(phases_table([RUN]))
    for version in (b"99", None):
        pq.write_table(table.replace_schema_metadata({SCHEMA_KEY: version} if version else {}), tmp_path / "a.parquet")
        with pytest.raises(SchemaError, match="schema 99" if version else "schema unknown"):
            load(tmp_path / "a.parquet")


def test_a_file_cut_short_is_refused_by_name(tmp_path):
    export(phases_table([RUN]), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    with pytest.raises(SettingsError, match=r"a\.parquet"):
        load(tmp_path / "a.parquet")


def test_an_export_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        export(phases_table([RUN]), tmp_path / "file" / "runs.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
