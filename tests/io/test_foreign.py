"""Timings as public tools write them are read; what cannot be is named with what was found and a command that would read it.

pyperf and pytest-benchmark make their files here; those of the other tools are small ones in the documented format.
"""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest

from vastbench.errors import SettingsError
from vastbench.io.timings import LARGEST_MB, MOST_ROWS, read
from vastbench.io.words import reading

JOB = {
    "id": 7,
    "name": "build",
    "status": "completed",
    "conclusion": "success",
    "created_at": "2026-01-02T00:00:00Z",
    "started_at": "2026-01-02T00:00:05Z",
    "completed_at": "2026-01-02T00:01:05Z",
    "steps": [
        {
            "name": "Check out",
            "conclusion": "success",
            "started_at": "2026-01-02T00:00:05Z",
            "completed_at": "2026-01-02T00:00:07Z",
        },
        {
            "name": "Deploy",
            "conclusion": "skipped",
            "started_at": "2026-01-02T00:01:05Z",
            "completed_at": "2026-01-02T00:01:05Z",
        },
    ],
}
GH_JOB = {"databaseId": 8, "name": "test", "conclusion": "failure", "steps": []} | {
    "startedAt": "2026-01-02T00:00:05Z",
    "completedAt": "2026-01-02T00:00:45Z",
}
SAMPLES = [
    {
        "metric": metric,
        "value": value,
        "unit": unit,
        "run_uri": "ab12",
        "test": "cluster_boot",
        "labels": "|cloud:GCP|,|zone:a|",
    }
    for metric, value, unit in [("Boot Time", 33.1, "seconds"), ("Ping", 12.5, "ms"), ("cpus", 4, "count")]
]
POD = {"timestamp": "2026-01-02T00:00:00Z", "metricName": "podLatencyMeasurement", "jobName": "density", "podName": "pod-1"} | {
    "nodeName": "node-1",
    "schedulingLatency": 5,
    "podReadyLatency": 900,
}
STATS = """Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Requests/s,50%,99%
GET,/a,10,0,12,13.5,1.0,12,N/A
,Aggregated,10,0,12,13.5,1.0,12,15
"""
JOBS = {"total_count": 2, "jobs": [JOB, JOB | {"id": 9, "conclusion": "skipped"}]}
TIMES = {"results": [{"command": "sleep 1", "mean": 1.0, "times": [1.01, 1.02], "exit_codes": [0, 1], "parameters": {}}]}
ITEMS = {"version": "v1", "dataItems": [{"data": {"Perc50": 1250.0}, "unit": "ms", "labels": {"Metric": "pod_startup"}}]}


BYTES = {"version": "1.0", "metadata": {"name": "heap", "unit": "byte"}, "benchmarks": [{"runs": [{"values": [9.0]}]}]}


def written(folder, name, plain):
    path = folder / name
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain), encoding="utf-8")
    return path


def lines(records):
    return "\n".join(json.dumps(record) for record in records)


def rows(table, *columns):
    """The named columns of each row, missing values as None."""
    cells = table[list(columns)].astype(object).to_numpy().tolist()
    return [tuple(None if cell is None or cell != cell else cell for cell in row) for row in cells]


READ = {
    "lines.jsonl": (
        lines([{"run": "a", "boot_s": 1.5}, {"run": "b", "boot_s": 2.5}]),
        [("a", "boot", 1.5), ("b", "boot", 2.5)],
    ),
    "lines-named.json": (lines([{"run": "a", "boot_ms": 1.5e3}, {"run": "b"}]), [("a", "boot", 1.5), ("b", "boot", None)]),
    "around.json": ({"host": "x", "runs": [{"boot_s": 1.0, "tags": ["x"]}]}, [("record 1", "boot", 1.0)]),
    "hyperfine.json": (TIMES, [("sleep 1 1", "sleep 1", 1.01), ("sleep 1 2", "sleep 1", 1.02)]),
    "jobs.json": (JOBS, [("7", "queued", 5.0), ("7", "run job", 60.0), ("7", "Check out", 2.0)]),
    "gh.json": ({"jobs": [GH_JOB]}, [("8", "run job", 40.0)]),
    "perfkit.json": (lines(SAMPLES), [("ab12", "Boot Time", 33.1), ("ab12", "Ping", 0.0125)]),
    "kube-burner.json": ([POD], [("pod-1", "scheduling", 0.005), ("pod-1", "pod ready", 0.9)]),
    "clusterloader2.json": (ITEMS, [("pod_startup 1", "pod_startup Perc50", 1.25)]),
    "x_stats.csv": (
        STATS,
        [("GET /a", name, s) for name, s in [("median", 0.012), ("average", 0.0135), ("50%", 0.012), ("99%", None)]],
    ),
    "pairs.csv": (
        "run,boot_start,boot_end\n1,2026-01-02T00:00:00Z,2026-01-02 00:01:00.5\n2,2026-01-02T00:00:00Z,\n",
        [("1", "boot", 60.5), ("2", "boot", None)],
    ),
    "moments.csv": (
        "id,created_at,started_at,finished_at\n1,1767225600,1767225605,1767225665\n",
        [("1", "created to started", 5.0), ("1", "started to ended", 60.0)],
    ),
    "long-pairs.csv": (
        "run,phase,startTime,endTime\n1,boot,1767225600000,1767225601500\n",
        [("1", "boot", 1.5)],
    ),
    "spoken.csv": (
        "run,boot_s\n1,850ms\n2,1m30s\n3,0:01:12.5\n4,12\n5,n/a\n",
        [("1", "boot", 0.85), ("2", "boot", 90.0), ("3", "boot", 72.5), ("4", "boot", 12.0), ("5", "boot", None)],
    ),
    "units.csv": ("run,phase,value,unit\n1,boot,1500,ms\n1,copy,2,min\n", [("1", "boot", 1.5), ("1", "copy", 120.0)]),
    "two.csv": ("run,boot_s,boot_ms\n1,60,60123\n2,61,61040\n", [("1", "boot", 60.123), ("2", "boot", 61.04)]),
}


