"""One run that rents two machines at once: leases, labels, money, phases and figures are of each machine."""

import signal
import threading
import time
from dataclasses import replace

import pytest

from tests.fleet import bench, live, reachable
from tests.processes import command, emulator_process
from tests.profiles import certain
from tests.scenarios.pair import HAND_OVER, PAIR, STANDBY
from vastbench.analysis.bottleneck import shares
from vastbench.analysis.frames import phases_table, runs_from, runs_table, timeline
from vastbench.analysis.summary import phase_summary
from vastbench.analysis.useful import until_useful
from vastbench.charts import phase_waterfall
from vastbench.emulator import Emulator
from vastbench.errors import CheckFailed
from vastbench.record.conditions import Conditions
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.phases import Outcome, PhaseName, of_machine
from vastbench.rental.label import read_label
from vastbench.rental.offers import choose, query
from vastbench.report.build import build_report, of_table
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.crew import Keeper
from vastbench.scenarios.drill import Drill
from vastbench.store import Store

SPEED = 30
CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60)
BOTH = ("", STANDBY)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of the pair in which the second machine begins before the first, and the leases that it left in the store."""
    folder, begun, rental = tmp_path_factory.mktemp("pair"), threading.Event(), Drill._rental

    def first_comes_last(drill, machine, clock):
        if machine != STANDBY:
            begun.wait(10)
        made = rental(drill, machine, clock)
        begun.set()
        return made

    with (
        pytest.MonkeyPatch.context() as patch,
        bench(folder, profile=certain(folder), seed=4, speed=SPEED) as opened,
    ):
        patch.setattr(Drill, "_rental", first_comes_last)
        return opened.run(CONDITIONS, scenario="pair"), opened.store.leases(), opened.store.run("last")


def destroyed(leases):
    """Those that had an instance: on a busy machine a create may come too early, and is refused and made again."""
    return [lease for lease in leases if lease.verdict == "destroyed"]


def test_each_machine_has_its_phases_its_attempt_and_its_lease(made):
    run, leases, _ = made
    assert (run.outcome, run.cause) == (Outcome.PASSED, "")
    assert {phase.name for phase in run.phases} == set(PAIR.timeline)
    went_through = [attempt for attempt in run.attempts if attempt.outcome is Outcome.PASSED]
    assert [attempt.number for attempt in run.attempts] == list(range(1, len(run.attempts) + 1))
    assert len({attempt.machine_id for attempt in went_through}) == len(went_through) == 2
    assert {lease.state for lease in leases} == {"closed"}
    assert {read_label(lease.label).attempt for lease in destroyed(leases)} == {attempt.number for attempt in went_through}


def test_both_are_rented_at_the_same_time_and_nothing_is_counted_twice(made):
    run, _, _ = made
    first, second = (run.phase(of_machine(one, PhaseName.WAIT_RUNNING)) for one in BOTH)
    assert first.start.upper < second.end.lower
    assert second.start.upper < first.end.lower
    rows = {row.name: row for row in run.rows()}
    assert 0 <= rows[PhaseName.UNATTRIBUTED].seconds < run.total_s / 2
    assert sum(row.seconds for row in rows.values() if row.depth == 0) > run.total_s
    assert rows["standby: pull image"].depth == 1


def test_the_record_holds_each_machine_and_the_cost_of_both(made):
    run, _, stored = made
    (other,) = run.resources["machines"]
    assert other["name"] == STANDBY
    assert len({got["machine_id"] for got in run.rented}) == 2
    assert other["guest"]["trusted"]
    assert run.guest["trusted"]
    assert 0 < other["cost"]["gpu_usd"] < run.cost.gpu_usd
    price = run.resources["usd_per_hour"] + other["resources"]["usd_per_hour"]
    assert run.cost.naive_usd == pytest.approx(price * run.total_s / 3600)
    assert stored == run_from_dict(run_to_dict(run)) == run


def test_the_printed_tree_keeps_its_columns_and_the_price_is_of_both(made):
    run, _, _ = made
    lines = str(run).splitlines()
    ends = {len(line.split("  ◀")[0]) for line in lines if line.endswith("%") or "◀" in line}
    assert len(ends) == 1
    assert f"${run.usd_per_hour:.4f}/h" in lines[1]
    assert run.usd_per_hour == pytest.approx(sum(got["usd_per_hour"] for got in run.rented))


def test_frame_summary_report_and_chart_show_it_without_knowing_of_it(made, tmp_path):
    run, _, _ = made
    frame = phases_table([run])
    order = list(timeline(frame))
    assert sorted(order) == sorted([*PAIR.timeline, "unattributed", "total"])
    assert order.index("standby: wait running") < order.index("standby: pull image") < order.index(HAND_OVER)
    assert runs_table(frame)["standby_wait_running_s"].item() == run.seconds("standby: wait running")
    assert until_useful(frame)["median_s"].item() == run.phase(HAND_OVER).end.upper
    summary = phase_summary(frame).set_index("phase")
    assert summary.loc["standby: pull image", "parent"] == "standby: wait running"
    assert shares(frame).empty  # its phases passed at the same time, so that no share of the total is one's own
    assert [phase.parent for phase in runs_from(frame)[0].phases] == [phase.parent for phase in run.phases]
    shown = {text.get_text().strip() for text in phase_waterfall(frame).get_yticklabels()}
    assert {"wait running", "standby: wait running", HAND_OVER} <= shown
    index = build_report(of_table(phases_table([run])), tmp_path / "report", notebooks=())
    page = index.read_text("utf-8")
    assert "standby: wait running" in page
    assert HAND_OVER in page


def worst_of_a_run(opened) -> float:
    offer = choose(opened.api.search_offers(query(CONDITIONS)).value, CONDITIONS)
    return PAIR.worst_case_usd(CONDITIONS, offer.usd_per_hour(CONDITIONS.disk_gb))


def test_the_budget_holds_the_worst_case_of_both(tmp_path, monkeypatch):
    with Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast:
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=9) as opened:
            enough = 1.5 * worst_of_a_run(opened)
            opened._provisioner.budget.limit_usd = 0.75 * worst_of_a_run(opened)
            refused = opened.run(CONDITIONS, scenario="pair")
            assert (refused.outcome, refused.cause) == (Outcome.CENSORED, "budget")
            assert vast.alive == []
            opened._provisioner.budget.limit_usd = opened.spent_usd + enough
            assert opened.run(CONDITIONS, scenario="pair").cause == ""
        assert {lease.state for lease in Store(tmp_path / "runs.sqlite").leases()} == {"closed"}


def test_when_one_machine_cannot_be_had_the_other_is_given_back_at_once(tmp_path):
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED) as opened:
        offers = opened.api.search_offers(query(CONDITIONS)).value
        prices = sorted(offer.usd_per_hour(CONDITIONS.disk_gb) for offer in offers)
        only_one = Conditions(boot_deadline_s=120, ssh_deadline_s=60, max_usd_per_hour=(prices[0] + prices[1]) / 2)
        run = opened.run(only_one, scenario="pair")
        assert (run.outcome, run.cause) == (Outcome.FAILED, "no_offer")
        assert run.total_s < only_one.boot_deadline_s
        assert opened.emulator.alive == []
        assert opened.store.leases(open_only=True) == []


def test_a_run_whose_machines_may_not_exist_at_once_rents_none(tmp_path):
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED, max_instances=1) as opened:
        run = opened.run(CONDITIONS, scenario="pair")
        assert (run.cause, run.attempts) == ("budget", ())
        assert "--max-instances 2" in run.detail


def test_killed_with_both_machines_rented_reap_closes_both(tmp_path):
    slow = tmp_path / "slow.toml"
    boot = 'running = { kind = "fixed", value = 400, basis = "assumption" }'
    slow.write_text(f'extends = "{certain(tmp_path)}"\nabout = "A slow boot"\n[boot]\n{boot}\n')
    store = tmp_path / "runs.sqlite"
    with emulator_process(tmp_path, "--profile", str(slow), "--speed", str(SPEED)) as environment:
        with live("pair", store, environment) as process:
            assert held_within(60, store, 2)
            process.send_signal(signal.SIGKILL)
        reaped = command("reap", "--live", "--yes", "--store", store, env=environment, cwd=tmp_path)
        assert reaped.returncode == 0, reaped.stderr
        with Store(store) as opened:
            assert {lease.state for lease in opened.leases()} == {"closed"}
            assert len(destroyed(opened.leases())) == 2


def held_within(seconds: int, store, count: int) -> bool:
    for _ in range(seconds * 5):
        if store.exists():
            with Store(store) as opened:
                if sum(lease.state == "held" for lease in opened.leases()) == count:
                    return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_what_breaks_in_while_machines_are_asked_for_leaves_none(tmp_path, monkeypatch, stop):
    start, started = Keeper.start, []

    def breaks(keeper):
        start(keeper)
        started.append(keeper)
        if len(started) == 2:
            raise stop("broke in")

    monkeypatch.setattr(Keeper, "start", breaks)
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED) as opened:
        alive, save = [], opened.store.save_run_or_keep
        monkeypatch.setattr(opened.store, "save_run_or_keep", lambda run: (alive.append(opened.emulator.alive), save(run)))
        if stop is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                opened.run(CONDITIONS, scenario="pair")
        else:
            assert opened.run(CONDITIONS, scenario="pair").cause == "internal"
        assert alive == [[]]
        assert opened.store.leases(open_only=True) == []


def test_a_body_that_fails_gives_both_back_and_both_attempts_say_so(tmp_path, monkeypatch):
    def run(drill):
        with drill.rent_all():
            raise CheckFailed("no good", hint="")

    monkeypatch.setitem(SCENARIOS, "bad", replace(PAIR, name="bad", run=run))
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=SPEED, budget_usd=9) as opened:
        made = opened.run(CONDITIONS, scenario="bad")
        assert (made.outcome, made.cause) == (Outcome.FAILED, "check_failed")
        assert [attempt.cause for attempt in made.attempts if attempt.instance_id] == ["check_failed", "check_failed"]
        assert opened.emulator.alive == []
        assert 0 < opened.spent_usd == pytest.approx(made.cost.at_most_usd)
