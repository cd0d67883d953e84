"""What a dead owner left is closed; what anybody else holds is not touched; what cannot be known stays open."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from tests.profiles import certain
from tests.rental.test_lease import Faulty, refuse
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import ApiUnreadable, RateLimited
from vastbench.owner import owner
from vastbench.record.conditions import Conditions
from vastbench.record.lease import LeaseRow
from vastbench.rental import reap as reaping
from vastbench.rental.label import Label
from vastbench.rental.offers import choose, query
from vastbench.rental.reap import close_after_dead_emulators, not_closed, reap
from vastbench.ssh.keys import RunKey
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest
from vastbench.vast.watch import Watch

SPEED = 60
SOON = timedelta(minutes=20)


@pytest.fixture(scope="module")
def dead():
    """The owner that a process of this machine was that has ended."""
    code = "import json; from vastbench.owner import owner; print(json.dumps(owner()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@dataclass
class Place:
    """A marketplace with a store, and what a test does there."""

    vast: Emulator
    api: VastApi
    store: Store
    clock: Clock

    def label(self, run="run-1", *, mark=None, deadline=SOON):
        return str(Label(mark or self.store.mark, run, 1, datetime.now(UTC) + deadline))

    def rent(self, label):
        """An instance with that label, and no lease."""
        conditions = Conditions()
        offer = choose(self.api.search_offers(query(conditions)).value, conditions)
        return self.api.create_instance(offer.id, CreateRequest("ubuntu:22.04", 20.0, label)).value.new_contract

    def grow_old(self, instance_id, by):
        """Let the marketplace think that the instance was made so much earlier."""
        self.vast._engine._market.contracts[instance_id].created_epoch -= by.total_seconds() * SPEED

    def lease(self, label, whose, *, instance_id=None, opened=timedelta(), deadline=SOON, url=None):
        now = datetime.now(UTC)
        self.store.open_lease(
            LeaseRow(
                label,
                "run-1",
                1,
                url or self.api.url,
                7001,
                0.2,
                (now - opened).isoformat(),
                (now + deadline).isoformat(),
                owner=whose,
                state="held" if instance_id else "intended",
                instance_id=instance_id,
            )
        )
        return label

    def reap(self, **options):
        return reap(self.api, Watch(self.api, self.clock), self.store, self.clock, **options)

    def verdicts(self, **options):
        return {finding.label: finding.verdict for finding in self.reap(**options)}

    def listed(self):
        return [one.id for one in self.api.list_instances().value]


@contextmanager
def place(folder, fault=None):
    clock = Clock(SPEED)
    with (
        Emulator(certain(folder), seed=4, speed=SPEED) as vast,
        Store(folder / "runs.sqlite") as store,
        VastApi(vast.url, vast.api_key, clock=clock, transport=Faulty(fault)) as api,
    ):
        yield Place(vast, api, store, clock)


@pytest.fixture
def here(tmp_path):
    with place(tmp_path) as opened:
        yield opened


def test_what_a_dead_process_held_is_destroyed_and_confirmed(here, dead):
    label = here.label()
    here.lease(label, dead, instance_id=here.rent(label))
    assert here.verdicts() == {label: "destroyed"}
    assert here.listed() == []
    (row,) = here.store.leases()
    assert (row.state, row.verdict) == ("closed", "destroyed")
    assert row.closed_at


def test_a_create_whose_answer_nobody_read_is_found_by_its_label(here, dead):
    label = here.lease(here.label(), dead)
    instance_id = here.rent(label)
    (finding,) = here.reap()
    assert (finding.verdict, finding.instance_id) == ("destroyed", instance_id)
    assert here.listed() == []


@contextmanager
def unlabelled(folder, shown):
    """A marketplace that shows of every label no more than ``shown``: None, or as many characters."""

    def cut(request, send):
        if request.method != "GET" or "/instances/" not in request.url.path:
            return None
        answer = json.loads(send(request).read())
        rows = answer["instances"] if isinstance(answer["instances"], list) else [answer["instances"]]
        for row in filter(None, rows):
            row["label"] = shown and row["label"][:shown]
        return httpx.Response(200, json=answer)

    with place(folder, cut) as here:
        yield here


@pytest.mark.parametrize("shown", [None, 4])
def test_a_create_nobody_answered_is_found_by_its_environment(tmp_path, dead, shown):
    with unlabelled(tmp_path, shown) as here:
        label = here.lease(here.label(), dead)
        here.rent(label)
        assert here.verdicts() == {label: "destroyed"}
        assert here.vast.alive == []


def test_an_environment_that_was_copied_by_hand_makes_no_instance_ours(tmp_path, dead):
    with unlabelled(tmp_path, None) as here:
        label = here.lease(here.label(), dead)
        here.lease(held := here.label("run-2"), dead, instance_id=here.rent(held))
        here.store.close_lease(label, verdict="destroyed")
        copies = [here.rent(label), here.rent(held)]  # of an instance that is gone, and of one that is held
        assert here.verdicts() == {held: "destroyed"}
        assert here.vast.alive == copies


def test_an_intent_without_instance_stays_open_while_a_create_can_be_late(here, dead, monkeypatch):
    label = here.lease(here.label(), dead)
    assert here.verdicts(dry_run=True) == {label: "too early"}
    assert here.store.leases()[0].state == "intended"
    monkeypatch.setattr(reaping, "LATE_CREATE_REAL_S", 1.0)
    assert here.verdicts() == {label: "never created"}
    assert (here.store.leases()[0].state, here.listed()) == ("closed", [])


def test_an_instance_that_appears_while_the_reaper_waits_is_destroyed(here, dead):
    label = here.lease(here.label(), dead)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(lambda: (here.clock.sleep(60), here.rent(label)))
        assert here.verdicts() == {label: "destroyed"}
        late.result()
    assert here.listed() == []


def test_a_living_owner_is_never_touched_even_beyond_its_deadline(here):
    label = here.label()
    instance_id = here.rent(label)
    here.lease(label, owner(), instance_id=instance_id, deadline=-SOON)
    (finding,) = here.reap()
    assert finding.verdict == "left"
    assert "lives" in finding.why
    assert here.listed() == [instance_id]


def test_a_foreign_instance_is_never_touched(here):
    theirs = [here.rent(label) for label in ("training", "vb-mine", here.label() + "-2")]
    assert here.reap() == []
    assert here.listed() == theirs


def test_an_owner_on_another_machine_lives_while_it_gives_signs_of_life(here, dead):
    elsewhere = dead | {"host": "elsewhere"}
    here.store.beat(elsewhere["id"])
    label = here.label()
    here.lease(label, elsewhere, instance_id=here.rent(label))
    assert here.verdicts() == {label: "left"}


def silence(store, whose):
    """The owner gave its last sign of life ten minutes ago."""
    store.beat(whose["id"])
    long_ago = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    with store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE owners SET beat_at = :then WHERE id = :id"), {"then": long_ago, "id": whose["id"]})


def test_an_owner_on_another_machine_that_fell_silent_is_taken_for_dead(here, dead, monkeypatch):
    monkeypatch.setattr(reaping, "BEAT_S", 0.1)
    elsewhere = dead | {"host": "elsewhere"}
    silence(here.store, elsewhere)
    label = here.label()
    here.lease(label, elsewhere, instance_id=here.rent(label))
    assert here.verdicts() == {label: "destroyed"}


def test_a_silence_that_is_but_a_clock_that_goes_wrong_is_none(here, dead, monkeypatch):
    monkeypatch.setattr(reaping, "BEAT_S", 0.1)
    elsewhere = dead | {"host": "elsewhere"}
    silence(here.store, elsewhere)
    monkeypatch.setattr(reaping.time, "sleep", lambda _: here.store.beat(elsewhere["id"]))  # it gives one meanwhile
    label = here.label()
    here.lease(label, elsewhere, instance_id=here.rent(label))
    assert here.verdicts() == {label: "left"}


def test_where_nobody_can_tell_the_deadline_decides(here, dead):
    elsewhere = dead | {"host": "elsewhere"}
    labels = [here.label("run-1"), here.label("run-2")]
    here.lease(labels[0], elsewhere, instance_id=here.rent(labels[0]))
    here.lease(labels[1], elsewhere, instance_id=here.rent(labels[1]), deadline=timedelta(seconds=-1))
    assert here.verdicts() == {labels[0]: "left", labels[1]: "destroyed"}
    assert len(here.listed()) == 1


@pytest.mark.parametrize("mark", [None, "0123abcd"])
def test_an_instance_without_a_lease_is_destroyed_after_its_last_deadline(here, mark):
    young = here.label("run-1", mark=mark)
    old = here.label("run-2", mark=mark, deadline=-timedelta(minutes=6))
    kept = here.rent(young)
    here.grow_old(here.rent(old), timedelta(minutes=26))
    assert here.verdicts() == {young: "left", old: "destroyed"}
    assert here.listed() == [kept]
    (row,) = here.store.leases()
    assert (row.label, row.state, row.verdict) == (old, "closed", "destroyed")


def begun(ago):
    """The id of a run that began so long ago by its owner's clock."""
    return f"{datetime.now(UTC) - ago:%Y%m%dT%H%M%S}-3f9a1c"


