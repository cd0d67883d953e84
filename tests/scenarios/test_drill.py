"""What a scenario may say of itself, and what a drill refuses."""

from dataclasses import replace

import pytest

from tests.fleet import bench
from tests.profiles import certain
from tests.scenarios.pair import PAIR, STANDBY
from vastbench.errors import UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.phases import PhaseName, renting, returning
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.drill import TRIES, Scenario
from vastbench.scenarios.integration import INTEGRATION

CONDITIONS = Conditions(boot_deadline_s=120, ssh_deadline_s=60)
ALONE = {**renting(), **returning()}


def scenario(**changes) -> Scenario:
    known = {"name": "x", "about": "", "timeline": ALONE, "ready": PhaseName.WAIT_SSH, "work_s": 0.0, "run": print}
    return Scenario(**known | changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"machines": ()}, "rents no machine"),
        ({"machines": ("", "")}, "or one twice"),
        ({"machines": ("a: b",)}, "colon"),
        ({"machines": ("", STANDBY)}, "lacks .'standby: "),
        ({"ready": "soon"}, "lacks .'soon'"),
        ({"timeline": ALONE | {"total": None}}, "called like one of"),
        ({"timeline": ALONE | {"retries": None}}, "called like one of"),
        ({"timeline": ALONE | {"b: x": None, "b x": None}}, "same words"),
        ({"timeline": ALONE | {"x" * 41: None}}, "more than 40"),
        ({"name": "x" * 41}, "more than 40"),
        ({"timeline": ALONE | {"x": "pull image"}}, "itself a part"),
    ],
)
def test_a_scenario_that_tables_could_not_show_is_refused(changes, why):
    with pytest.raises(UsageError, match=why):
        scenario(**changes)


def test_each_machine_is_paid_for_the_waits_of_all():
    one, two = INTEGRATION.lifetime_s(CONDITIONS), PAIR.lifetime_s(CONDITIONS)
    boot = CONDITIONS.lifetime_s(0.0)
    assert two == one + TRIES * boot
    assert PAIR.worst_case_usd(CONDITIONS, 0.36) == pytest.approx((2 * two + (TRIES - 1) * boot) * 0.36 / 3600)


@pytest.mark.parametrize("names", [("", ""), ("", "other")])
def test_a_machine_that_the_scenario_does_not_name_is_not_rented(tmp_path, monkeypatch, names):
    def run(drill):
        with drill.rent(names[0]), drill.rent(names[1]):
            raise AssertionError("both were rented")

    monkeypatch.setitem(SCENARIOS, "twice", replace(INTEGRATION, name="twice", run=run))
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=60) as opened:
        made = opened.run(CONDITIONS, scenario="twice")
        assert made.cause == "usage"
        assert f"the machine {names[1]!r} once more than it says" in made.detail
        assert len(opened.store.leases()) == 1
        assert opened.emulator.alive == []
