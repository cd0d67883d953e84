"""A lease is closed whatever fails: the journal, the marketplace's answers, the listener, the thread."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.profiles import certain
from vastbench.bench.bench import Bench
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.errors import Interrupted, LeaseNotClosed, RateLimited, Refused, StoreError, interruption_in
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome, PhaseName
from vastbench.rental.boot import vanished
from vastbench.rental.lease import Account, certainly_not_created
from vastbench.rental.provisioner import Provisioner
from vastbench.scenarios.drill import Drill, run_scenario
from vastbench.scenarios.integration import INTEGRATION
from vastbench.store import Store
from vastbench.vast.api import VastApi
from vastbench.vast.models import LEASE_VARIABLE, Instance
from vastbench.vast.watch import Sighting, Watch

SPEED = 40


class Faulty(httpx.BaseTransport):
    """The real transport, except where ``fault(request, send)`` answers or raises in its place."""

    def __init__(self, fault):
        self.inner = httpx.HTTPTransport(verify=False)
        self.fault = fault

    def handle_request(self, request):
        answer = self.fault(request, self.inner.handle_request) if self.fault else None
        return answer if answer is not None else self.inner.handle_request(request)

    def close(self):
        self.inner.close()


@pytest.fixture
def soon_given_up(monkeypatch):
    """What a destroy came to is asked for a short while only."""
    monkeypatch.setattr("vastbench.rental.lease.CONFIRM_DEADLINE_S", 40.0)


class FailingJournal:
    """A store whose disk is full from the given state on."""

    def __init__(self, store, state):
        self.store, self.state = store, state

    @property
    def mark(self):
        return self.store.mark

    def open_lease(self, lease, *, at_most=None):
        self.store.open_lease(lease, at_most=at_most)

    def update_lease(self, label, **changes):
        if changes.get("state") == self.state or self.state == "any":
            raise StoreError("disk full (faked)")
        self.store.update_lease(label, **changes)

    def close_lease(self, label, *, verdict, note=""):
        if self.state in ("closed", "any"):
            raise StoreError("disk full (faked)")
        return self.store.close_lease(label, verdict=verdict, note=note)


@contextmanager
def market(tmp_path, *, fault=None, journal_fails_at=None, opened=None):
    """A provisioner on an emulator of its own: (one run of it, what is listed, its leases)."""
    clock = Clock(SPEED)
    with (
        Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast,
        Store(tmp_path / "runs.sqlite") as store,
        VastApi(vast.url, vast.api_key, clock=clock, transport=Faulty(fault)) as api,
    ):
        if opened is not None:
            opened.append(vast)
        journal = FailingJournal(store, journal_fails_at) if journal_fails_at else store
        watch = Watch(api, clock)
        provisioner = Provisioner(Account(api, watch, journal, clock))

        def run(listener=None):
            return run_scenario(Drill(INTEGRATION, provisioner, Conditions(), "run-1", listener), source="emulator")[0]

        yield run, lambda: listed(vast), store.leases
        watch.close()


def listed(vast):
    with VastApi(vast.url, vast.api_key, clock=Clock(SPEED)) as api:
        return [instance.id for instance in api.list_instances().value]


def is_create(request):
    return request.method == "PUT" and "/asks/" in request.url.path


def refuse(status, body=b'{"success": false, "msg": "faked"}'):
    return httpx.Response(status, headers={"Content-Type": "application/json"}, content=body)


class Crowd:
    """Shows a list of three pages: sixty instances of others before those of the emulator, unless it is asked by label."""

    def __init__(self):
        self.whole = 0
        self.rows = []

    def __call__(self, request, send):
        if request.method != "GET" or request.url.path != "/api/v1/instances/" or "label" in str(request.url):
            return None
        self.whole += 1
        begin = int(request.url.params.get("after_token", 0))
        if not begin:
            theirs = [{"id": number, "label": "theirs", "actual_status": "running"} for number in range(60)]
            self.rows = theirs + json.loads(send(request).read())["instances"]
        answer = {"success": True, "instances": self.rows[begin : begin + 25], "total_instances": len(self.rows)}
        return httpx.Response(200, json=answer | {"next_token": str(begin + 25) if begin + 25 < len(self.rows) else None})


def test_beside_many_instances_of_others_a_run_asks_for_its_own(tmp_path):
    crowd = Crowd()
    with market(tmp_path, fault=crowd) as (run, left, leases):
        made = run()
        assert made.cause == ""
        assert left() == []
        assert leases()[-1].verdict == "destroyed"
    # For proofs, and every 30 s for a follower that its label does not find: on a busy machine more of these pass.
    assert crowd.whole <= 4 + made.total_s / 30


def test_a_label_changed_by_hand_beside_many_others_keeps_the_lease_open(tmp_path):
    def change(name, phase):
        if name == PhaseName.WAIT_RUNNING and phase is None:
            with VastApi(opened[0].url, opened[0].api_key, clock=Clock(SPEED)) as api:
                api.label_instance(opened[0].alive[0], "mine now")

    opened = []
    with market(tmp_path, fault=Crowd(), opened=opened) as (run, left, leases):
        done = run(change)
        assert done.cause == "lease_not_closed"
        assert "mine now" in done.detail
        assert left() == [done.resources["instance_id"]]
        assert (leases()[-1].state, leases()[-1].verdict) == ("held", "unknown")


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v0/ssh/"), ("POST", "/api/v0/bundles/"), ("PUT", "/api/v0/asks/")])
def test_a_run_waits_its_turn_while_others_use_up_the_accounts_rate(tmp_path, method, path):
    refusals = []

    def fault(request, _send):
        if request.method == method and request.url.path.startswith(path) and len(refusals) < 6:
            refusals.append(request)
            return refuse(429, b"API requests too frequent: endpoint threshold=1.0")
        return None

    with market(tmp_path, fault=fault) as (run, left, leases):
        done = run()
        assert len(refusals) == 6
        assert (done.outcome, done.cause) == (Outcome.PASSED, "")
        assert left() == []
        assert {lease.state for lease in leases()} == {"closed"}


def test_a_used_up_daily_quota_is_not_waited_for(tmp_path):
    quota = b'{"success": false, "error": "search_quota_exceeded", "msg": "used up"}'
    with market(tmp_path, fault=lambda r, _: refuse(429, quota) if "/bundles/" in r.url.path else None) as (run, _, leases):
        assert run().cause == "account_refused"
        assert leases() == []


@pytest.mark.parametrize("state", ["held", "closed", "any"])
def test_a_journal_that_fails_does_not_keep_the_instance_alive(tmp_path, state):
    with market(tmp_path, journal_fails_at=state) as (run, left, _):
        done = run()
        assert (done.outcome, done.cause) == (Outcome.FAILED, "store")
        assert left() == []


def test_a_broken_listener_and_a_failing_journal_leave_no_instance(tmp_path):
    def break_it(name, phase):
        if name == PhaseName.CREATE and phase is not None:
            raise BrokenPipeError("faked")

    with market(tmp_path, journal_fails_at="any") as (run, left, _):
        assert run(break_it).outcome is Outcome.FAILED
        assert left() == []


def test_a_create_whose_answer_is_lost_is_found_by_its_label_and_destroyed(tmp_path):
    lost = []

    def fault(request, send):
        if is_create(request):
            lost.append(send(request).read())
            raise httpx.ReadTimeout("faked", request=request)

    with market(tmp_path, fault=fault) as (run, left, leases):
        done = run()
        assert lost
        assert (done.outcome, done.cause) == (Outcome.FAILED, "api")
        assert left() == []
        assert leases()[-1].verdict == "destroyed"
        assert leases()[-1].instance_id is not None


def test_a_create_that_may_still_appear_leaves_its_lease_open(tmp_path):
    with market(tmp_path, fault=lambda r, _: refuse(502) if is_create(r) else None) as (run, _, leases):
        assert run().cause == "api"
        assert (leases()[-1].state, leases()[-1].verdict) == ("intended", "unknown")


def test_an_error_that_names_a_contract_is_destroyed_too(tmp_path):
    def fault(request, send):
        if is_create(request):
            answer = send(request)
            body = answer.read().replace(b'"success":true', b'"success":false').replace(b'"success": true', b'"success": false')
            return refuse(400, body)
        return None

    with market(tmp_path, fault=fault) as (run, left, leases):
        assert run().outcome is Outcome.FAILED
        assert left() == []
        assert leases()[-1].verdict == "destroyed"


def test_a_destroy_without_an_answer_is_confirmed_but_has_no_duration(tmp_path):
    def fault(request, send):
        if request.method == "DELETE" and "/instances/" in request.url.path:
            send(request).read()
            return refuse(503)
        return None

    with market(tmp_path, fault=fault) as (run, left, leases):
        done = run()
        assert left() == []
        destroy = done.phase(PhaseName.DESTROY)
        assert (destroy.seconds, destroy.outcome) == (None, Outcome.FAILED)
        assert done.phase(PhaseName.CONFIRM).end.seen
        assert leases()[-1].verdict == "destroyed"


@pytest.mark.usefixtures("soon_given_up")
def test_an_instance_that_survives_every_destroy_is_reported_as_leaked(tmp_path):
    with market(tmp_path, fault=lambda r, _: refuse(503) if r.method == "DELETE" else None) as (run, left, leases):
        done = run()
        assert done.cause == "lease_not_closed"
        assert "vastai destroy instance" in done.detail
        assert left() == [done.resources["instance_id"]]
        assert (leases()[-1].state, leases()[-1].verdict) == ("held", "leaked")


@pytest.mark.usefixtures("soon_given_up")
def test_a_list_that_cannot_be_read_is_never_taken_for_an_empty_one(tmp_path):
    state = {"deleted": False}

    def fault(request, _send):
        state["deleted"] |= request.method == "DELETE"
        listing = request.method == "GET" and request.url.path == "/api/v1/instances/"
        return refuse(200, b'{"instances": [') if listing and state["deleted"] else None

    with market(tmp_path, fault=fault) as (run, _, leases):
        assert run().cause == "lease_not_closed"
        assert leases()[-1].verdict == "unknown"


BROKEN = [MemoryError("faked"), RecursionError("faked"), OSError(24, "faked"), TypeError("a bug")]
WHERE = {
    "the list": lambda request: request.url.path == "/api/v1/instances/",
    "its page": lambda request: request.method == "GET" and request.url.path.startswith("/api/v0/instances/"),
    "destroy": lambda request: request.method == "DELETE" and "/instances/" in request.url.path,
}


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("times", [1, 10**6], ids=["once", "always"])
@pytest.mark.usefixtures("soon_given_up")
def test_whatever_is_raised_while_a_lease_is_closed_destroy_is_tried(tmp_path, where, error, times):
    closing, raised = [], []

    def fault(request, _send):
        if closing and WHERE[where](request) and len(raised) < times:
            raised.append(request)
            raise error

    def listen(name, phase):
        if name == "verify file" and phase is not None:
            closing.append(name)

    with market(tmp_path, fault=fault) as (run, left, leases):
        done = run(listen)
        assert raised
        if times == 1:
            assert (done.outcome, left()) == (Outcome.PASSED, [])
            return
        assert done.cause == "lease_not_closed"
        assert str(done.resources["instance_id"]) in done.detail
        assert left() == ([done.resources["instance_id"]] if where == "destroy" else [])
        assert leases()[-1].state == "held"


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_by_a_create_its_label_is_looked_for(tmp_path, error):
    def fault(request, send):
        if is_create(request):
            send(request).read()
            raise error

    with market(tmp_path, fault=fault) as (run, left, leases):
        assert run().outcome is Outcome.FAILED
        assert left() == []
        assert leases()[-1].verdict == "destroyed"


def test_a_list_that_lags_behind_the_create_does_not_fail_the_run(tmp_path):
    polls = []

    def fault(request, _send):
        if request.method == "GET" and request.url.path == "/api/v1/instances/" and len(polls) < 2:
            polls.append(request)
            return refuse(200, b'{"success": true, "instances": [], "total_instances": 0, "next_token": null}')
        return None

    with market(tmp_path, fault=fault) as (run, left, _):
        done = run()
        assert (done.outcome, done.detail) == (Outcome.PASSED, "")
        assert left() == []


def test_an_instance_has_vanished_when_two_lists_in_a_row_lack_it():
    def history(*present):
        return [Sighting(float(i), i + 0.5, Instance(id=1) if there else None) for i, there in enumerate(present)]

    for present, expected in [
        ((0, 0), False),
        ((0, 1, 0), False),
        ((1, 0, 0), True),
        ((0, 1, 1, 0, 0), True),
        ((1, 0, 1, 0), False),
    ]:
        seen = history(*present)
        assert vanished(seen, seen[-1]) is expected, present


def test_a_long_retry_after_on_a_create_is_cut_short(tmp_path):
    refused = []

    def fault(request, _send):
        if is_create(request) and not refused:
            refused.append(request)
            return httpx.Response(429, headers={"Retry-After": "86400"}, content=b"API requests too frequent")
        return None

    with market(tmp_path, fault=fault) as (run, left, _):
        done = run()
        assert done.outcome is Outcome.PASSED
        assert [attempt.cause for attempt in done.attempts] == ["rate_limited", ""]
        assert left() == []


def test_leaving_a_bench_lets_runs_of_other_threads_close_their_leases(tmp_path):
    held, done = threading.Event(), []

    def tell(name, phase):
        if name == PhaseName.WAIT_RUNNING and phase is None:
            held.set()

    with Bench(profile=certain(tmp_path), seed=4, speed=10, store=tmp_path / "runs.sqlite") as bench:
        thread = threading.Thread(target=lambda: done.append(swallow(bench, tell)))
        thread.start()
        assert held.wait(30)
    thread.join(30)
    with Store(tmp_path / "runs.sqlite") as store:
        assert store.leases()[-1].verdict == "destroyed"
        assert store.runs()[0].cause == "interrupted"


def swallow(bench, listener):
    try:
        return bench.run(listener=listener)
    except BaseException as error:  # noqa: BLE001
        return error


def test_after_a_lease_that_could_not_be_closed_a_bench_rents_nothing_more(tmp_path):
    with Bench(profile=certain(tmp_path), seed=4, speed=SPEED, store=tmp_path / "runs.sqlite") as bench:
        bench._leaked = "Instance 1 is not confirmed destroyed."
        with pytest.raises(LeaseNotClosed, match="Instance 1"):
            bench.run()
        assert bench.store.leases() == []


def test_a_bench_that_is_not_open_rents_nothing(tmp_path):
    bench = Bench(profile=certain(tmp_path), speed=SPEED, store=tmp_path / "runs.sqlite")
    with pytest.raises(Interrupted, match="not open"):
        bench.run()
    with bench:
        pass
    with pytest.raises(Interrupted, match="not open"):
        bench.run()


def test_runs_queued_behind_a_closing_bench_are_not_made(tmp_path):
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with Bench(profile=certain(tmp_path), seed=4, speed=10, store=tmp_path / "runs.sqlite") as bench:
            futures = [pool.submit(swallow, bench, lambda *_: begun.set()) for _ in range(4)]
            assert begun.wait(30)
        ended = [future.result(30) for future in futures]
    assert all(isinstance(one, Interrupted) for one in ended[1:])
    with Store(tmp_path / "runs.sqlite") as store:
        assert len(store.runs()) == 1


def test_every_held_lease_is_tried_when_a_bench_is_left(tmp_path):
    tried = []

    class Stuck:
        def close(self):
            tried.append(self)
            raise LeaseNotClosed("stuck")

    bench = Bench(profile=certain(tmp_path), speed=SPEED, store=tmp_path / "runs.sqlite")
    bench.__enter__()
    bench._provisioner.account.held.update({Stuck(), Stuck()})
    with pytest.raises(LeaseNotClosed, match="stuck"):
        bench.__exit__(None, None, None)
    assert len(tried) == 2


def test_an_interruption_is_found_under_the_error_that_covers_it():
    def work():
        try:
            raise Interrupted("stop")
        finally:
            raise StoreError("disk full")

    with pytest.raises(StoreError) as caught:
        work()
    assert isinstance(interruption_in(caught.value), Interrupted)
    assert interruption_in(StoreError("alone")) is None


@pytest.mark.parametrize(
    ("status", "code", "certain_no"),
    [
        (410, "no_such_ask", True),
        (400, "invalid_args", True),
        (402, "insufficient_credit", True),
        (404, "auth_error", True),
        (403, "Forbidden", False),  # a gateway's own word
        (404, "not_found", False),
        (502, "no_such_ask", False),
        (400, None, False),  # a gateway's, or a body that was cut
        (408, "timeout", False),
        (502, "bad_gateway", False),
        (200, "insufficient_credit", False),
        (None, None, False),
    ],
)
def test_only_a_code_of_the_closed_list_says_that_nothing_was_rented(status, code, certain_no):
    assert certainly_not_created(Refused("faked", status=status, code=code)) is certain_no
    assert certainly_not_created(Refused("faked", status=status, new_contract=7)) is False


@pytest.mark.parametrize(
    ("said", "certain_no"), [("API requests too frequent: endpoint threshold=1.0", True), ("<html>", False)]
)
def test_a_429_is_a_clear_no_in_the_marketplaces_own_words_only(said, certain_no):
    assert certainly_not_created(RateLimited(f"PUT /api/v0/asks/{{id}}/ refused: {said}", status=429)) is certain_no


@pytest.mark.parametrize("answer", ["refused", "made"])
def test_a_listener_that_fails_hides_nothing_of_what_a_create_was_answered(tmp_path, answer):
    def answered(request, send):
        if not is_create(request):
            return None
        if answer == "refused":
            return refuse(400, b'{"success": false, "error": "invalid_args", "msg": "no such image"}')
        made = json.loads(send(request).read())["new_contract"]
        return refuse(400, json.dumps({"success": False, "error": "invalid_args", "new_contract": made}).encode())

    def fail(name, phase):
        if name == PhaseName.CREATE and phase is not None:
            raise RuntimeError("a bug of the listener")

    with market(tmp_path, fault=answered) as (run, left, leases):
        assert "a bug of the listener" in run(fail).detail
        assert left() == []
        (lease,) = leases()
        assert (lease.state, lease.verdict) == ("closed", "never created" if answer == "refused" else "destroyed")
        assert (lease.instance_id is None) is (answer == "refused")


def shown(request, send, **fields):
    """The answer of the list or of an instance's own page, with these fields in every row."""
    if request.method != "GET" or "/instances/" not in request.url.path:
        return None
    answer = json.loads(send(request).read())
    if isinstance(answer["instances"], dict):
        answer["instances"] |= fields
    for row in answer["instances"] if isinstance(answer["instances"], list) else ():
        row |= fields
    return httpx.Response(200, json=answer)


