"""What we paid beside the price table, and the published report's ratios with what they leave unsaid."""

from dataclasses import replace

import pandas as pd
import pytest

from vastbench.analysis.attempts import pool
from vastbench.analysis.cost import cost_summary
from vastbench.analysis.frames import phases_table
from vastbench.analysis.providers import COLUMNS, RATIO_COLUMNS, compare, same_gpu, seed_ratios, without_region
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.io.prices import prices
from vastbench.io.tables import load
from vastbench.record.phases import Outcome, PhaseName

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
TABLE = prices()
AWS = (TABLE["instance_type"] == "g5.xlarge") & (TABLE["region"] == "us-west-2")
BILLABLE_S = 12.36 + 4.18 + 2.13 + 4.21 + 0.48


def runs(*changes):
    """The tidy frame of the published run, once for each dict of changes to what it rented."""
    made = [replace(RUN, id=f"run {i}", resources=RUN.resources | change) for i, change in enumerate(changes)]
    return phases_table(made)


@pytest.fixture(scope="module")
def published():
    return compare(TABLE, phases_table([RUN]))


def test_ours_is_the_first_row_with_place_and_date(published):
    ours = published.iloc[0]
    assert published["ours"].tolist() == [True] + [False] * (len(published) - 1)
    assert (ours["provider"], ours["region"], ours["as_of"]) == ("Vast.ai", "British Columbia, CA", "2026-01-02")
    assert (ours["tier"], ours["gpu"], ours["gpu_count"], ours["gpu_memory_gb"]) == ("marketplace", "RTX 4090", 1, 24)
    assert (ours["usd_per_hour"], ours["ratio_per_hour"], ours["ratio_per_gb_hour"]) == (0.1689, 1, 1)


def test_a_run_elsewhere_is_billed_on_the_terms_of_its_provider(published):
    ours = published.iloc[0]
    assert ours["usd_per_run"] == ours["usd_per_success"] == pytest.approx(0.1689 * 24 / 3600)  # 23.36 s, rounded up
    assert ours["lacking"] == "disk", "the published run does not say what its disk cost"

    def usd(instance_type, region):
        row = published[(published["instance_type"] == instance_type) & (published["region"] == region)].iloc[0]
        assert row["usd_per_run"] == row["usd_per_success"]
        return row["usd_per_run"], row["lacking"]

    assert usd("g5.xlarge", "us-west-2") == (pytest.approx(1.006 * 60 / 3600), "disk")
    assert usd("A40", "all regions")[0] == pytest.approx(1.712), "Vultr bills an hour at least"
    assert usd("a40-48gb", "all regions") == (pytest.approx(0.9 * BILLABLE_S / 3600), "minimum, granularity, disk")


def test_failures_are_paid_on_each_providers_own_terms():
    never = tuple(p for p in RUN.phases if p.name in (PhaseName.CREATE, PhaseName.DESTROY))
    failed = replace(
        RUN, id="never ran", outcome=Outcome.FAILED, cause="boot", phases=never, cost=replace(RUN.cost, gpu_usd=0.0)
    )
    table = compare(TABLE, phases_table([RUN, failed])).set_index("instance_type")
    assert table.loc["2 runs", "usd_per_success"] == pytest.approx(0.1689 * 24 / 3600)
    assert table.loc["2 runs", "usd_per_run"] == pytest.approx(0.1689 * 12 / 3600)
    droplet = table.loc["RTX 4000 Ada"]  # billed from its creation on, five minutes at least
    assert droplet["usd_per_success"] == pytest.approx(2 * 0.76 * 300 / 3600)
    assert droplet["break_even_rate"] == 1, "our failed run cost nothing"


def test_the_break_even_is_where_a_success_costs_as_much_as_there():
    failed = replace(RUN, id="failed", outcome=Outcome.FAILED, cause="ssh")
    for frame in (phases_table([RUN]), phases_table([RUN, failed])):
        row = compare(TABLE[AWS], frame).iloc[1]
        x, paid, there = row["break_even_rate"], 0.1689 * 24, 1.006 * 60
        assert paid + paid * x / (1 - x) == pytest.approx(there)
        assert x == pytest.approx(1 - paid / there)
    dear = compare(TABLE[AWS], runs({"usd_per_hour": 5.0})).iloc[1]
    assert dear["break_even_rate"] == pytest.approx(1 - paid / there), "the meter counts, not the price that is asked"


def test_costs_have_intervals_over_machines():
    frame = compare(TABLE[AWS], load("default-300"))
    for name in ("usd_per_run", "usd_per_success"):
        assert (frame[f"{name}_low"] < frame[name]).all()
        assert (frame[name] < frame[f"{name}_high"]).all()
    assert frame["lacking"].tolist() == ["", "disk"]
    summary = cost_summary(load("default-300")).set_index("meter")
    modelled = frame["usd_per_success"].iloc[0]
    metered = (summary.loc["gpu", "total_usd"] + summary.loc["storage", "total_usd"]) / 270
    assert 0 <= modelled - metered < 1.2 * frame["usd_per_hour_high"].iloc[0] / 3600  # a second of each run at most