@pytest.mark.parametrize("behind", [timedelta(hours=1), timedelta(days=400)])
def test_the_clock_of_an_owner_with_another_store_may_be_wrong(here, behind):
    """Its label says that all is over; by the marketplace's clock its instance is younger than it may grow."""
    label = here.label(begun(behind), mark="0123abcd", deadline=timedelta(minutes=20) - behind)
    instance_id = here.rent(label)
    assert here.verdicts() == {label: "left"}
    here.grow_old(instance_id, timedelta(minutes=24))
    assert here.verdicts() == {label: "left"}
    here.grow_old(instance_id, timedelta(minutes=2))
    assert here.verdicts() == {label: "destroyed"}


def test_the_reapers_own_clock_may_be_wrong(here, monkeypatch):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + timedelta(hours=2)

    label = here.label(begun(timedelta()), mark="0123abcd")
    kept = here.rent(label)
    monkeypatch.setattr(reaping, "datetime", Ahead)
    assert here.verdicts() == {label: "left"}
    assert here.listed() == [kept]


def test_an_instance_without_a_lease_whose_age_nobody_tells_is_left(tmp_path):
    def fault(request, send):
        answer = send(request) if request.url.path == "/api/v1/instances/" else None
        if answer is None:
            return None
        answer.read()
        rows = [row | {"start_date": None} for row in answer.json()["instances"]]
        return httpx.Response(200, json=answer.json() | {"instances": rows})

    with place(tmp_path, fault) as here:
        label = here.label(begun(timedelta(days=1)), mark="0123abcd", deadline=-timedelta(hours=23))
        here.rent(label)
        (finding,) = here.reap()
        assert finding.verdict == "left"
        assert "how old" in finding.why