@pytest.mark.parametrize("length", [1, 10, 22, -1])
def test_a_label_that_was_cut_keeps_no_instance_of_ours_alive_and_is_noted(tmp_path, length):
    cut = []

    def fault(request, send):
        if is_create(request):
            cut[:] = [json.loads(request.content)["label"][:length]]
        return shown(request, send, label=cut[0]) if cut else None

    with market(tmp_path, fault=fault) as (run, left, leases):
        assert run().cause == ""
        assert left() == []
        assert (leases()[-1].verdict, repr(cut[0]) in leases()[-1].note) == ("destroyed", True)


def without_a_clear_answer(answered, shows):
    """A fault: the create takes effect; its answer is lost, or a 400 that names the contract. Rows are shown as ``shows``."""
    label = []

    def fault(request, send):
        if not is_create(request):
            return shown(request, send, **shows(label[0])) if label else None
        label.append(json.loads(request.content)["label"])
        made = json.loads(send(request).read())["new_contract"]
        if answered == "lost":
            raise httpx.ReadTimeout("faked", request=request)
        return refuse(400, json.dumps({"success": False, "msg": "a lost bid", "new_contract": made}).encode())

    return fault


@pytest.mark.parametrize("answered", ["lost", "400 with the contract"])
@pytest.mark.parametrize("left_of", [lambda label: label[:1], lambda label: label[:15], lambda _: None, lambda _: ""])
def test_without_answer_and_label_an_instance_is_known_by_its_environment(tmp_path, answered, left_of):
    with market(tmp_path, fault=without_a_clear_answer(answered, lambda label: {"label": left_of(label)})) as (
        run,
        left,
        leases,
    ):
        assert run().cause == ("api" if answered == "lost" else "refused")
        assert left() == []
        assert leases()[-1].verdict == "destroyed"


