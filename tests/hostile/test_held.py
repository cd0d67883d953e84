"""While an instance is held its price may rise and anything may be raised: it is given back, or named."""

import pytest

from tests.hostile.meddling import Between, place, run
from vastbench.errors import exit_code_of
from vastbench.rental import provisioner
from vastbench.rental.label import read_label
from vastbench.scenarios.drill import Drill
from vastbench.store import Store

# Prices that change


def priced(change, *, since):
    """Rows in which the price of our instance is what ``change`` makes of it, once ``since`` is true for its row."""
    begun, sightings = [], [0]

    def shown(rows):
        for row in rows:
            if read_label(row["label"]):
                sightings[0] += 1
                if begun or since(row, sightings[0]):
                    begun.append(row)
                    row |= {name: change(row[name]) for name in ("dph_base", "dph_total", "storage_total_cost")}
        return rows

    return shown


@pytest.fixture
def looked_at_often(monkeypatch):
    monkeypatch.setattr(provisioner, "PRICE_EVERY_S", 1.0)


FROM_THE_THIRD = {"since": lambda row, number: number == 3}
WHILE_IN_USE = {"since": lambda row, number: row["actual_status"] == "running"}


@pytest.mark.usefixtures("looked_at_often")
@pytest.mark.parametrize("when", [FROM_THE_THIRD, WHILE_IN_USE], ids=["at the third poll", "while it is in use"])
@pytest.mark.parametrize(
    ("budget", "allowed", "cause"),
    [("9", "2", "price"), ("1", "100", "budget")],
    ids=["above the price", "above the budget"],
)
def test_a_price_that_rises_at_any_sighting_ends_the_run_at_once(market, tmp_path, monkeypatch, when, budget, allowed, cause):
    first = []

    def rises(price):
        first.append(price)
        return price * 30

    with place(market, Between(change=priced(rises, **when)), tmp_path, monkeypatch) as store:
        ended = run("run", "--live", "--budget", budget, "--max-price", allowed, "--yes")
        assert first, ended
        (done,) = store.runs()
        assert done.cause == cause, done.detail
        assert ended.code == exit_code_of(cause)
        assert market.vast.alive == [market.stranger]
        assert [row.verdict for row in store.leases()] == ["destroyed"]


@pytest.mark.usefixtures("looked_at_often")
@pytest.mark.parametrize("nothing", [None, "free", float("nan"), -1, [], {"usd": 1}, 1e308])
def test_an_instance_without_a_price_for_a_minute_is_given_back(market, tmp_path, monkeypatch, nothing):
    monkeypatch.setattr(provisioner, "PRICE_UNKNOWN_S", 2.0)
    meddling = Between(change=priced(lambda _: nothing, **FROM_THE_THIRD))
    with place(market, meddling, tmp_path, monkeypatch) as store:
        ended = run()
        (done,) = store.runs()
        assert (done.cause, ended.code) == ("price", 6)
        assert "could not be read" in done.detail
        assert "price" in done.instrument
        assert market.vast.alive == [market.stranger]


# Whatever is raised while an instance is held


BROKEN = [MemoryError("faked"), KeyError("a bug")]


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hides", ["a record that cannot be made", "a store that cannot be written"])
def test_no_error_hides_that_an_instance_may_be_left(market, tmp_path, monkeypatch, hides, error):
    def fail(*_, **__):
        raise error

    def not_destroyed(call):
        return (503, b"no") if call.is_destroy else call.send()

    target = (Drill, "record") if hides == "a record that cannot be made" else (Store, "save_run_or_keep")
    with place(market, not_destroyed, tmp_path, monkeypatch) as store:
        monkeypatch.setattr(*target, fail)
        ended = run()
        (left,) = store.leases(open_only=True)
        assert ended.code == 8
        assert str(left.instance_id) in ended.error
