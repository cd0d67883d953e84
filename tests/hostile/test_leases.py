"""A lease under a marketplace whose answers are damaged, lost after they took effect, or replaced by errors."""

from datetime import UTC, datetime, timedelta
from itertools import count

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.conftest import EXAMPLES
from tests.hostile.leaping import Leaping
from tests.hostile.marketplace import FOREIGN, Marketplace
from tests.hostile.mutations import Reply, replies
from tests.vast.market import KEY, offer, response
from vastbench.errors import VastbenchError
from vastbench.owner import owner
from vastbench.record.recorder import Recorder
from vastbench.rental import reap
from vastbench.rental.label import Label
from vastbench.rental.lease import Account, Terms, hold
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import CreateRequest, Offer
from vastbench.vast.watch import Watch

URL = "https://market.test"
NUMBERS = count(1)


def new_label(store: Store) -> str:
    return str(Label(store.mark, f"hostile{next(NUMBERS)}", 1, datetime.now(UTC) + timedelta(hours=1)))


@pytest.fixture(autouse=True, scope="module")
def _no_create_is_late():
    """The reaper need not wait: nothing in this marketplace happens later than its answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reap, "LATE_CREATE_S", 0.0)
        patch.setattr(reap, "LATE_CREATE_REAL_S", 0.0)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("leases") / "runs.sqlite") as opened:
        yield opened


def api_on(market: Marketplace, clock: Leaping, data: st.DataObject | None = None, hostile_calls: int = 0) -> VastApi:
    """A client of ``market``, the first ``hostile_calls`` of whose answers are drawn from ``data``."""
    calls = count()

    def answer(request: httpx.Request) -> httpx.Response:
        how = (
            "true" if next(calls) >= hostile_calls else data.draw(st.sampled_from(["true", "damaged", "never came", "refused"]))
        )
        if how == "never came":
            raise httpx.ConnectError("faked")
        if how == "refused":
            return response((data.draw(st.sampled_from([429, 500, 502, 503, 504])), "faked"))
        value = market(request)
        if how == "true":
            refused = isinstance(value, dict) and value.get("success") is False
            return response((404 if refused else 200, value))
        reply: Reply | Exception = data.draw(replies(value))
        if isinstance(reply, Exception):
            raise reply
        return reply.response()

    return VastApi(URL, KEY, clock=clock, transport=httpx.MockTransport(answer))


def rent_and_leave(api: VastApi, clock: Leaping, store: Store, label: str) -> None:
    """Hold a lease and let it go at once, with whatever errors that ends in."""
    account = Account(api, Watch(api, clock), store, clock)
    chosen, request = Offer.model_validate(offer(machine_id=1)), CreateRequest("ubuntu", 10, label)
    until, whose = datetime.now(UTC) + timedelta(hours=1), owner() | {"process_start": "1"}
    try:
        with hold(account, Recorder(clock), Terms(label, chosen, request, 0.3, until, whose)):
            pass
    except VastbenchError:
        pass  # what counts is what is left


@settings(settings.get_profile("hostile"), max_examples=max(10, EXAMPLES // 4))  # each waits for minutes by its clock
@given(data=st.data())
def test_no_answer_leaves_an_instance_without_an_open_lease(store, data):
    market, clock, label = Marketplace(), Leaping(), new_label(store)
    with api_on(market, clock, data, hostile_calls=data.draw(st.sampled_from([1, 2, 5, 12]))) as api:
        rent_and_leave(api, clock, store, label)
    left = [one["id"] for one in market.alive.values() if one["label"] == label]
    (lease,) = [row for row in store.leases() if row.label == label]
    assert left == [] or lease.state != "closed"
    assert set(FOREIGN) <= set(market.alive)
    with api_on(market, clock) as api:
        reap.reap(api, Watch(api, clock), store, clock)
    assert set(market.alive) == set(FOREIGN)
    assert store.leases(open_only=True) == []


@pytest.mark.parametrize("named", [*FOREIGN, 4711])
def test_a_create_that_names_another_contract_costs_nobody_an_instance(store, named):
    market, clock, label = Marketplace(), Leaping(), new_label(store)

    def answer(request):
        value = market(request)
        refused = isinstance(value, dict) and value.get("success") is False
        return response((404 if refused else 200, value | {"new_contract": named} if request.method == "PUT" else value))

    with VastApi(URL, KEY, clock=clock, transport=httpx.MockTransport(answer)) as api:
        rent_and_leave(api, clock, store, label)
    assert set(market.alive) == set(FOREIGN)
    assert [row.verdict for row in store.leases() if row.label == label] == ["destroyed"]


def test_with_true_answers_a_lease_leaves_nothing_at_all(store):
    market, clock, label = Marketplace(), Leaping(), new_label(store)
    with api_on(market, clock) as api:
        rent_and_leave(api, clock, store, label)
    assert set(market.alive) == set(FOREIGN)
    assert [row.verdict for row in store.leases() if row.label == label] == ["destroyed"]