def test_prices_are_per_hour_per_gpu_and_per_gb(published):
    eight = published[published["instance_type"] == "8x-RTX_4090-32-65536"].iloc[0]
    assert eight["usd_per_gpu_hour"] == pytest.approx(2.77 / 8)
    assert eight["usd_per_gb_hour"] == pytest.approx(2.77 / 8 / 24)
    assert eight["ratio_per_hour"] == pytest.approx(2.77 / 0.1689)
    assert eight["ratio_per_gb_hour"] == pytest.approx(2.77 / 8 / 0.1689)


def test_rows_without_a_region_are_left_out_and_can_be_counted(published):
    assert len(published) - 1 == len(TABLE)
    unplaced = TABLE.assign(region=TABLE["region"].where(TABLE["provider"] != "AWS"))
    left = compare(unplaced, phases_table([RUN]))
    assert left["region"].notna().all()
    assert len(left) - 1 + len(without_region(unplaced)) == len(TABLE)
    assert len(without_region(unplaced)) == (TABLE["provider"] == "AWS").sum()


def test_a_price_is_stale_a_year_before_our_last_run(published):
    stale = published[published["stale"]]
    assert stale["as_of"].max() < "2025-01-02" < published[~published["stale"]]["as_of"].min()
    later = phases_table([RUN, replace(RUN, id="later", started_at="2027-06-01T00:00:00+00:00")])
    assert compare(TABLE, later)["stale"].sum() == len(TABLE) - (TABLE["as_of"] >= "2026-06-01").sum()


def test_what_the_table_does_not_say_stays_missing(published):
    unsaid = published["gpu_memory_gb"].isna()
    assert unsaid.sum() == 2  # two rows of B200
    assert published.loc[unsaid, ["usd_per_gb_hour", "ratio_per_gb_hour"]].isna().all(axis=None)
    assert published.loc[unsaid, "ratio_per_hour"].notna().all()


def test_ours_is_the_median_price_of_all_runs():
    frame = runs(*[{"usd_per_hour": usd} for usd in (0.1, 0.2, 0.9)], {"usd_per_hour": None})
    ours = compare(TABLE[AWS], frame).iloc[0]
    assert (ours["usd_per_hour"], ours["instance_type"]) == (0.2, "3 runs")


def test_regions_and_days_are_named_while_they_are_few():
    few = runs({"region": "b"}, {"region": "a"}, {"region": "b"})
    assert compare(TABLE[AWS], few)["region"].iloc[0] == "a; b"
    many = runs(*[{"region": name} for name in "abcd"])
    assert compare(TABLE[AWS], many)["region"].iloc[0] == "4 regions"
    days = phases_table([RUN, replace(RUN, id="later", started_at="2026-02-03T00:00:00+00:00")])
    assert compare(TABLE[AWS], days)["as_of"].iloc[0] == "2026-01-02 to 2026-02-03"


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["emulator", "emulator"], "Vast.ai (emulated)"),
        (["emulator", "live"], "Vast.ai (partly emulated)"),
        (["live", "import"], "Vast.ai"),
    ],
)
def test_emulated_prices_say_so(sources, name):
    frame = pool(phases_table([replace(RUN, id=str(i), source=source) for i, source in enumerate(sources)]))
    assert compare(TABLE[AWS], frame)["provider"].iloc[0] == name


def test_ours_is_the_kind_of_gpu_that_was_rented_most():
    frame = runs({"gpu_name": "A"}, {"gpu_name": "B"}, {"gpu_name": "B", "usd_per_hour": 0.4}, {"gpu_name": "B", "num_gpus": 2})
    ours = compare(TABLE[AWS], frame).iloc[0]
    assert (ours["gpu"], ours["gpu_count"], ours["usd_per_hour"]) == ("B", 1, pytest.approx((0.1689 + 0.4) / 2))


def test_what_the_run_does_not_know_stays_missing():
    ours = compare(TABLE[AWS], runs({"num_gpus": None, "gpu_ram_mb": None, "region": None})).iloc[0]
    assert ours[["gpu_count", "gpu_memory_gb", "region", "usd_per_gpu_hour", "ratio_per_gb_hour"]].isna().all()
    assert ours["ratio_per_hour"] == 1


def test_no_run_that_passed_gives_no_cost_per_success():
    failed = phases_table([replace(RUN, outcome=Outcome.FAILED, cause="ssh")])
    comparison = compare(TABLE[AWS], failed)
    assert comparison[["usd_per_success", "break_even_rate"]].isna().all(axis=None)
    assert comparison["usd_per_run"].tolist() == pytest.approx([0.1689 * 24 / 3600, 1.006 * 60 / 3600])
    assert comparison["ratio_per_hour"].tolist() == [1, pytest.approx(1.006 / 0.1689)]


