"""What stands between vastbench and the marketplace may repeat, replace and mix up answers: nothing is lost by it."""

import json
import math
import signal
import time

import pytest

from tests.hostile.meddling import SPEED, Between, nobody_lost_anything, place, run
from vastbench.rental.label import read_label

LAGS = pytest.mark.parametrize("lag_s", [0, 20])
"""Clock seconds by which the list lags behind the creates."""


@LAGS
def test_a_create_that_a_gateway_repeats_leaves_no_instance(market, tmp_path, monkeypatch, lag_s):
    def twice(call):
        call.send()
        return call.send()  # a true answer: the offer is gone

    meddling = Between(lag_s=lag_s, create=twice)
    with place(market, meddling, tmp_path, monkeypatch) as store:
        ended = run()
        assert nobody_lost_anything(market, store) == set()
        assert market.vast.alive == [market.stranger]
        assert (ended.code, meddling.creates) == (4, 1)
        assert [row.verdict for row in store.leases()] == ["destroyed"]


@LAGS
@pytest.mark.parametrize(
    "answer",
    [
        (403, {"error": "Forbidden"}),
        (404, {"error": "Not Found", "path": "/api/v0/asks/"}),
        (404, {"detail": "Not Found"}),
        (401, {"code": "unauthorized", "message": "no"}),
        (400, {"success": False, "error": "bad_request", "msg": "no"}),
        (422, {"error": "Unprocessable Entity"}),
        (429, {"error": "slow down"}),
        (410, {"error": "Gone"}),
        (410, {"success": False, "error": "no_such_ask", "msg": "the words of the marketplace, after it made one"}),
        (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        (400, {"success": False, "error": "insufficient_credit", "msg": "no"}),
    ],
    ids=lambda answer: f"{answer[0]} {next(iter(answer[1].values()))}",
)
def test_no_gateway_answer_after_an_effective_create_leaves_an_instance(market, tmp_path, monkeypatch, answer, lag_s):
    def made_and_refused(call):
        call.send()
        return answer[0], json.dumps(answer[1]).encode()

    meddling = Between(lag_s=lag_s, create=made_and_refused)
    with place(market, meddling, tmp_path, monkeypatch) as store:
        ended = run()
        assert market.vast.alive == [market.stranger]
        assert [row.verdict for row in store.leases()] == ["destroyed"]
        assert meddling.creates == 1
        assert ended.code == 4


def test_an_instance_that_is_listed_only_after_the_run_is_told_of(market, tmp_path, monkeypatch):
    def made_and_refused(call):
        call.send()
        return 403, b'{"error": "Forbidden"}'

    meddling = Between(lag_s=math.inf, create=made_and_refused)
    with place(market, meddling, tmp_path, monkeypatch) as store:
        ended = run()
        assert ended.code == 8
        assert store.leases()[0].label in ended.error
        assert nobody_lost_anything(market, store) == set()


def test_an_offer_that_is_truly_gone_costs_an_attempt_and_not_the_run(market, tmp_path, monkeypatch):
    gone = []

    def first_gone(call):
        if gone:
            return call.send()
        gone.append(call)
        return 410, b'{"success": false, "error": "no_such_ask", "msg": "gone"}'

    with place(market, Between(create=first_gone), tmp_path, monkeypatch) as store:
        assert run().code == 0
        assert [row.verdict for row in store.leases()] == ["never created", "destroyed"]


def swapped(stranger, *, times=10**6):
    """Rows in which our label stands with the stranger's instance, and the stranger's with ours, so many times."""
    left = [times]

    def change(rows):
        theirs = next((row for row in rows if row["id"] == stranger), None)
        ours = next((row for row in rows if read_label(row["label"])), None)
        if theirs and ours and left[0] > 0:
            left[0] -= 1
            theirs["label"], ours["label"] = ours["label"], theirs["label"]
        return rows

    return change


@pytest.mark.parametrize("times", [1, 10**6], ids=["once", "always"])
def test_two_labels_that_change_places_cost_nobody_an_instance(market, tmp_path, monkeypatch, times):
    with place(market, Between(change=swapped(market.stranger, times=times)), tmp_path, monkeypatch) as store:
        ended = run()
        assert market.vast.alive == [market.stranger]
        assert ended.code == 0
        assert [row.verdict for row in store.leases()] == ["destroyed"]


def test_labels_swapped_in_every_answer_destroy_nothing_and_are_reported(market, tmp_path, monkeypatch):
    meddling = Between(change=swapped(market.stranger))
    ours = []

    def everywhere(call):
        if call.is_create:
            ours.append(json.loads(call.sent)["label"])
        status, body = meddling(call)
        if call.method == "GET" and call.path.startswith("/api/v0/instances/") and b'"label"' in body:
            shown = json.loads(body)
            shown["instances"]["label"] = ours[-1] if shown["instances"]["id"] == market.stranger else "somebody else's"
            body = json.dumps(shown).encode()
        return status, body

    with place(market, everywhere, tmp_path, monkeypatch) as store:
        ended = run()
        assert ended.code == 8
        assert "not ours for certain" in ended.error
        assert nobody_lost_anything(market, store) == set()


def test_labels_swapped_after_a_lost_answer_destroy_nothing(market, tmp_path, monkeypatch):
    def lost(call):
        call.send()
        return 502, b"bad gateway"

    meddling = Between(create=lost, change=swapped(market.stranger))
    with place(market, meddling, tmp_path, monkeypatch) as store:
        ended = run()
        assert ended.code == 8
        assert str(market.stranger) in ended.error
        assert nobody_lost_anything(market, store) == set()


def test_our_label_with_a_strangers_instance_is_not_reaped(market, tmp_path, monkeypatch):
    """The run has ended and is closed; afterwards one list shows its label with an instance that is not ours."""
    meddling = Between()
    with place(market, meddling, tmp_path, monkeypatch) as store:
        assert run().code == 0
        label = store.leases()[0].label
        meddling.change = lambda rows: [row | {"label": label} if row["id"] == market.stranger else row for row in rows]
        ended = run("reap", "--live", "--yes")
        assert market.vast.alive == [market.stranger]
        assert ended.code == 8
        assert str(market.stranger) in ended.error


def behind(call, began, lag_s):
    """What a replica that lags behind says of the instance: nothing yet."""
    if time.monotonic() - began[0] < lag_s / SPEED and "/api/v0/instances/" in call.path:
        if call.method == "GET":
            return 200, b'{"instances": null}'
        if call.method == "DELETE":
            return 404, b'{"success": false, "error": "no_such_instance", "msg": "no such instance"}'
    return None


@pytest.mark.parametrize("create", ["answered", "lost"])
def test_an_instance_that_no_answer_shows_yet_is_not_taken_for_gone(market, tmp_path, monkeypatch, create):
    """List, page and delete lag behind the create, after which the program is stopped at once."""
    began = []

    def stopped(call):
        answer = call.send()
        began.append(time.monotonic())
        signal.raise_signal(signal.SIGTERM) if create == "answered" else None
        return answer if create == "answered" else (502, b"bad gateway")

    meddling = Between(lag_s=20, create=stopped)
    with place(market, lambda call: (began and behind(call, began, 20)) or meddling(call), tmp_path, monkeypatch) as store:
        ended = run()
        assert market.vast.alive == [market.stranger]
        # The answer to the delete that worked may be late on a busy machine; then the next one finds nothing.
        (lease,) = store.leases()
        assert lease.verdict in {"destroyed", "already gone"}
        assert ended.code == (130 if create == "answered" else 4)


def test_an_instance_that_comes_back_is_destroyed_before_the_command_ends(market, tmp_path, monkeypatch):
    """The first delete is acknowledged and lost; the instance is hidden until it seems to be gone for good."""
    deleted, denied = [], []

    def lost_delete(call):
        on_instance = "/api/v0/instances/" in call.path
        if call.method == "DELETE" and on_instance and not deleted:
            deleted.append(call)
            return 200, b'{"success": true, "msg": "instance destroyed"}'
        if call.method == "GET" and on_instance and deleted and not denied:
            denied.append(call)
            return 200, b'{"instances": null}'
        return meddling(call)

    meddling = Between(change=lambda rows: [row for row in rows if row["id"] == market.stranger or denied or not deleted])
    with place(market, lost_delete, tmp_path, monkeypatch) as store:
        ended = run()
        assert market.vast.alive == [market.stranger]
        assert [row.verdict for row in store.leases()] == ["destroyed"]
        assert ended.code == 0
