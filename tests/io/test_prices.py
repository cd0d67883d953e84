"""The price table: what is malformed is refused with its line, what is doubtful is said, nothing is corrected."""

import csv
import json
from datetime import date

import pandas as pd
import pytest

from tests.processes import clean_environment, command
from vastbench.bundled import shared
from vastbench.errors import NotFound, SettingsError
from vastbench.io.prices import ADDED, COLUMNS, RULES, check, prices
from vastbench.render.pricelist import findings_text, price_cells

TODAY = date(2026, 6, 1)
ROW = {
    "provider": "Somebody",
    "instance_type": "one",
    "region": "here",
    "gpu_name": "L4",
    "gpu_count": "1",
    "gpu_memory_gb": "24",
    "vcpus": "8",
    "memory_gb": "32",
    "price_usd_per_hour": "0.80",
    "pricing": "on-demand",
    "as_of": "2026-05-24",
    "source": "a page",
}


def table(tmp_path, *changes):
    """A file with one good row for each dict of changes to it."""
    path = tmp_path / "prices.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows([ROW | change for change in changes])
    return path


def doubts(tmp_path, *changes, today=TODAY):
    """The findings about such a file, as (line, rule)."""
    found = check(prices(table(tmp_path, *changes)), today=today)
    return list(zip(found["row"], found["rule"], strict=True))


def test_the_table_that_comes_with_vastbench_is_read_as_it_is_written():
    with (shared("data/prices") / "gpu_prices.csv").open(newline="") as file:
        plain = list(csv.DictReader(file))
    read = prices()
    assert list(read.columns) == [*plain[0], *ADDED]
    assert read.index.tolist() == list(range(2, len(plain) + 2))
    assert read["price_usd_per_hour"].tolist() == [float(row["price_usd_per_hour"]) for row in plain]
    assert read["placed"].eq("source").tolist() == [row["region"] != "" for row in plain]
    assert read["region"].tolist() == [row["region"] or given for row, given in zip(plain, read["region"], strict=True)]
    assert read["as_of"].dt.strftime("%Y-%m-%d").tolist() == [row["as_of"] for row in plain]
    assert read["gpu_memory_gb"].isna().sum() == sum(row["gpu_memory_gb"] == "" for row in plain)


def test_a_newer_table_of_the_same_columns_can_be_read(tmp_path):
    read = prices(table(tmp_path, {}, {"region": "", "vcpus": "", "price_usd_per_hour": "1e1"}))
    assert read["price_usd_per_hour"].tolist() == [0.8, 10.0]
    assert read["region"].isna().tolist() == [False, True]
    assert pd.isna(read["vcpus"].iloc[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price_usd_per_hour", "nan"),
        ("price_usd_per_hour", "-0.5"),
        ("price_usd_per_hour", "0"),
        ("price_usd_per_hour", "1e999"),
        ("price_usd_per_hour", "1_000"),
        ("price_usd_per_hour", "$0.8"),
        ("price_usd_per_hour", ""),
        ("gpu_count", "1.5"),
        ("gpu_count", ""),
        ("gpu_memory_gb", "24 GB"),
        ("as_of", "24.05.2026"),
        ("as_of", "2026-02-30"),
        ("as_of", ""),
        ("pricing", "reserved"),
        ("provider", ""),
        ("source", " "),
    ],
)
def test_a_malformed_value_is_refused_with_its_line_its_column_and_itself(tmp_path, name, value):
    with pytest.raises(SettingsError) as refused:
        prices(table(tmp_path, {}, {}, {name: value}))
    for word in ("line 4", name, repr(value.strip())):
        assert word in str(refused.value)


def test_a_missing_column_is_named(tmp_path):
    path = table(tmp_path, {})
    path.write_text(path.read_text().replace("as_of", "when"))
    with pytest.raises(SettingsError, match="lacks the columns as_of"):
        prices(path)


@pytest.mark.parametrize("kept", [0, 40, -1, -5, -20, -60])
def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path, kept):
    path = table(tmp_path, {}, {})
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n")[: kept or None] if kept else b"")
    with pytest.raises(SettingsError, match=r"cut off|lacks the columns"):
        prices(path)


def test_a_line_with_too_many_or_too_few_fields_is_refused_with_its_number(tmp_path):
    path = table(tmp_path, {}, {})
    path.write_text(path.read_text() + "Somebody,one,here\n")
    with pytest.raises(SettingsError, match="line 4: 3 fields instead of 12"):
        prices(path)