@pytest.mark.parametrize("name", READ)
def test_what_people_have_is_read(tmp_path, name):
    plain, expected = READ[name]
    table = read(written(tmp_path, name, plain))
    found = rows(table, "run", "phase", "seconds")
    assert [(run, phase, s and round(s, 9)) for run, phase, s in found] == expected


def test_what_a_tool_says_beside_its_times_is_read_too(tmp_path):
    assert read(written(tmp_path, "a.json", TIMES))["outcome"].tolist() == ["passed", "failed"]
    job = read(written(tmp_path, "b.json", JOBS))
    assert rows(job, "outcome", "parent") == [(None, None), ("passed", None), ("passed", "run job")]
    assert set(read(written(tmp_path, "c.json", [POD]))["machine"]) == {"node-1"}
    perfkit = read(written(tmp_path, "d.json", lines(SAMPLES)), reading(group_by="cloud"))
    assert set(perfkit["group"]) == {"cloud GCP"}
    assert perfkit.attrs["notes"] == ["1 row in units of no time (count) not counted"]
    assert "quantiles" in read(written(tmp_path, "e_stats.csv", STATS)).attrs["notes"][0]


def test_a_file_that_pyperf_made_is_read(tmp_path):
    place = tmp_path / "made.json"
    few = ["--processes=1", "--values=3", "--warmups=0", "--loops=1"]
    words = [sys.executable, "-m", "pyperf", "timeit", "int()", *few, "-o", place, "--quiet"]
    subprocess.run(words, check=True, timeout=120, capture_output=True)
    table = read(place)
    assert rows(table, "phase") == [("timeit",)] * 3
    assert table["seconds"].between(0, 1, inclusive="neither").all()


@pytest.mark.skipif(not shutil.which("hyperfine"), reason="hyperfine is not installed")
def test_a_file_that_hyperfine_made_is_read(tmp_path):
    place = tmp_path / "made.json"
    words = ["hyperfine", "--runs", "3", "--warmup", "0", "--ignore-failure", "--export-json", place, "true", "false"]
    subprocess.run(words, check=True, timeout=60, capture_output=True)
    table = read(place)
    assert rows(table, "phase", "outcome") == [("true", "passed")] * 3 + [("false", "failed")] * 3
    assert table["seconds"].between(0, 1).all()


def test_a_file_that_pytest_benchmark_made_is_read(tmp_path):
    test = "def test_it(benchmark):\n    benchmark.pedantic(int, rounds=4)\n"
    words = [
        sys.executable,
        "-m",
        "pytest",
        written(tmp_path, "test_made.py", test),
        f"--benchmark-json={tmp_path / 'made.json'}",
    ]
    plugins = ["-p", "no:vastbench", "-p", "no:nbval", "-p", "no:cacheprovider", "-q"]
    # Below a worker of xdist it would measure nothing.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run([*words, *plugins], check=True, timeout=120, cwd=tmp_path, capture_output=True, env=own)
    table = read(tmp_path / "made.json")
    assert rows(table, "phase") == [("test_made.py::test_it",)] * 4
    assert table["seconds"].between(0, 1, inclusive="neither").all()


@pytest.mark.parametrize("name", READ)
def test_a_file_cut_short_or_empty_is_read_as_far_or_refused_by_name(tmp_path, name):
    whole = written(tmp_path, name, READ[name][0]).read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 9)):
        (tmp_path / name).write_bytes(whole[:size])
        refused = None
        try:
            table = read(tmp_path / name)
        except SettingsError as error:
            refused = error
        assert refused or len(table) <= len(READ[name][1])
        assert refused is None or (name in refused.message and refused.hint)
        assert size or "is empty" in refused.message


# What is asked for by options


