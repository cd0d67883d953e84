"""One model of billing for all providers: minimum, rounding, boot, disk, failures; an interval over machines; a break-even."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vastbench.analysis.attempts import attempted
from vastbench.analysis.billing import VAST, Mean, Terms, billed, break_even, per, rentals
from vastbench.analysis.frames import phases_table, runs_table
from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.io.tables import load
from vastbench.record.phases import PhaseName, of_machine

RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")
SAMPLE = attempted(load("default-300"))
WORK_S, BOOT_S = 12.36 + 4.18 + 2.13 + 4.21 + 0.48, 72.77


@pytest.mark.parametrize(
    ("terms", "boot", "work", "seconds"),
    [
        (Terms(0, 1, boot_billed=False), 70.0, 23.36, 24.0),
        (Terms(60, 1, boot_billed=False), 70.0, 23.36, 60.0),
        (Terms(60, 1, boot_billed=True), 70.0, 23.36, 94.0),
        (Terms(60, 60, boot_billed=True), 70.0, 23.36, 120.0),
        (Terms(3600, 3600, boot_billed=True), 70.0, 23.36, 3600.0),
        (Terms(60, 60, boot_billed=False), 70.0, 60.0, 60.0),
        (Terms(60, 1, boot_billed=False), 70.0, 0.0, 0.0),
        (Terms(60, 1, boot_billed=True), 0.4, 0.0, 60.0),
        (Terms(), 70.0, 23.36, 23.36),
    ],
    ids=["exact", "minimum", "boot", "per minute", "per hour", "whole", "never ran", "boot alone", "nothing known"],
)
def test_billed_seconds_are_the_minimum_or_what_was_used_rounded_up(terms, boot, work, seconds):
    assert terms.billed_s(np.array([boot]), np.array([work])).tolist() == [seconds]


def test_a_machine_whose_end_is_not_known_is_billed_nothing_known():
    assert np.isnan(VAST.billed_s(np.array([math.nan]), np.array([math.nan]))).all()


def test_what_is_not_known_of_a_provider_is_named():
    assert Terms(60, 1).lacking == ("boot", "disk")
    assert Terms(0, 1, boot_billed=False, disk_usd_per_gb_month=0).lacking == ()


def test_the_published_run_rented_one_machine_that_booted_and_worked():
    (row,) = rentals(phases_table([RUN])).to_dict("records")
    assert (row["run"], row["boot_s"], row["work_s"]) == (RUN.id, pytest.approx(BOOT_S), pytest.approx(WORK_S))


def test_every_try_and_every_machine_of_a_run_is_billed():
    def at(phase, **changes):
        return replace(phase, **changes)

    first = [at(phase, attempt=1) for phase in RUN.phases if phase.name in (PhaseName.CREATE, PhaseName.DESTROY)]
    standby = [at(phase, name=of_machine("standby", phase.name), attempt=3, parent=None) for phase in first]
    second = [at(phase, attempt=2) for phase in RUN.phases]
    rented = rentals(phases_table([replace(RUN, phases=(*first, *second, *standby))]))
    assert len(rented) == 3
    assert sorted(rented["work_s"].round(2)) == [0.0, 0.0, round(WORK_S, 2)]
    bill = billed(rented, runs_table(phases_table([RUN])), Terms(60, 1, boot_billed=True))
    assert bill.hours * 3600 == pytest.approx([97 * 3])  # 96.13 s each, booting or not


def test_no_machine_costs_nothing_and_one_without_an_end_is_not_known():
    without = replace(RUN, id="none", phases=(), resources=RUN.resources | {"instance_id": None})
    lost = replace(RUN, id="lost", phases=tuple(p for p in RUN.phases if p.name != PhaseName.DESTROY))
    frame = phases_table([RUN, without, lost])
    hours = billed(rentals(frame), runs_table(frame), VAST).hours
    assert hours[:2] * 3600 == pytest.approx([24, 0])
    assert math.isnan(hours[2])


def test_a_disk_is_billed_from_creation_to_destruction():
    runs = runs_table(phases_table([RUN])).assign(disk_gb=20.0)
    bill = billed(rentals(phases_table([RUN])), runs, Terms(60, 1, boot_billed=False, disk_usd_per_gb_month=0.1))
    assert bill.disk_usd == pytest.approx([20 * 0.1 / 720 * (BOOT_S + WORK_S) / 3600])
    assert bill.usd(1.006) == pytest.approx([1.006 * 60 / 3600 + bill.disk_usd[0]])


def test_the_model_gives_what_the_gpu_meter_gave():
    runs, rented = runs_table(SAMPLE), rentals(SAMPLE)
    hours = billed(rented, runs, Terms(boot_billed=False)).hours
    ran = (hours > 0) & (runs["attempts"] == 1).to_numpy()
    rate = runs["gpu_usd"].to_numpy()[ran] / hours[ran]
    assert ran.sum() > 200
    # The GPU's part of the whole price: below it by the disk's.
    assert (rate <= runs["usd_per_hour"].to_numpy()[ran] + 1e-9).all()
    assert (rate >= 0.9 * runs["usd_per_hour"].to_numpy()[ran]).all()


def test_a_cost_per_success_holds_what_the_failures_cost():
    usd, good = np.array([1.0, 1.0, 1.0, 3.0]), np.array([True, True, True, False])
    machine = np.arange(4)
    assert per(usd, np.ones(4), machine).value == 1.5
    assert per(usd, good, machine).value == 2.0
    assert math.isnan(per(usd, np.zeros(4), machine).value)


def test_the_interval_of_single_machines_is_that_of_student_on_logarithms():
    from scipy.stats import sem, t

    usd = np.random.default_rng(1).lognormal(size=12)
    factor = math.exp(t.ppf(0.975, 11) * sem(usd) / usd.mean())
    assert per(usd, np.ones(12), np.arange(12)) == pytest.approx((usd.mean(), usd.mean() / factor, usd.mean() * factor))


@pytest.mark.parametrize("good", [False, True], ids=["per run", "per success"])
def test_the_interval_holds_the_truth_in_drawn_campaigns(good):
    random, machine = np.random.default_rng(3), np.repeat(np.arange(12), 8)

    def campaign(machines, each):
        slow = np.repeat(random.normal(scale=0.3, size=machines), each)
        passed = random.random(machines * each) < np.repeat(random.beta(9, 1, size=machines), each)
        usd = np.exp(slow + random.normal(scale=0.4, size=machines * each)) * np.where(passed, 1.0, 2.0)
        return usd, passed if good else np.ones(machines * each)

    usd, of = campaign(100_000, 8)
    truth = usd.sum() / of.sum()
    held = [found.low <= truth <= found.high for found in (per(*campaign(12, 8), machine) for _ in range(1000))]
    assert 0.92 <= np.mean(held) <= 0.98


def test_runs_on_one_machine_count_as_what_they_are():
    usd = np.repeat([1.0, 2.0, 3.0, 4.0], 5)
    alone, together = (per(usd, np.ones(20), machine) for machine in (np.arange(20), np.repeat(np.arange(4), 5)))
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert per(usd, np.ones(20), np.repeat([0, 1], 10))[1:] == pytest.approx((math.nan, math.nan), nan_ok=True)


def test_costs_that_are_not_known_are_left_out():
    assert per(np.array([1.0, math.nan, 3.0]), np.ones(3), np.arange(3)).value == 2.0
    assert per(np.array([]), np.array([]), np.array([], dtype=int)) == pytest.approx(Mean(*[math.nan] * 3), nan_ok=True)


@pytest.mark.parametrize(
    ("passed", "failed", "other", "share"),
    [(1.0, 1.0, 2.0, 0.5), (1.0, 0.5, 2.0, 2 / 3), (2.0, 1.0, 1.0, 0.0), (1.0, 0.0, 2.0, 1.0), (1.0, math.nan, 2.0, math.nan)],
)
def test_at_the_break_even_a_success_costs_the_same_on_both_sides(passed, failed, other, share):
    found = break_even(passed, failed, other)
    assert found == pytest.approx(share, nan_ok=True)
    if 0 < share < 1:
        assert passed + failed * found / (1 - found) == pytest.approx(other)
