"""A delivery is written down, sent signed, and tried again until it is taken, refused or given up."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from tests.webhooks.receiver import SECRET, raw_receiver, receiving
from vastbench.store import Store
from vastbench.store.outbox import CLAIM_S, DELIVERED, FAILED, PENDING, Outbox
from vastbench.webhooks import Event, address, sending
from vastbench.webhooks.events import body_of
from vastbench.webhooks.sending import GAPS_S, LONGEST_REST_S, deliver_due, post

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:1/hook"


@pytest.fixture
def outbox(tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        yield Outbox(store)


def add(outbox, url, **more):
    return outbox.add(url, SECRET, allow_private=True, **more)


def put(outbox, event=Event.TEST, at=NOW, **data):
    outbox.put(event, body_of(event, data, at), at)


def deliver(outbox, seconds_later=0.0):
    deliver_due(outbox, now=lambda: NOW + timedelta(seconds=seconds_later))


def only(outbox):
    (one,) = outbox.deliveries()
    return one


def waits_s(delivery):
    return (datetime.fromisoformat(delivery.next_try_at) - NOW).total_seconds()


def test_the_receiver_verifies_the_signature_and_sees_the_event_once(outbox):
    with receiving() as receiver:
        add(outbox, receiver.url)
        put(outbox, text="Grüße, „äöü“ \u2028 \U0001f642")
        for later in (0, 1, 10_000):
            deliver(outbox, later)
    assert receiver.payloads == [
        {"type": "test", "timestamp": "2026-11-27T12:00:00.000+00:00", "data": {"text": "Grüße, „äöü“ \u2028 \U0001f642"}}
    ]
    assert (only(outbox).state, only(outbox).last_status, only(outbox).attempts) == (DELIVERED, 204, 1)
    assert receiver.ids == [only(outbox).id]


def test_a_receiver_hears_only_of_what_it_asked_for(outbox):
    with receiving() as some, receiving() as everything:
        add(outbox, some.url, events=["lease.leaked"])
        add(outbox, everything.url)
        put(outbox, Event.RUN_FINISHED)
        put(outbox, Event.LEASE_LEAKED)
        deliver(outbox)
    assert some.types() == ["lease.leaked"]
    assert sorted(everything.types()) == ["lease.leaked", "run.finished"]


@pytest.mark.parametrize("refusal", [500, 502, 503, 408, 429])
def test_what_was_not_taken_is_sent_again_under_the_same_id(outbox, refusal):
    with receiving(refusal, 200) as receiver:
        add(outbox, receiver.url)
        put(outbox)
        deliver(outbox)
        assert (only(outbox).state, only(outbox).last_status) == (PENDING, refusal)
        deliver(outbox, GAPS_S[0] - 1)
        assert len(receiver.ids) == 1
        deliver(outbox, GAPS_S[0])
    assert receiver.ids == [only(outbox).id] * 2
    assert (only(outbox).state, only(outbox).attempts, only(outbox).last_error) == (DELIVERED, 2, "")


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 301, 307])
def test_a_clear_no_is_final(outbox, status):
    with receiving((status, {"location": "/elsewhere"})) as receiver:
        add(outbox, receiver.url)
        put(outbox)
        deliver(outbox)
        deliver(outbox, 10 * LONGEST_REST_S)
    assert len(receiver.ids) == 1
    assert (only(outbox).state, only(outbox).last_error) == (FAILED, f"HTTP {status}")


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        ("120", 120),
        ("3", GAPS_S[0]),
        ("999999999999", LONGEST_REST_S),
        ("-5", GAPS_S[0]),
        ("soon", GAPS_S[0]),
        ("", GAPS_S[0]),
        ("Fri, 01 Jan 2100 00:00:00 GMT", LONGEST_REST_S),
        ("Fri, 32 Foo 2100", GAPS_S[0]),
    ],
)
def test_a_receiver_may_say_when_to_come_again_within_reason(outbox, asked, waits):
    with receiving((429, {"retry-after": asked})) as receiver:
        add(outbox, receiver.url)
        put(outbox)
        deliver(outbox)
    assert waits_s(only(outbox)) == waits


def test_the_gaps_grow_and_then_it_is_given_up(outbox):
    add(outbox, NOWHERE)
    put(outbox)
    later, gaps = 0.0, []
    while only(outbox).state == PENDING:
        deliver(outbox, later)
        gaps.append(waits_s(only(outbox)) - later)
        later = waits_s(only(outbox))
    assert gaps[:-1] == list(GAPS_S)
    assert (only(outbox).state, only(outbox).attempts) == (FAILED, len(GAPS_S) + 1)
    assert "refused" in only(outbox).last_error


def test_a_dead_receiver_holds_up_no_other_and_is_not_asked_for_each_event(outbox):
    with receiving() as receiver:
        dead = add(outbox, NOWHERE)
        alive = add(outbox, receiver.url)
        for number in range(5):
            put(outbox, number=number)
        deliver(outbox)
    tries = Counter((one.config_id, one.attempts) for one in outbox.deliveries())
    assert tries == {(alive.id, 1): 5, (dead.id, 1): 1, (dead.id, 0): 4}
    assert outbox.pending() == {dead.id: 5}


def trickle(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        connection.sendall(b"x-%d: y\r\n" % number)
        threading.Event().wait(0.05)


def endless(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (trickle, "no answer in time"),
        (lambda connection: connection.recv(1), "no answer in time"),
        (lambda connection: connection.sendall(b"nonsense\r\n\r\n"), "RemoteProtocolError"),
        (lambda connection: None, "RemoteProtocolError"),
        (endless, "HTTP 200"),
    ],
    ids=["a head that never ends", "silence", "no HTTP", "closes at once", "a body that never ends"],
)
def test_no_receiver_keeps_the_sender(outbox, monkeypatch, answer, said):
    monkeypatch.setattr(address, "TOTAL_S", 0.5)
    with raw_receiver(answer) as url:
        reply = post(add(outbox, url), "msg_1", "{}")
    assert str(reply).startswith(said)
    assert reply.delivered == (said == "HTTP 200")


def test_two_deliverers_on_one_store_send_each_once(tmp_path):
    place = tmp_path / "runs.sqlite"
    with receiving() as receiver, Store(place) as one, Store(place) as other:
        add(Outbox(one), receiver.url)
        for number in range(30):
            put(Outbox(one), number=number)
        threads = [threading.Thread(target=deliver_due, args=(Outbox(store),)) for store in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {delivery.state for delivery in Outbox(one).deliveries()} == {DELIVERED}
    assert sorted(data["number"] for data in receiver.data("test")) == list(range(30))
    assert len(set(receiver.ids)) == 30


def test_what_one_has_claimed_no_other_gets_until_the_claim_is_over(outbox):
    add(outbox, NOWHERE)
    put(outbox)
    first = outbox.claim(NOW)
    outbox.hasten(NOW)
    assert outbox.claim(NOW + timedelta(seconds=CLAIM_S - 1)) is None
    second = outbox.claim(NOW + timedelta(seconds=CLAIM_S))
    assert (first.id, first.attempts, second.id, second.attempts) == (second.id, 1, first.id, 2)
    outbox.settle(first, FAILED, status=None, error="too late")
    assert only(outbox).state == PENDING
    outbox.settle(second, DELIVERED, status=200)
    assert (only(outbox).state, only(outbox).last_error) == (DELIVERED, "")


def test_a_receiver_that_was_removed_gets_nothing_more(outbox):
    with receiving() as receiver:
        config = add(outbox, receiver.url)
        put(outbox)
        outbox.remove(config.id)
        deliver(outbox)
    assert (receiver.ids, outbox.deliveries(), outbox.configs()) == ([], [], [])


def test_a_secret_that_was_broken_by_hand_stops_nobody(outbox):
    with receiving() as receiver:
        broken = outbox.add(receiver.url, "whsec_", allow_private=True)
        add(outbox, receiver.url)
        put(outbox)
        deliver(outbox)
    states = {one.config_id == broken.id: (one.state, one.last_error) for one in outbox.deliveries()}
    assert states == {True: (PENDING, "EmptyWebhookSecretError"), False: (DELIVERED, "")}


def test_stop_ends_delivering_between_two_tries(outbox):
    add(outbox, NOWHERE)
    asked = count()
    put(outbox)
    deliver_due(outbox, stop=lambda: next(asked) >= 0)
    assert only(outbox).attempts == 0


@pytest.mark.parametrize("shown", [repr, lambda config: str(config.to_dict())])
def test_nothing_that_is_shown_of_a_receiver_holds_its_secrets(outbox, shown):
    config = outbox.add("https://hooks.example.com:8443/services/T0/canary-token?key=canary-query-1234", SECRET)
    assert config.secret == SECRET
    assert SECRET not in shown(config)
    assert SECRET[6:20] not in shown(config)
    assert "canary" not in shown(config)
    assert (config.masked_secret, config.masked_url) == ("whsec_…LwSw", "https://hooks.example.com:8443/…1234")


def test_the_gaps_and_claims_fit_together():
    assert list(GAPS_S) == sorted(GAPS_S)
    assert CLAIM_S > 10 * address.TOTAL_S
    assert max(GAPS_S) <= sending.LONGEST_REST_S
