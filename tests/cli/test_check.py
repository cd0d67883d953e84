"""Anybody's timings can be read and checked; what cannot is refused by file, line and column."""

import json
import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.processes import clean_environment, command
from vastbench.analysis.artefacts.detector import artefacts
from vastbench.analysis.artefacts.rule import COLUMNS
from vastbench.bundled import shared
from vastbench.cli import app
from vastbench.errors import ArtefactsFound, NotFound, SettingsError, VastbenchError
from vastbench.io.files import read_run
from vastbench.io.tables import export, load
from vastbench.io.timings import LARGEST_MB, of_runs, read
from vastbench.store import Store

SEED = shared("data/runs") / "2026-01-02-rtx4090.json"
GRID = [60.1, 70.1, 80.1, 80.1, 90.1, 100.1, 110.1, 120.1, 130.1, 150.1]


@pytest.fixture
def check(tmp_path):
    """Run ``vastbench check`` as a process, with a fresh home."""

    def run(*words):
        done = command("check", *words, env=clean_environment(tmp_path), cwd=tmp_path)
        assert "Traceback" not in done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What ``vastbench check`` prints and which error it ends with, in this process: a quarter of the time."""
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "runs.sqlite"))

    def run(*words):
        done = CliRunner().invoke(app, ["check", *map(str, words)])
        assert done.exception is None or isinstance(done.exception, VastbenchError), done.exception
        return done.stdout, done.exception

    return run


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def pairs(table):
    """Phase and seconds of each row, missing ones as None."""
    values = zip(table["phase"], table["seconds"], strict=True)
    return [(phase, None if math.isnan(seconds) else round(seconds, 9)) for phase, seconds in values]


# The forms that are read


def test_a_long_csv_is_read_with_its_other_columns(tmp_path):
    text = "run,phase,duration_ms,machine,outcome,poll_period_s,gpu\n1,boot,1500,7,passed,10,A4000\n1,ssh,,7,timeout,,A4000\n"
    table = read(written(tmp_path, "a.csv", text))
    assert pairs(table) == [("boot", 1.5), ("ssh", None)]
    assert table["outcome"].tolist() == ["passed", "censored"]
    assert table["poll_period_s"].iloc[0] == 10
    assert table.attrs["ignored"] == ["gpu"]
    assert set(table.columns) <= set(COLUMNS)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_wide_csv_has_a_column_per_phase_and_its_unit_in_the_name(tmp_path, mark):
    lines = [
        ["run", "boot_s", "wait SSH (ms)", "copy [min]", "total_s"],
        ["a", "60.5", "1200", "0.5", "91.7"],
        ["b", "", "800", "1", "60.8"],
    ]
    table = read(written(tmp_path, "a.csv", "\n".join(mark.join(line) for line in lines)))
    assert pairs(table[table["run"] == "a"]) == [("boot", 60.5), ("wait SSH", 1.2), ("copy", 30.0), ("total", 91.7)]
    assert pairs(table[table["run"] == "b"])[0] == ("boot", None)


def test_a_file_of_a_spreadsheet_with_a_mark_before_its_first_byte_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfrun,phase,seconds\r\n1,boot,2.5\r\n")
    assert pairs(read(tmp_path / "a.csv")) == [("boot", 2.5)]


def test_a_total_beside_each_phase_is_one_row_per_run(tmp_path):
    table = read(written(tmp_path, "a.csv", "run,phase,seconds,total_s\n1,boot,2,5\n1,ssh,1,5\n"))
    assert pairs(table) == [("boot", 2.0), ("ssh", 1.0), ("total", 5.0)]
    assert [found.rule for found in artefacts(table)] == ["phases do not add up"]


@pytest.mark.parametrize(
    "plain",
    [
        [{"run": "1", "phase": "boot", "seconds": 2.5}, {"run": "1", "phase": "ssh", "seconds": None}],
        [{"run": "1", "boot_s": 2.5, "ssh_s": None}],
        {"boot": 2.5, "ssh": None},
        {"boot_s": 2.5, "ssh_ms": None},
    ],
)
def test_json_may_be_long_wide_or_one_run(tmp_path, plain):
    assert pairs(read(written(tmp_path, "a.json", json.dumps(plain)))) == [("boot", 2.5), ("ssh", None)]


def test_the_published_run_is_read_as_reported_with_its_status_log():
    table = read(SEED)
    reported = table[table["kind"] == "duration"]
    plain = json.loads(SEED.read_text())
    assert dict(pairs(reported))["total"] == plain["timings"]["total_sec"]
    assert reported.loc[reported["phase"] != "total", "seconds"].sum() == pytest.approx(94.77)
    answers = table.loc[table["kind"] == "answer", "seconds"].tolist()
    assert answers == [at for at, _ in plain["poll_log"]["answers"]]


def test_the_published_run_has_the_same_findings_from_every_format(tmp_path):
    run = read_run(SEED)
    with Store(tmp_path / "runs.sqlite") as store:
        store.save_run(run)
        stored = store.run(run.id)
    export([run], tmp_path / "a.json")
    expected = [found.evidence for found in artefacts(read(SEED))]
    assert len(expected) == 3
    assert [found.evidence for found in artefacts(of_runs([stored]))] == expected
    assert [found.evidence for found in artefacts(read(tmp_path / "a.json"))] == expected


def test_vastbenchs_own_table_is_read_by_its_name():
    table = read("default-300")
    assert set(table["run"]) == set(load()["run"])
    assert set(table.columns) <= set(COLUMNS)


@pytest.mark.parametrize("name", ["dumont-cloud", "cloud-gpu-shopper"])
def test_the_published_timings_of_others_are_read_with_their_source(name):
    table = read(name)
    assert len(table) > 10
    raw = pd.read_csv(shared("data/published") / f"{name}.csv")
    assert raw["source"].notna().all()
    assert (table.loc[table["outcome"] == "passed", "seconds"] > 0).all()
    assert table.loc[table["outcome"] != "passed", "seconds"].isna().all()


# What is refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("run,phase,seconds\n", "no timings"),
        ("run,phase\n1,boot\n", "no column of times"),
        ("run,phase,seconds\n1,boot,soon\n", "'soon' in the column 'seconds', line 2"),
        ("run,phase,seconds\n1,boot,1\n2,boot,1e400\n", "'1e400' in the column 'seconds', line 3"),
        ("run,phase,seconds\n1,boot,inf\n", "'inf'"),
        ("run,boot_s\n1,1.5x\n", "'boot_s', line 2"),
        ("run,phase,seconds,seconds\n1,boot,1,2\n", "'seconds' 2 times"),
        ("run,phase,seconds,duration_ms\n1,boot,1,2\n", "2 columns of durations"),
        ("run,machine,host,boot_s\n1,a,b,2\n", "several columns for 'machine'"),
        ("run,phase,seconds\n1,boot\n", "not a readable CSV"),
        ("run,phase,seconds\n1,boot,1,2,3\n", "not a readable CSV"),
        ("run,phase,seconds,timeout_s\n1,boot,1,never\n", "'never' in the column 'timeout_s'"),
    ],
)
def test_a_csv_that_is_no_table_of_timings_is_refused_by_what_is_wrong(tmp_path, text, says):
    with pytest.raises(SettingsError, match=r"a\.csv") as refused:
        read(written(tmp_path, "a.csv", text))
    assert says in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"run": "1", "phase": "boot", "sec', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no records"),
        ("3", "no records"),
        ('[{"boot_s": 1}, 2]', "no records"),
        ('{"boot": {"seconds": 3}}', "'boot'"),
        ('{"boot": "soon"}', "'soon'"),
        ('{"boot": true}', "'True'"),
        ('{"boot": 1e400}', "'inf'"),
        ('{"boot": ' + "9" * 400 + "}", "not a finite number"),
        ('{"boot": Infinity}', "'inf'"),
        ('{"timings": {}}', "no column of times"),
        ('{"timings": {"boot_sec": "x"}}', "'x'"),
        ('[{"format": 99}]', "format 99"),
    ],
)
def test_a_json_file_that_holds_no_timings_is_refused_by_what_is_wrong(tmp_path, text, says):
    with pytest.raises(SettingsError, match=r"a\.json") as refused:
        read(written(tmp_path, "a.json", text))
    assert says in refused.value.message


def test_a_file_that_would_fill_the_memory_is_refused_unread(tmp_path):
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(LARGEST_MB * 1_000_000 + 1)  # a hole: it takes no disk
    with pytest.raises(SettingsError, match=f"at most {LARGEST_MB}"):
        read(tmp_path / "a.csv")


def test_an_unsupported_file_and_a_missing_file_are_refused_by_name(tmp_path):
    with pytest.raises(SettingsError, match=r"a\.xlsx"):
        read(written(tmp_path, "a.xlsx", "x"))
    with pytest.raises(NotFound, match=r"nowhere\.csv"):
        read(tmp_path / "nowhere.csv")


def parsed(path):
    """The rules of a file that is read; nothing when it is refused, which is the only other thing that may happen."""
    refused = None
    try:
        table = read(path)
    except SettingsError as error:
        refused = error
    if refused:
        assert path.name in refused.message
        assert refused.message.isprintable()
        return None
    for found in artefacts(table):
        assert found.rows
        assert set(found.rows) <= set(table.index)
        assert found.text
        assert found.consequence
        json.dumps(found.evidence, allow_nan=False)
    return table


WILD = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@WILD
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.json"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    parsed(tmp_path / name)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "nan", "passed", "timeout", "total", "boot", "wait running", "1e400", "-1", "0", "12.5", "\x1b[2J"]),
    st.text(max_size=5),
)
WORDS = """run phase seconds boot_s ssh_ms total_s kind final parent outcome machine bytes verified files content_hash timeout_s
poll_period_s attempts retries_allowed link_gbps lower_s upper_s status ok valid exit_code unit value started_at ended_at"""
NAMES = st.sampled_from([*WORDS.split(), ""])


@WILD
@given(st.lists(st.dictionaries(NAMES, CELLS, max_size=8), min_size=1, max_size=8))
def test_any_records_are_read_or_refused(tmp_path, records):
    (tmp_path / "a.json").write_text(json.dumps(records))
    parsed(tmp_path / "a.json")


@WILD
@given(
    st.dictionaries(
        st.sampled_from(["timings", "poll_log", "ssh_log", "validation", "resources", "timestamp"]),
        st.recursive(
            CELLS,
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["boot_sec", "total_sec", "sleep_sec", "answers", "success", "file_verified", "sha256"]),
                    inner,
                    max_size=4,
                ),
            ),
            max_leaves=8,
        ),
    )
)
def test_any_record_of_the_published_runs_shape_is_read_or_refused(tmp_path, record):
    (tmp_path / "a.json").write_text(json.dumps(record))
    parsed(tmp_path / "a.json")


@WILD
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.data())
def test_any_cells_are_read_or_refused(tmp_path, names, data):
    rows = data.draw(st.lists(st.lists(CELLS.map(str), min_size=len(names), max_size=len(names)), max_size=6))
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "a.csv", index=False)
    parsed(tmp_path / "a.csv")


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_long_and_wide_tables_of_the_same_times_are_the_same_timings(tmp_path, values):
    runs = [f"r{i}" for i in range(len(values))]
    pd.DataFrame({"run": runs, "phase": "boot", "seconds": values}).to_csv(tmp_path / "long.csv", index=False)
    pd.DataFrame({"run": runs, "boot_s": values}).to_csv(tmp_path / "wide.csv", index=False)
    columns = ["run", "phase", "seconds"]
    pd.testing.assert_frame_equal(read(tmp_path / "long.csv")[columns], read(tmp_path / "wide.csv")[columns])
    assert read(tmp_path / "long.csv")["seconds"].tolist() == pytest.approx(
        [math.nan if v is None else v for v in values], nan_ok=True
    )


# The command


def test_the_command_finds_all_three_artefacts_of_the_published_run(check):
    done = check(SEED, "--json")
    assert done.returncode == 15
    (report,) = json.loads(done.stdout)
    found = {one["rule"]: one for one in report["findings"]}
    assert set(found) == {"lattice", "phases do not add up", "pass that could not have failed"}
    # The spacing of the eight answers: (72.77 − 0) ÷ 7.
    assert found["lattice"]["evidence"]["step_s"] == pytest.approx(72.77 / 7, abs=0.05)
    assert [row["seconds"] for row in found["lattice"]["rows"]] == [0.0, 10.7, 21.0, 31.3, 41.7, 52.1, 62.5, 72.77]
    assert found["phases do not add up"]["evidence"]["difference_s"] == pytest.approx(4.21)


def test_the_command_says_what_it_found_which_rows_and_what_follows(said, tmp_path):
    grid = "run,phase,seconds,colour\n" + "".join(f"{i},boot,{value},red\n" for i, value in enumerate(GRID))
    text, error = said(written(tmp_path, "grid.csv", grid))
    assert isinstance(error, ArtefactsFound)
    assert "1 artefact was found" in error.message
    assert "step 10 ±" in text
    assert "3 boot 80.1 s" in text
    assert "too long by 5 s" in text
    assert "Columns not read: colour." in text


def test_a_clean_file_gives_0_and_says_which_rules_were_not_applied(check, tmp_path):
    clean = "run,phase,seconds\n" + "".join(f"{i},boot,{60 + 7.77 * i**1.3:.2f}\n" for i in range(12))
    done = check(written(tmp_path, "clean.csv", clean))
    assert done.returncode == 0, done.stdout
    assert "Nothing found." in done.stdout
    assert "one host counted many times (no column machine)" in done.stdout
    assert "phases do not add up (no stated total)" in done.stdout


def test_vastbenchs_own_sample_is_clean(said):
    text, error = said("default-300")
    assert error is None, text


def test_what_a_file_does_not_say_can_be_said_by_options(said, tmp_path):
    rows = "".join(f"{i},{value},DONE,{'ab'[i % 2]}\n" for i, value in enumerate([61.4, 64.1, 70.9, 71.5, 75.7, 79.2]))
    path = written(tmp_path, "a.csv", "run,boot,status,gpu\n" + rows)
    text, error = said(path, "--column", "boot", "--unit", "s")
    assert "--passed DONE" in error.hint
    text, error = said(path, "--column", "boot", "--unit", "min", "--passed", "DONE", "--group-by", "gpu", "--json")
    assert error is None, text
    (report,) = json.loads(text)
    assert (report["rows"], report["columns_not_read"], report["notes"]) == (6, [], [])
    assert report["not_applicable"]["lattice"] == "no phase with 5 values"


def test_several_files_are_checked_each_by_itself_and_stored_runs_together(said, tmp_path):
    run = read_run(SEED)
    with Store(tmp_path / "runs.sqlite") as store:
        store.save_run(run)
    text, error = said(SEED, "last", "dumont-cloud", "--json")
    assert isinstance(error, ArtefactsFound)
    assert [report["source"] for report in json.loads(text)] == [str(SEED), "dumont-cloud", f"run {run.id}"]


def test_a_bad_file_is_one_message_and_exit_2(check, tmp_path):
    done = check(written(tmp_path, "a.csv", "run,phase,seconds\n1,boot,\x1b[2Jx\n"))
    assert done.returncode == 2
    assert done.stderr.startswith("vastbench: ")
    assert "a.csv" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", ["nowhere.csv", "20990101T000000-aaaaaa"])
def test_what_is_neither_file_nor_run_is_refused_by_name(said, name):
    _, error = said(name)
    assert isinstance(error, NotFound)
    assert name in error.message


def test_foreign_words_cannot_drive_the_terminal(said, tmp_path):
    lines = "".join(f"{i},\x1b[2Jboot,{value}\n" for i, value in enumerate(GRID))
    text, error = said(written(tmp_path, "a.csv", "run,phase,seconds\n" + lines))
    assert isinstance(error, ArtefactsFound)
    assert "\x1b" not in text


def test_a_value_too_large_for_any_lattice_is_no_crash(tmp_path):
    table = parsed(written(tmp_path, "a.csv", "phase,seconds\nboot,0\nboot,0\nboot,0\nboot,0\nboot,9.2e17\n"))
    assert [found.rule for found in artefacts(table)] == ["zero for missing"]
