"""Tables from the store, Parquet, CSV and JSON are the same table; what is none is refused by name."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vastbench.analysis.columns import columns
from vastbench.analysis.frames import phases_table
from vastbench.bundled import shared
from vastbench.errors import NotFound, SchemaError, SettingsError, StoreError, UsageError
from vastbench.io.files import read_run, read_runs
from vastbench.io.parquet import SCHEMA_KEY
from vastbench.io.tables import export, load
from vastbench.record.cost import Bill
from vastbench.record.document import run_to_dict
from vastbench.record.phases import Outcome
from vastbench.store import Store

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
OTHER = replace(RUN, id="other", study="second", started_at="2026-01-03T00:00:00+00:00")


@pytest.fixture(autouse=True)
def default_store(tmp_path, monkeypatch):
    """Where the default store is: in a folder of its own, and not made yet."""
    place = tmp_path / "home" / "runs.sqlite"
    monkeypatch.setenv("VASTBENCH_STORE", str(place))
    monkeypatch.chdir(tmp_path)
    return place


def saved(place, *runs):
    place.parent.mkdir(exist_ok=True)
    with Store(place) as store:
        for run in runs:
            store.save_run(run)


def test_a_store_read_into_columns_is_the_table_of_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("vastbench.store.store.BATCH", 2)
    emulated = read_run(shared("data/runs") / "emulated-rtx4090.json")
    cut = replace(emulated.phases[3], end=replace(emulated.phases[3].end, yes_sent=None, yes_received=None))
    runs = [
        replace(RUN, id="z", total_s=None),
        replace(emulated, id="y"),
        replace(emulated, id="x", phases=(*emulated.phases, *emulated.phases[:4]), outcome=Outcome.FAILED, cause="boot_failed"),
        replace(emulated, id="w", phases=(*emulated.phases[:3], cut), outcome=Outcome.CENSORED, cause="deadline"),
        replace(RUN, id="v", phases=(), attempts=()),
    ]
    runs = [replace(run, started_at=f"2026-02-0{day}T00:00:00+00:00") for day, run in enumerate(runs, 1)]
    saved(tmp_path / "runs.sqlite", *runs)
    pd.testing.assert_frame_equal(load(tmp_path / "runs.sqlite"), phases_table(runs), check_exact=True)


def test_store_parquet_csv_and_json_give_the_same_table(tmp_path):
    expected = phases_table([RUN, OTHER])
    with Store(tmp_path / "runs.sqlite") as store:
        for run in (RUN, OTHER):
            store.save_run(run)
    export(expected, tmp_path / "runs.parquet")
    export(expected, tmp_path / "runs.csv")
    export([RUN, OTHER], tmp_path / "runs.json")
    export(expected, tmp_path / "runs.xlsx")
    for name in ("runs.sqlite", "runs.parquet", "runs.csv", "runs.json", "runs.xlsx"):
        pd.testing.assert_frame_equal(load(tmp_path / name), expected)


def test_the_sample_comes_back_from_csv_to_the_last_digit(tmp_path):
    export(load(), tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(load(tmp_path / "runs.csv"), load(), check_exact=True)


def test_csv_keeps_words_that_look_like_something_else(tmp_path):
    words = {"gpu_name": 'one, "two"\nthree', "region": "NA"}
    odd = phases_table([replace(RUN, id="007", cause="nan", detail=" None", resources=words), replace(OTHER, resources={})])
    export(odd, tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(load(tmp_path / "runs.csv"), odd)


BAITS = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "NA",
    "nan",
    "None",
    " ",
    "007",
    "1e400",
    "_x0041_",
    "_x005F_",
    "a\r\nb",
    "\x07",
    "日本",
    "−½",
]
WORDS = st.sampled_from(BAITS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
MAYBE = st.none() | WORDS
COUNTS = st.none() | st.integers(0, 10**18)
SIZES = st.none() | st.floats(1e-30, 1e18)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "xlsx"])
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(words=st.tuples(MAYBE, MAYBE, WORDS), counts=st.tuples(COUNTS, COUNTS), size=SIZES)
def test_whatever_a_table_holds_comes_back_from_every_format(tmp_path, suffix, words, counts, size):
    got = {"gpu_name": words[0], "region": words[1], "offer_id": counts[0], "machine_id": counts[1], "usd_per_hour": size}
    odd = phases_table([replace(RUN, detail=words[2], resources=got), replace(OTHER, total_s=None, phases=())])
    export(odd, tmp_path / f"runs.{suffix}")
    pd.testing.assert_frame_equal(load(tmp_path / f"runs.{suffix}"), odd, check_exact=True)


def test_a_cell_that_begins_like_a_formula_is_text_in_excel(tmp_path):
    bait = "=HYPERLINK(1)"
    export(phases_table([replace(RUN, detail=bait, resources={"gpu_name": "=1+1"})]), tmp_path / "runs.xlsx")
    cells = [cell for sheet in openpyxl.load_workbook(tmp_path / "runs.xlsx") for row in sheet.iter_rows() for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "b", "inlineStr"}
    assert all(cell.quotePrefix for cell in cells if str(cell.value).startswith("="))
    assert sum(cell.value == bait for cell in cells) > 5


def test_an_excel_file_says_what_its_columns_hold(tmp_path):
    export(phases_table([RUN]), tmp_path / "runs.xlsx")
    sheet = pd.read_excel(tmp_path / "runs.xlsx", "columns", keep_default_na=False)
    pd.testing.assert_frame_equal(sheet.astype("str"), columns())


def test_what_excel_cannot_hold_is_refused_by_name(tmp_path, monkeypatch):
    long = phases_table([replace(RUN, detail="x" * 40_000)])
    with pytest.raises(UsageError, match=r"A cell of 40000 characters, 'xxxx.*Parquet or CSV"):
        export(long, tmp_path / "runs.xlsx")
    monkeypatch.setattr("vastbench.io.excel.MOST_ROWS", 3)
    with pytest.raises(UsageError, match=r"12 rows do not fit into a sheet of 3"):
        export(phases_table([RUN]), tmp_path / "runs.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_without_openpyxl_excel_says_how_to_have_it(tmp_path, monkeypatch):
    export(phases_table([RUN]), tmp_path / "runs.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    for refused in (lambda: export(phases_table([RUN]), tmp_path / "b.xlsx"), lambda: load(tmp_path / "runs.xlsx")):
        with pytest.raises(SettingsError, match=r"need openpyxl\. Install it: pip install 'vastbench\[excel\]'"):
            refused()


def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path):
    with pytest.raises(SettingsError, match=r"'runs\.feather' is no \.parquet, \.csv, \.xlsx or \.json file"):
        export(phases_table([RUN]), tmp_path / "runs.feather")


def test_a_csv_that_went_through_pandas_is_the_same_table(tmp_path):
    expected = phases_table([RUN, OTHER, replace(RUN, id="no machine", resources={})])
    export(expected, tmp_path / "runs.csv")
    pd.read_csv(tmp_path / "runs.csv", dtype={"run": str}).to_csv(tmp_path / "again.csv", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(load(tmp_path / "again.csv"), expected)


@pytest.mark.parametrize("form", ["parquet", "csv", "json", "xlsx", "sqlite"])
@pytest.mark.parametrize("name", ["runs", "runs.txt", "runs.parquet", "runs.csv", "runs.json", "runs.sqlite", "runs.sqlite.1"])
def test_a_file_is_read_by_what_it_holds_whatever_its_name(tmp_path, form, name):
    if form == "json":
        export([RUN], tmp_path / f"made.{form}")
    elif form == "sqlite":
        saved(tmp_path / f"made.{form}", RUN)
    else:
        export(phases_table([RUN]), tmp_path / f"made.{form}")
    (tmp_path / f"made.{form}").rename(tmp_path / name)
    pd.testing.assert_frame_equal(load(name), phases_table([RUN]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"x", "lacks 46 columns, 'run' first"),
        (b"notes, of somebody\nwho, wrote, much\n", "lacks 46 columns"),
        (b"run,phase,seconds\n1,boot,soon\n", "lacks 43 columns.*As timings of another tool.*'soon'"),
        (b'{"a": 1', "not JSON"),
        (b'{"a": 1}\n{"a": 2}\n', "not JSON"),
        (bytes(range(256)) * 9, "no table of runs.*unpack"),
        ("run,study".encode("utf-16"), "no table of runs"),
        (gzip.compress(b"run,phase", mtime=0), "no table of runs.*unpack"),
        (b"PAR1 and no more", "not a readable Parquet"),
    ],
)
@pytest.mark.parametrize("name", ["runs", "runs.csv", "runs.parquet", "runs.sqlite"])
def test_a_file_that_holds_no_table_is_refused_by_name_and_left_alone(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=f"(?s)'{name}.*{said}"):
        load(name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: content}


def test_a_folder_or_a_pipe_is_no_table(tmp_path):
    (tmp_path / "report").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="'report' is a folder, and there is no study of that name"):
        load("report")
    with pytest.raises(SettingsError, match="'pipe' is no plain file"):
        load("pipe")


def test_a_store_that_is_open_here_keeps_its_locks_when_it_is_loaded(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        store.save_run(RUN)
        load(tmp_path / "runs.sqlite")
        # Only who is alone on the file may take it out of WAL.
        code = "import sqlite3; print(*sqlite3.connect('runs.sqlite', timeout=0).execute('PRAGMA journal_mode = DELETE'))"
        alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert "database is locked" in alone.stderr


def test_a_name_is_first_a_study_of_the_default_store_then_a_data_set(default_store):
    assert load("2026-01-02-rtx4090")["run"].unique().tolist() == [RUN.id]
    saved(default_store, OTHER, replace(OTHER, id="first", study="first"), replace(OTHER, id="x", study="2026-01-02-rtx4090"))
    assert load("first")["run"].unique().tolist() == ["first"]
    assert load("2026-01-02-rtx4090")["run"].unique().tolist() == ["x"]
    assert load("default-300")["run"].nunique() == 300
    assert load("first", "second")["run"].unique().tolist() == ["first", "other"]


def test_a_study_name_alone_means_the_default_store_or_the_sample(default_store):
    assert load(study="default-300")["run"].nunique() == 300
    saved(default_store, OTHER, replace(OTHER, id="mine", study="default-300"))
    assert load(study="second")["run"].unique().tolist() == ["other"]
    assert load(None, study="default-300")["run"].unique().tolist() == ["mine"]
    assert load()["run"].nunique() == 300  # the sample, whatever the store holds


def test_a_folder_of_the_same_name_does_not_hide_a_study(tmp_path, default_store):
    saved(default_store, OTHER)
    (tmp_path / "second").mkdir()
    assert load("second")["run"].unique().tolist() == ["other"]


def test_names_can_be_looked_for_in_another_store(tmp_path):
    saved(tmp_path / "theirs.sqlite", OTHER)
    assert load("second", store=tmp_path / "theirs.sqlite")["run"].unique().tolist() == ["other"]
    with pytest.raises(NotFound, match=r"no store typo\.sqlite"):
        load("default-300", store="typo.sqlite")


def test_who_names_what_is_not_there_learns_what_is(default_store):
    with pytest.raises(NotFound, match=r"'nowhere'.*no store .*home/runs\.sqlite.*default-300"):
        load("nowhere")
    assert not default_store.parent.exists()
    saved(default_store, OTHER)
    for wrong in ({"places": ["nowhere"]}, {"places": [], "study": "nowhere"}):
        with pytest.raises(NotFound, match=r"'nowhere'.*Studies in .*: second\."):
            load(*wrong.pop("places"), **wrong)


def test_json_loses_nothing(tmp_path):
    export([RUN, OTHER], tmp_path / "runs.json")
    assert read_runs(tmp_path / "runs.json") == [RUN, OTHER]


def test_a_run_in_two_places_is_there_once(tmp_path):
    export(phases_table([RUN]), tmp_path / "a.parquet")
    export(phases_table([RUN, OTHER]), tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "a.parquet", tmp_path / "b.parquet"), phases_table([RUN, OTHER]))


def test_a_run_twice_in_one_file_is_there_once(tmp_path):
    export([RUN, OTHER, RUN], tmp_path / "runs.json")
    pd.testing.assert_frame_equal(load(tmp_path / "runs.json"), phases_table([RUN, OTHER]))


PHASE = run_to_dict(RUN)["phases"][0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("started_at", "x"),
        ("started_at", "0001-01-01T00:00:00+05:00"),
        ("total_s", "x"),
        ("total_s", -1.0),
        ("total_s", 10**400),
        ("id", 3),
        ("detail", None),
        ("conditions", None),
        ("conditions.disk_gb", "x"),
        ("resources.gpu_ram_mb", "x"),
        ("resources.gpu_ram_mb", 10**400),
        ("resources.num_gpus", [1]),
        ("instrument", []),
        ("instrument.clock_speed", "fast"),
        ("cost", "much"),
        ("cost.gpu_usd", "much"),
        ("attempts", 1),
        ("attempts", [{"number": "x", "outcome": "passed"}]),
        ("phases", [1]),
        ("phases", [PHASE | {"name": "total"}]),
        ("phases", [PHASE | {"start": PHASE["start"] | {"no_received": "x"}}]),
        ("phases", [PHASE | {"start": PHASE["end"], "end": PHASE["start"]}]),
    ],
)
def test_a_record_with_a_wrong_value_is_refused_by_file_and_field(tmp_path, field, value):
    plain = run_to_dict(RUN)
    outer, _, inner = field.partition(".")
    plain[outer] = plain[outer] | {inner: value} if inner else value
    (tmp_path / "a.json").write_text(json.dumps(plain))
    with pytest.raises(SettingsError, match=rf"a\.json.*{field}"):
        load(tmp_path / "a.json")


@pytest.mark.parametrize("field", ["cost", "attempts", "phases", "phases.0.outcome", "phases.0.attempt", "phases.0.parent"])
def test_a_record_that_lacks_a_field_is_refused_by_file_and_field(tmp_path, field):
    plain = run_to_dict(RUN)
    of_phase = field.startswith("phases.")
    (plain["phases"][0] if of_phase else plain).pop(field.removeprefix("phases.0."))
    (tmp_path / "a.json").write_text(json.dumps(plain))
    with pytest.raises(SettingsError, match=rf"a\.json.*'{field}'"):
        load(tmp_path / "a.json")


@pytest.mark.parametrize("field", ["total_s", "origin"])
def test_a_record_holds_no_number_that_is_none(tmp_path, field):
    (tmp_path / "a.json").write_text(json.dumps(run_to_dict(RUN) | {field: float("nan")}))
    with pytest.raises(SettingsError, match=r"a\.json"):
        load(tmp_path / "a.json")


def test_one_study_can_be_asked_for_and_a_missing_one_is_named(tmp_path):
    export(phases_table([RUN, OTHER]), tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", study="second")["run"].unique().tolist() == ["other"]
    with pytest.raises(NotFound, match=r"'third' in .*a.parquet. Studies there: no study \(1 run\), second \(1 run\)\."):
        load(tmp_path / "a.parquet", study="third")


def test_one_gpu_can_be_asked_for_and_a_missing_one_is_named(tmp_path):
    no_offer = replace(OTHER, resources={})
    other = replace(OTHER, id="a100", resources=OTHER.resources | {"gpu_name": "A100"})
    export(phases_table([RUN, no_offer, other]), tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", gpu="A100")["run"].unique().tolist() == ["a100"]
    with pytest.raises(
        NotFound, match=r"on 'H100' in .*GPUs there: RTX 4090 .1 run., unknown .1 run., A100 .1 run."
    ) as missing:
        load(tmp_path / "a.parquet", gpu="H100")
    assert missing.value.exit_code == 2
    with pytest.raises(NotFound, match=r"on 'RTX 4090' in the study 'second' in .*GPUs there: "):
        load(tmp_path / "a.parquet", study="second", gpu="RTX 4090")


def test_a_place_without_a_run_is_an_error_unless_another_has_one(tmp_path):
    export(phases_table([]), tmp_path / "none.parquet")
    export([], tmp_path / "none.json")
    Store(tmp_path / "none.sqlite").close()
    for name in ("none.parquet", "none.json", "none.sqlite"):
        with pytest.raises(NotFound, match=f"There is no run in .*{name}. Make one: vastbench run"):
            load(tmp_path / name)
    assert len(load(tmp_path / "none.parquet", None)) == len(load())


def test_the_published_run_has_a_name():
    assert load("2026-01-02-rtx4090")["run"].unique().tolist() == [RUN.id]


def test_what_is_not_there_is_not_made(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.sqlite"):
        load(tmp_path / "nowhere.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_url_of_a_store_that_is_not_there_makes_none(tmp_path):
    for url in (f"sqlite:///{tmp_path}/typo.db", "sqlite://"):
        with pytest.raises(NotFound, match="There is no store"):
            load(url)
    assert list(tmp_path.iterdir()) == []


def test_a_store_can_be_named_by_its_url(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        store.save_run(RUN)
    pd.testing.assert_frame_equal(load(f"sqlite:///{tmp_path}/runs.sqlite"), phases_table([RUN]))


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("://", "URL"),
        ("postgresql://me:secret@host:port/runs", "URL"),
        ("nope://host/runs", "nope"),
        # A driver for PostgreSQL that nobody has beside vastbench's own dependencies.
        ("postgresql+pg8000://me:secret@host/runs", "driver is not installed.*pg8000"),
    ],
)
def test_a_url_without_a_database_is_a_store_error_without_the_password(url, names):
    with pytest.raises(StoreError, match=names) as refused:
        load(url)
    assert "secret" not in str(refused.value)


def test_a_table_of_another_version_or_of_none_is_refused(tmp_path):
    table = pa.Table.from_pandas(phases_table([RUN]))
    for version in (b"99", None):
        pq.write_table(table.replace_schema_metadata({SCHEMA_KEY: version} if version else {}), tmp_path / "a.parquet")
        with pytest.raises(SchemaError, match="schema 99" if version else "schema unknown"):
            load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "notes", [b"{", b"{}", b"[]", b"\xff", b'{"index_columns": ["x"], "columns": [], "column_indexes": []}']
)
def test_broken_notes_of_pandas_in_a_file_do_not_matter(tmp_path, notes):
    export(phases_table([RUN]), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"pandas": notes}), tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "a.parquet"), phases_table([RUN]))


@pytest.mark.parametrize("name", ["seconds", "run", "final", "started_at", "offer", "phase"])
def test_a_column_of_lists_is_refused_by_file(tmp_path, name):
    export(phases_table([RUN]), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    lists = table.set_column(table.schema.get_field_index(name), name, pa.array([[1.0]] * len(table)))
    pq.write_table(lists, tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match=r"a\.parquet"):
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


def test_what_an_account_charged_is_in_every_format(tmp_path):
    bill = Bill(gpu_usd=0.1, storage_usd=0.01, transfer_usd=0.0, total_usd=0.11, rounding_usd=0.0005, match="agrees")
    expected = phases_table([replace(RUN, bill=bill), OTHER])
    saved(tmp_path / "runs.sqlite", replace(RUN, bill=bill), OTHER)
    for name in ("runs.parquet", "runs.csv", "runs.json", "runs.xlsx"):
        export(expected, tmp_path / name)
    for name in ("runs.sqlite", "runs.parquet", "runs.csv", "runs.json", "runs.xlsx"):
        pd.testing.assert_frame_equal(load(tmp_path / name), expected)
    assert expected.drop_duplicates("run")["charge"].fillna("").tolist() == ["agrees", ""]
    old = expected.drop(columns=[name for name in expected if name.startswith("charge")])
    old.to_csv(tmp_path / "old.csv", index=False)
    assert load(tmp_path / "old.csv")["charge"].isna().all()