@pytest.mark.parametrize(
    ("text", "how", "expected"),
    [
        ("id,elapsed,label\n1,850,x\n", {"unit": "ms"}, [("1", "elapsed", 0.85)]),
        ("id,boot,label\n1,850,x\n", {"unit": "ms", "column": "boot"}, [("1", "boot", 0.85)]),
        ("id,boot_s,copy_s\n1,2,3\n", {"column": ["copy_s"]}, [("1", "copy", 3.0)]),
        ("id,phase,boot,wait_s\n1,a,2,3\n", {"unit": "min", "column": ["boot"]}, [("1", "a", 120.0)]),
        ("id,start,end\n1,0.5,1.5\n", {"unit": "s"}, [("1", "started to ended", 1.0)]),
    ],
)
def test_columns_and_units_can_be_named(tmp_path, text, how, expected):
    assert rows(read(written(tmp_path, "a.csv", text), reading(**how)), "run", "phase", "seconds") == expected


@pytest.mark.parametrize(
    ("name", "plain", "says", "hint"),
    [
        ("a.csv", "id,boot,gpu\n1,850,x\n", "its columns are id, boot, gpu", "--column boot --unit s`"),
        ("a.csv", "id,gpu\n1,x\n", "its columns are id, gpu", "run,phase,seconds"),
        ("a.csv", "id,start,end\n1,0.5,1.5\n", "'start', whose name tells no unit", "--unit s`"),
        ("a.csv", "id,start,end\n1,yesterday,now\n", "'yesterday' in the column 'start', line 2", "empty"),
        ("a.csv", "run,boot_s,boot_ms\n1,60,60123\n2,61,91040\n", "61.000 s and 91.040 s in line 3", "--column boot_s`"),
        ("a.csv", "run,phase,value,unit\n1,a,3,GB\n", "no row whose unit is one of time", "run,phase,seconds"),
        ("a.json", BYTES, "no row whose unit is one of time; the column 'unit' holds 'byte'", "run,phase,seconds"),
        ("a.json", ITEMS | {"dataItems": [ITEMS["dataItems"][0] | {"unit": "1/s"}]}, "holds '1/s'", "run,phase,seconds"),
        ("a.jsonl", '{"boot_s": 1.5}\n{"boo', "is not JSON in line 2", "cut off"),
        (
            "a.json",
            {"results": [{"command": "x", "mean": 1.0}]},
            "is from hyperfine and holds no single timings",
            "--export-json",
        ),
        ("a.json", {"results": [{"command": "x", "times": 3}]}, "looks like hyperfine, but is broken", "again"),
        ("a.json", {"benchmarks": [{"name": "x", "stats": {"mean": 1}}]}, "is from pytest-benchmark", "--benchmark-json"),
        ("a.json", [{"quantileName": "Ready", "metricName": "podLatencyQuantilesMeasurement"}], "kube-burner", "podLatencyM"),
        ("a.json", {"a": {"b": {"seconds": 3}}}, "hyperfine, pyperf, pytest-benchmark", "flat records"),
        ("a.json", {"dataItems": [{"data": {}, "unit": "ms"}]}, "holds no timings", "flat records"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_would_read_it(tmp_path, name, plain, says, hint):
    with pytest.raises(SettingsError) as asked:
        read(written(tmp_path, name, plain))
    assert says in asked.value.message
    assert hint in asked.value.hint


@pytest.mark.parametrize(
    ("how", "says"),
    [({"unit": "parsec"}, "'parsec' is no unit of time"), ({"column": "bot"}, "no column 'bot'"), ({"group_by": "gp"}, "'gp'")],
)
def test_an_option_that_means_nothing_is_refused_by_name(tmp_path, how, says):
    with pytest.raises(SettingsError, match=says):
        read(written(tmp_path, "a.csv", "id,boot,gpu\n1,850,x\n"), reading(**how))


def test_a_unit_that_was_not_needed_is_said(tmp_path):
    table = read(written(tmp_path, "a.csv", "run,boot_s\n1,2\n"), reading(unit="ms"))
    assert "the unit ms was not needed" in table.attrs["notes"][0]
    assert table["seconds"].tolist() == [2.0]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_a_file_that_would_fill_the_memory_is_refused_unread(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(LARGEST_MB * 1_000_000 + 1)  # a hole: it takes no disk
    with pytest.raises(SettingsError, match=f"at most {LARGEST_MB} are read"):
        read(tmp_path / name)


def test_a_file_of_too_many_rows_is_refused_before_it_is_a_table(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"boot_s\n" + b"1\n" * (MOST_ROWS + 1))
    with pytest.raises(SettingsError, match="more than 1,000,000 rows"):
        read(tmp_path / "a.csv")


def test_anybodys_parquet_is_read(tmp_path):
    import pandas as pd

    pd.DataFrame({"run": ["a", "b"], "boot_ms": [1500.0, math.nan], "status": ["ok", "failed"]}).to_parquet(
        tmp_path / "a.parquet"
    )
    assert rows(read(tmp_path / "a.parquet"), "run", "seconds", "outcome") == [("a", 1.5, "passed"), ("b", None, "failed")]