def test_a_file_without_prices_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="holds no prices"):
        prices(table(tmp_path))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'"provider,instance'])
def test_what_is_no_csv_is_refused(tmp_path, content):
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    with pytest.raises(SettingsError):
        prices(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.csv"):
        prices(tmp_path / "nowhere.csv")


def test_good_rows_raise_no_doubt(tmp_path):
    assert doubts(tmp_path, {}, {"price_usd_per_hour": "1.00"}) == []


def test_a_row_without_a_region_is_placed_by_a_rule_or_said(tmp_path):
    placed = prices(table(tmp_path, {"provider": "Lambda", "region": ""}, {"region": ""}))
    assert placed["region"].tolist()[:1] == ["all regions"]
    assert placed["region"].isna().tolist() == placed["placed"].isna().tolist() == [False, True]
    assert doubts(tmp_path, {}, {"region": ""}) == [(3, "missing region")]


def test_a_date_is_stale_after_365_days_and_wrong_after_today(tmp_path):
    rows = [{"as_of": "2025-06-01"}, {"as_of": "2025-05-31"}, {"as_of": "2026-06-01"}, {"as_of": "2026-06-02"}]
    assert doubts(tmp_path, *rows) == [(5, "date in the future"), (3, "stale date")]


def test_spot_above_on_demand_is_found_in_the_region_of_its_zone(tmp_path):
    spot = {"pricing": "spot", "region": "here (zone-1)", "price_usd_per_hour": "0.90"}
    assert doubts(tmp_path, {}, spot) == [(3, "spot above on-demand")]


@pytest.mark.parametrize(
    "other",
    [
        {"price_usd_per_hour": "0.80"},
        {"region": "there"},
        {"instance_type": "another"},
        {"provider": "Another"},
        {"gpu_count": "2"},
    ],
)
def test_spot_above_on_demand_of_something_else_is_no_finding(tmp_path, other):
    assert doubts(tmp_path, {}, {"pricing": "spot", "price_usd_per_hour": "0.90"} | other) == []


@pytest.mark.parametrize(("usd", "found"), [("0.39", True), ("0.41", False), ("2.49", False), ("2.51", True)])
def test_a_price_per_gpu_far_from_its_peers_is_found(tmp_path, usd, found):
    peers = [{"price_usd_per_hour": price} for price in ("1.00", "1.00", "1.00", usd)]
    assert doubts(tmp_path, *peers) == ([(5, "far from peers")] if found else [])


def test_peers_have_the_same_gpu_memory_and_tier_and_are_four_at_least(tmp_path):
    peers = [{"price_usd_per_hour": "1.00"}] * 3
    for other in ({"gpu_name": "L40S"}, {"gpu_memory_gb": "48"}, {"pricing": "marketplace"}, {"gpu_count": "5"}):
        assert doubts(tmp_path, *peers, {"price_usd_per_hour": "5.00"} | other) == []
    assert doubts(tmp_path, *peers[:2], {"price_usd_per_hour": "5.00"}) == []


def test_one_gpu_at_the_price_of_many_is_found(tmp_path):
    many = {"instance_type": "four", "gpu_count": "4", "price_usd_per_hour": "3.20"}
    assert doubts(tmp_path, {"price_usd_per_hour": "1.59"}, many) == []
    assert doubts(tmp_path, {"price_usd_per_hour": "1.61"}, many) == [(2, "one GPU priced like many")]
    assert doubts(tmp_path, {"price_usd_per_hour": "1.61"}, many | {"provider": "Another"}) == []


def test_a_machine_of_gcp_without_its_accelerator_is_found(tmp_path):
    # The catalogue's own row of a2-highgpu-1g reads 0.73948; the A100 is another row, 2.93391.
    machine = {
        "provider": "GCP",
        "instance_type": "a2-highgpu-1g",
        "gpu_name": "A100",
        "gpu_memory_gb": "40",
        "vcpus": "12",
        "memory_gb": "85",
    }
    assert doubts(tmp_path, machine | {"price_usd_per_hour": "0.73948"}) == [(2, "GCP machine without accelerator")]
    assert doubts(tmp_path, machine | {"price_usd_per_hour": "3.67339"}) == []
    assert doubts(tmp_path, machine | {"price_usd_per_hour": "0.73948", "provider": "Another"}) == []


def test_the_bundled_table_gives_the_findings_that_it_deserves():
    found = check(prices(), today=date(2026, 11, 23))
    rows = {rule: sorted(found.loc[found["rule"] == rule, "row"]) for rule in RULES}
    with (shared("data/prices") / "gpu_prices.csv").open(newline="") as file:
        plain = dict(enumerate(csv.DictReader(file), start=2))
    assert rows["missing region"] == []
    assert rows["stale date"] == [line for line, row in plain.items() if row["as_of"] < "2025-11-23"]
    named = [plain[line]["instance_type"] for line in rows["one GPU priced like many"]]
    assert named == ["g6.16xlarge", "g6.16xlarge"], "64 CPUs and one L4, at most of the price of four"
    assert "g6.16xlarge" in [plain[line]["instance_type"] for line in rows["far from peers"]]
    assert rows["spot above on-demand"] == rows["GCP machine without accelerator"] == rows["date in the future"] == []


def test_an_empty_table_gives_an_empty_answer(tmp_path):
    none = check(prices(table(tmp_path, {})).iloc[:0], today=TODAY)
    assert none.empty
    assert list(none.columns) == ["row", "rule", "detail", "explained"]


@pytest.fixture
def call(tmp_path):
    """Run ``vastbench prices``."""

    def run(*words):
        return command("prices", *words, env=clean_environment(tmp_path), cwd=tmp_path)

    return run


def test_the_command_lists_one_gpu_cheapest_first(call):
    lines = call("--gpu", "rtx 4090").stdout.splitlines()
    assert len(lines) == 1 + prices()["gpu_name"].eq("RTX 4090").sum()
    per_gpu = [float(line.split()[-2]) for line in lines[1:]]
    assert per_gpu == sorted(per_gpu)
    assert "British Columbia, CA" in lines[1]
    assert "2026-01-02" in lines[1]


def test_the_command_gives_the_table_to_programs(call):
    listed = json.loads(call("--gpu", "B200", "--json").stdout)
    assert {row["gpu_name"] for row in listed} == {"B200 SXM"}
    assert [row["as_of"] for row in listed if row["gpu_memory_gb"] is None] == ["2026-02-07", "2026-02-07"]
    assert {(row["placed"], row["boot_billed"]) for row in listed} == {("source", False), ("one price", False)}


def test_the_command_says_which_rows_to_doubt(call, tmp_path):
    path = table(tmp_path, {}, {"pricing": "spot", "price_usd_per_hour": "0.90", "as_of": "2020-01-01"})
    done = call("--check", "--file", path)
    assert "spot above on-demand: 1 of 2 rows\n  line 3: spot $0.9000 is above on-demand $0.8000" in done.stdout
    assert {(one["row"], one["rule"]) for one in json.loads(call("--check", "--file", path, "--json").stdout)} >= {
        (3, "spot above on-demand"),
        (3, "stale date"),
    }


def test_foreign_names_cannot_drive_a_terminal(call, tmp_path):
    shown = call("--file", table(tmp_path, {"provider": "\x1b[2JSomebody"})).stdout
    assert "[2JSomebody" in shown
    assert "\x1b" not in shown


def test_what_explains_a_finding_stands_beside_it(tmp_path):
    rows = [{"provider": "AWS", "instance_type": "g6.16xlarge", "as_of": "2020-01-01"}, {"region": ""}]
    text = findings_text(check(prices(table(tmp_path, *rows)), today=TODAY), 2)
    assert "line 2: as of 2020-01-01, 2343 days ago (kept as the only prices of these offers" in text
    assert text.endswith("2 findings, 1 of them not explained.")


def test_stale_prices_say_so_in_the_list(tmp_path):
    old, new = price_cells(prices(table(tmp_path, {"as_of": "2025-05-31"}, {"as_of": "2025-06-01"})), TODAY)
    assert (old[6], new[6]) == ("2025-05-31 stale", "2025-06-01")


def test_a_table_without_doubts_says_so(tmp_path):
    assert findings_text(check(prices(table(tmp_path, {})), today=TODAY), 1) == "No doubts about 1 rows."


@pytest.mark.parametrize(("words", "named"), [(["--gpu", "Voodoo"], "'Voodoo'"), (["--file", "nowhere.csv"], "nowhere.csv")])
def test_the_command_names_what_is_not_there(call, words, named):
    done = call(*words)
    assert done.returncode == 2
    assert named in done.stderr