@pytest.mark.parametrize("frame", [phases_table([]), runs({"usd_per_hour": None})], ids=["no run", "no price"])
def test_without_a_price_of_ours_there_is_nothing_to_compare_with(frame):
    comparison = compare(TABLE, frame)
    assert not comparison["ours"].any()
    assert comparison[["ratio_per_hour", "ratio_per_gb_hour", "usd_per_run"]].isna().all(axis=None)
    assert same_gpu(comparison).empty
    assert list(comparison.columns) == list(COLUMNS)


def test_an_empty_price_table_leaves_ours():
    assert compare(TABLE.iloc[:0], phases_table([RUN]))["ours"].tolist() == [True]


def test_the_same_gpu_elsewhere(published):
    found = same_gpu(published)
    assert set(found["gpu"]) == {"RTX 4090"}
    assert found["ours"].iloc[0]
    assert sorted(found["usd_per_hour"][1:]) == [0.1689, 0.17, 0.188, 0.31, 0.34, 0.35, 0.4, 0.44, 0.69, 2.77]


@pytest.mark.parametrize(("name", "memory_mb"), [("A100_PCIE", 81920), ("NVIDIA A100 PCIe", 81251)])
def test_names_of_one_gpu_are_one_gpu_and_its_memory_counts(name, memory_mb):
    a100 = TABLE[TABLE["gpu_name"] == "A100 PCIe"].fillna({"region": "somewhere"})
    found = same_gpu(compare(a100, runs({"gpu_name": name, "gpu_ram_mb": memory_mb})))
    assert len(found) == 1 + (a100["gpu_memory_gb"] == 80).sum()
    assert (a100["gpu_memory_gb"] == 40).any()


def test_the_ratios_of_the_published_report():
    ratios = seed_ratios(TABLE)
    assert ratios["ratio"].round(2).tolist() == [5.96, 21.75, 3.65]
    assert ratios["dear_usd_per_hour"].round(3).tolist() == [1.006, 3.673, 3.673]
    assert ratios["cheap_usd_per_hour"].tolist() == [0.1689, 0.1689, 1.006]
    assert ratios["dear_gpu"].tolist() == ["A10G", "A100", "A100"]
    assert ratios["dear_gpu_memory_gb"].tolist() == [24, 40, 40]
    assert ratios["cheap_gpu"].tolist() == ["RTX 4090", "RTX 4090", "A10G"]


def test_what_the_published_ratios_leave_unsaid():
    aws, google, clouds = (row for _, row in seed_ratios(TABLE).iterrows())
    # AWS: 1.006 in the cheapest regions, 54 % more in Hong Kong.
    assert (aws["dear_lowest_usd"], aws["dear_highest_usd"]) == (1.006, 1.5488)
    assert aws["dear_highest_usd"] / aws["dear_lowest_usd"] == pytest.approx(1.54, abs=0.001)
    assert aws["ratio_highest"] == pytest.approx(1.5488 / 0.1689)
    # At a usual price of the marketplace, not at the least of 64 offers: 2.5 times, not 6.
    assert (aws["level_usd_per_hour"], round(aws["ratio_at_level"], 1)) == (0.4, 2.5)
    assert google["ratio_at_level"] == pytest.approx(3.67339 / 0.4)
    assert pd.isna(clouds["ratio_at_level"])
    # Per GB: the same memory for AWS, 40 against 24 GB for GCP.
    assert aws["ratio_per_gb"] == pytest.approx(aws["ratio"])
    assert google["ratio_per_gb"] == pytest.approx(21.749 * 24 / 40, abs=0.001)
    assert clouds["ratio_per_gb"] == pytest.approx(3.6515 * 24 / 40, abs=0.001)


def test_other_prices_of_the_same_gpu_are_in_the_table():
    elsewhere = TABLE[(TABLE["gpu_name"] == "RTX 4090") & (TABLE["gpu_count"] == 1)]
    by_provider = elsewhere.groupby("provider")["price_usd_per_hour"].agg(sorted).to_dict()
    assert by_provider == {
        "Vast.ai": [0.1689, 0.188, 0.31, 0.4],
        "RunPod": [0.34, 0.69],
        "TensorDock": [0.35, 0.44],
        "Akash": [0.17],
    }


def test_ratios_whose_prices_are_not_in_the_table_are_left_out():
    assert seed_ratios(TABLE[TABLE["provider"] != "AWS"])["dear"].tolist() == ["GCP a2-highgpu-1g"]
    assert list(seed_ratios(TABLE.iloc[:0]).columns) == list(RATIO_COLUMNS)