def test_an_owner_that_has_ended_is_one_although_its_process_lives_on(here):
    mine, label = owner(), here.label()
    here.lease(label, mine, instance_id=here.rent(label))
    here.store.beat(mine["id"])
    assert here.verdicts() == {label: "left"}
    here.store.retire(mine["id"])
    here.store.beat(mine["id"])  # a last sign that comes late
    assert here.verdicts() == {label: "destroyed"}


def test_a_lease_of_another_account_is_left(here, dead):
    label = here.lease(here.label(), dead | {"account": 1}, instance_id=5)
    (finding,) = here.reap()
    assert (finding.label, finding.verdict) == (label, "left")
    assert "account" in finding.why


def test_a_lease_from_the_future_is_not_waited_for_longer_than_any_other(here, dead, monkeypatch):
    monkeypatch.setattr(reaping, "LATE_CREATE_REAL_S", 1.0)
    label = here.lease(here.label(), dead, opened=-timedelta(days=1))
    assert here.verdicts() == {label: "never created"}


def test_an_unlabelled_instance_that_was_there_before_is_not_destroyed(here, dead):
    theirs = here.rent("training")
    here.api.label_instance(theirs, "")
    label = here.lease(here.label(), dead, instance_id=theirs, opened=-timedelta(days=1))
    assert here.verdicts() == {label: "unknown"}
    assert here.listed() == [theirs]


def test_a_listed_instance_whose_lease_was_closed_is_destroyed(here, dead):
    label = here.lease(here.label(), dead)
    here.store.close_lease(label, verdict="never created")
    here.rent(label)
    assert here.verdicts() == {label: "destroyed"}
    assert here.listed() == []


def test_a_reaper_does_not_wait_for_a_lease_that_another_process_closed(here, dead, monkeypatch):
    monkeypatch.setattr(reaping, "LATE_CREATE_REAL_S", 60.0)
    label = here.lease(here.label(), dead)

    def closed_elsewhere(_self, pause_s):
        here.store.close_lease(label, verdict="never created")

    monkeypatch.setattr(Clock, "rest", closed_elsewhere)
    assert here.verdicts() == {}
    assert here.store.leases()[0].verdict == "never created"