@pytest.mark.parametrize(
    "shows",
    [
        lambda _: {"label": None, "extra_env": []},
        lambda label: {"label": "theirs", "extra_env": [[LEASE_VARIABLE, label]]},  # by hand: whoever did it may need it
        lambda label: {"label": label, "extra_env": [[LEASE_VARIABLE, label.replace("run-1", "run-2")]]},
        lambda label: {"label": None, "extra_env": [[LEASE_VARIABLE, label]], "machine_id": 1},
    ],
)
@pytest.mark.usefixtures("soon_given_up")
def test_without_a_clear_answer_what_may_be_anybodys_is_not_touched(tmp_path, shows):
    with market(tmp_path, fault=without_a_clear_answer("400 with the contract", shows)) as (run, left, leases):
        assert run().cause == "lease_not_closed"
        assert left() == [leases()[-1].instance_id]
        assert leases()[-1].state == "held"


def test_a_create_whose_answer_is_lost_is_found_by_a_label_without_its_end(tmp_path):
    cut = []

    def fault(request, send):
        if is_create(request):
            cut[:] = [json.loads(request.content)["label"][:-3]]
            send(request).read()
            raise httpx.ReadTimeout("faked", request=request)
        return shown(request, send, label=cut[0]) if cut else None

    with market(tmp_path, fault=fault) as (run, left, leases):
        assert run().cause == "api"
        assert left() == []
        assert leases()[-1].verdict == "destroyed"


