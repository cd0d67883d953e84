"""An account's charges: late, rounded, merged, missing and foreign rows, each read for what it is."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clocks import HandClock
from tests.store.records import SEED, lease
from tests.vast.market import KEY, Script, client
from vastbench.errors import ApiUnreadable
from vastbench.io.files import read_run
from vastbench.record.cost import Cost
from vastbench.rental.charges import Asked, ask_charges
from vastbench.store import Store

PAGES = json.loads((Path(__file__).parent / "charges_of_an_account.json").read_text())
URL = "https://market.test"
LATELY, LONG_AGO = timedelta(minutes=10), timedelta(days=3)

RUNS = {
    "rounded": ([900], 0.0052, LONG_AGO, "agrees"),
    "merged": ([901], 0.19, LONG_AGO, "agrees"),
    "two days": ([902], 0.6, LONG_AGO, "agrees"),
    "on both pages": ([903], 0.3, LONG_AGO, "agrees"),
    "growing": ([904], 0.3, LATELY, "late"),
    "late": ([905], 0.3, LATELY, "late"),
    "missing": ([906], 0.3, LONG_AGO, "missing"),
    "without items": ([907], 0.301, LONG_AGO, "agrees"),
    "leaked": ([908], 0.3, LATELY, "differs"),
    "cheap": ([909], 0.3, LONG_AGO, "differs"),
    "of another store": ([910], 0.3, LONG_AGO, "missing"),
    "two machines": ([911, 912], 0.45, LONG_AGO, "agrees"),
    "one of two": ([913, 914], 0.6, LONG_AGO, "missing"),
    "killed": ([915], None, LONG_AGO, "not estimated"),
    "still there": ([916], 0.3, None, "late"),
}
"""Of each run its contracts, what its meters say (to 2 %), how long ago its last instance ended, and what is to be found."""


def account(*pages):
    """A marketplace whose charges are these pages."""
    return Script(lambda request: pages[int(request.url.params.get("after_token", "p1")[1:]) - 1])


@pytest.fixture
def store(tmp_path):
    """A store with the runs and their leases."""
    with Store(tmp_path / "runs.sqlite") as opened:
        now = datetime.now(UTC)
        for run, (contracts, usd, ended, _) in RUNS.items():
            cost = Cost() if usd is None else Cost(usd, usd * 0.98, usd * 1.02, 0.0, 0.0)
            opened.save_run(replace(read_run(SEED), id=run, cost=cost, study="asked"))
            for contract in contracts:
                rented(opened, run, contract, now - (ended or timedelta()), closed=ended is not None)
        yield opened


def rented(store, run, contract, ended, *, closed=True):
    opened = {"run_id": run, "url": URL, "instance_id": contract, "opened_at": (ended - timedelta(hours=1)).isoformat()}
    store.open_lease(lease(f"label-{contract}", **opened))
    if closed:
        store.update_lease(f"label-{contract}", state="closed", verdict="destroyed", closed_at=ended.isoformat())


def ask(store, *pages, **how):
    with client(account(*(pages or PAGES)), HandClock()) as api:
        return ask_charges(api, store, **how)


def bill(store, run):
    return store.run(run).bill


@pytest.mark.parametrize("run", RUNS)
def test_each_run_is_charged_as_its_rows_say(store, run):
    ask(store)
    assert bill(store, run).match == RUNS[run][-1]


def test_rows_of_other_contracts_are_counted_and_not_kept(store):
    assert ask(store) == Asked(contracts=17, rows=13, foreign=3, foreign_usd=pytest.approx(2.5 + 0.04 + 0.3))
    kept = json.dumps([charges.by_contract for charges in store.charges().values()])
    assert "instance-999" not in kept
    assert "training" not in kept


def test_a_rounded_row_is_known_to_what_words_and_amount_leave_open(store):
    ask(store)
    found = bill(store, "rounded")
    low, high = 0.0165 * 0.2995, 0.0175 * 0.3005  # "0.017 hours at $0.300/hour", and 0.005 is no narrower
    assert (found.gpu_usd, found.storage_usd) == pytest.approx(((low + high) / 2, 0.035 * 0.005), abs=3e-6)
    assert found.rounding_usd == pytest.approx((high - low) / 2, abs=6e-6)


def test_what_is_merged_into_a_row_or_split_into_several_is_summed(store):
    ask(store)
    assert [bill(store, run).gpu_usd for run in ("merged", "two days", "two machines")] == pytest.approx(
        [0.18, 0.6, 0.45], abs=4e-4
    )
    assert bill(store, "merged").storage_usd == pytest.approx(0.01, abs=1e-4)
    assert bill(store, "merged").total_usd == pytest.approx(0.19, abs=5e-4)


def test_a_row_on_two_pages_is_charged_once(store):
    ask(store)
    assert bill(store, "on both pages").total_usd == pytest.approx(0.3, abs=5e-4)


def test_a_row_without_items_names_no_meter(store):
    ask(store)
    found = bill(store, "without items")
    assert (found.gpu_usd, found.storage_usd, found.transfer_usd, found.total_usd) == (None, None, None, 0.301)


def test_rows_that_grew_replace_what_was_stored_and_are_not_added_to_it(store):
    ask(store)
    (grown,) = [row for row in PAGES[0]["results"] if row["source"] == "instance-904"]
    item = {"type": "gpu", "amount": 0.3, "description": "1.000 hours at $0.300/hour"}
    ask(store, {"results": [grown | {"end": 1791594000, "amount": 0.3, "items": [item]}], "next_token": None})
    assert (bill(store, "growing").match, bill(store, "growing").total_usd) == ("agrees", pytest.approx(0.3, abs=5e-4))


def test_what_the_account_no_longer_shows_stays_stored(store):
    ask(store)
    before = bill(store, "merged")
    ask(store, {"results": [], "next_token": None})
    assert bill(store, "merged") == before


def test_a_charge_of_a_run_that_was_never_stored_is_counted(store):
    rented(store, "lost", 917, datetime.now(UTC) - LONG_AGO)
    row = {"type": "instance", "source": "instance-917", "amount": 0.7}
    asked = ask(store, {"results": [row], "next_token": None})
    assert (asked.unstored, asked.unstored_usd) == (1, 0.7)


def test_of_one_study_only_its_runs_are_asked_about(store):
    rented(store, "lost", 917, datetime.now(UTC) - LONG_AGO)
    assert ask(store, study="asked").contracts == 17
    assert ask(store, study="none") == Asked()


def test_instances_of_another_marketplace_are_not_asked_about(tmp_path):
    with Store(tmp_path / "runs.sqlite") as opened:
        opened.open_lease(lease(instance_id=900))
        script = account(*PAGES)
        with client(script, HandClock()) as api:
            assert ask_charges(api, opened) == Asked()
        assert script.requests == []


def test_all_days_since_the_first_lease_are_asked_for(store):
    script = account(*PAGES)
    with client(script, HandClock()) as api:
        ask_charges(api, store)
    day = json.loads(script.requests[0].url.params["select_filters"])["day"]
    first = min(datetime.fromisoformat(one.opened_at) for one in store.leases())
    assert day["gte"] <= first.timestamp() - 60
    assert day["lte"] >= datetime.now(UTC).timestamp() - 1


def test_a_page_that_cannot_be_read_changes_nothing(store):
    ask(store)
    before = store.charges()
    with pytest.raises(ApiUnreadable):
        ask(store, PAGES[0] | {"results": [{"source": "instance-900", "amount": "free"}]})
    assert store.charges() == before


def test_the_key_is_in_no_row_of_the_store(store, tmp_path):
    ask(store)
    store.close()
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())