def test_a_dry_run_changes_nothing(here, dead):
    label = here.label()
    instance_id = here.rent(label)
    here.lease(label, dead, instance_id=instance_id)
    before = here.store.leases()
    assert here.verdicts(dry_run=True) == {label: "to close"}
    assert (here.store.leases(), here.listed()) == (before, [instance_id])


def test_two_reapers_at_once_do_no_harm(here, dead):
    labels = [here.label(f"run-{number}") for number in range(3)]
    for label in labels:
        here.lease(label, dead, instance_id=here.rent(label))
    theirs = here.rent("training")
    with ThreadPoolExecutor(2) as pool:
        both = [job.result() for job in [pool.submit(here.verdicts), pool.submit(here.verdicts)]]
    for label in labels:
        assert {one.get(label) for one in both} <= {"destroyed", "already gone", "left", None}
    assert {row.state for row in here.store.leases()} == {"closed"}
    assert here.listed() == [theirs]


def test_a_lease_on_another_marketplace_is_left(here, dead):
    label = here.lease(here.label(), dead, instance_id=5, url="https://elsewhere.example")
    (finding,) = here.reap()
    assert (finding.label, finding.verdict) == (label, "left")
    assert "VAST_URL" in finding.why


def test_the_keys_of_ended_runs_are_removed_from_the_account(here, dead):
    mine, theirs = RunKey.generate("vastbench-run-1"), RunKey.generate("vastbench-other")
    for key in (mine, theirs):
        here.api.create_ssh_key(key.public_line)
    label = here.label()
    here.lease(label, dead, instance_id=here.rent(label))
    here.reap()
    assert [key.public_key.split()[2] for key in here.api.list_ssh_keys().value] == ["vastbench-other"]


def test_a_list_that_cannot_be_read_closes_nothing(tmp_path, dead):
    broken = []

    def fault(request, _send):
        if broken and request.method == "GET" and request.url.path == "/api/v1/instances/":
            return refuse(200, b'{"instances": [')
        return None

    with place(tmp_path, fault) as here:
        label = here.label()
        here.lease(label, dead, instance_id=here.rent(label))
        broken.append(True)
        with pytest.raises(ApiUnreadable):
            here.reap()
        assert here.store.leases()[0].state == "held"
        broken.clear()
        assert here.verdicts() == {label: "destroyed"}


@pytest.mark.parametrize("refusals", [5, 1000])
def test_rate_limits_are_retried_longer_than_other_failures_not_for_ever(tmp_path, dead, refusals):
    left = []

    def fault(request, _send):
        if left and request.url.path == "/api/v1/instances/":
            return left.pop()
        return None

    with place(tmp_path, fault) as here:
        label = here.label()
        here.lease(label, dead, instance_id=here.rent(label))
        left += [httpx.Response(429, json={"msg": "API requests too frequent: endpoint threshold=1.0"})] * refusals
        if refusals < reaping.UNREADABLE:
            assert here.verdicts() == {label: "destroyed"}
            return
        with pytest.raises(RateLimited):
            here.reap()
        assert here.store.leases()[0].state == "held"


def test_an_instance_that_outlives_every_destroy_is_said_to(tmp_path, dead, monkeypatch):
    monkeypatch.setattr("vastbench.rental.lease.CONFIRM_DEADLINE_S", 20.0)

    def fault(request, _send):
        return httpx.Response(503, json={"msg": "faked"}) if request.method == "DELETE" else None

    with place(tmp_path, fault) as here:
        label = here.label()
        here.lease(label, dead, instance_id=here.rent(label))
        findings = here.reap()
        assert [one.verdict for one in findings] == ["leaked"]
        assert "vastai destroy instance" in str(not_closed(findings))
        assert here.store.leases()[0].state == "held"


def test_leases_of_stopped_emulators_are_closed_without_any_request(tmp_path, dead):
    with place(tmp_path) as here:
        inside = here.lease(here.label("run-1"), dead | {"emulator": True}, instance_id=1)
        by_hand = here.lease(here.label("run-2"), dead, instance_id=2)
        assert close_after_dead_emulators(here.store) == 1  # the one started by hand still answers
        assert {row.label: row.state for row in here.store.leases()} == {inside: "closed", by_hand: "held"}
    with Store(tmp_path / "runs.sqlite") as store:
        assert close_after_dead_emulators(store) == 1
        assert {row.verdict for row in store.leases()} == {"already gone"}