@pytest.mark.parametrize(
    ("body", "tries"),
    [
        ({"success": False, "msg": "The offer is no longer available."}, 3),
        ({"success": False, "error": "conflict", "msg": "Machine 7 is not available."}, 3),
        ({"success": False, "error": "invalid_args", "msg": "error 404/3603: no_such_ask ..."}, 3),
        ({"error": "Conflict"}, 1),
        ("<html>offer no longer available</html>", 1),
    ],
)
def test_a_409_is_a_clear_no_only_in_the_marketplaces_own_words(tmp_path, body, tries):
    def fault(request, _send):
        content = body if isinstance(body, str) else json.dumps(body)
        return refuse(409, content.encode()) if is_create(request) else None

    with market(tmp_path, fault=fault) as (run, _, leases):
        done = run()
        assert len(done.attempts) == tries
        assert (done.cause == "offer_gone") is (tries == 3)
        assert {lease.verdict for lease in leases()} == ({"never created"} if tries == 3 else {"unknown"})


@pytest.mark.parametrize(
    ("status", "code"), [(403, "not_authorized"), (400, "team_ssh_keys_not_supported"), (401, None), (404, "x")]
)
def test_a_key_that_may_not_register_ssh_keys_attaches_them_and_says_so(tmp_path, status, code):
    def fault(request, _send):
        if (request.method, request.url.path) != ("POST", "/api/v0/ssh/"):
            return None
        return refuse(status, json.dumps({"success": False, "error": code, "msg": "no right to it"}).encode())

    with market(tmp_path, fault=fault) as (run, left, _):
        done = run()
        assert done.cause == ""
        assert "no right to it" in done.instrument["register_ssh_key"]
        assert "attached to the instance alone" in done.instrument["register_ssh_key"]
        assert done.phase(PhaseName.REMOVE_KEY) is None
        assert left() == []


def test_a_key_neither_registered_nor_attached_ends_the_run_at_once(tmp_path):
    attached = []

    def fault(request, _send):
        if request.method == "POST" and request.url.path.endswith("/ssh/"):
            attached.append(request.url.path)
            return refuse(403)
        return None

    with market(tmp_path, fault=fault) as (run, left, _):
        done = run()
        assert done.cause in ("key_rejected", "api")
        assert done.phase(PhaseName.WAIT_SSH) is None
        assert len(attached) >= 3
        assert left() == []
