"""Waiting for a machine: what counts as ready, what is retried, what is refused, and what the bounds contain."""

import itertools
import os
import signal
import socket
import sys
import threading
import time

import asyncssh
import pytest

from tests.ssh.machine import Machine, deaf_port
from vastbench.clock import Clock
from vastbench.errors import DeadlineExceeded, HostKeyChanged, Interrupted, SshError, UsageError
from vastbench.ssh import probe as probing
from vastbench.ssh.keys import HostKeyPin
from vastbench.ssh.probe import Endpoint, NotReady, Step, wait_ready
from vastbench.ssh.transport import Connection, NotYet


def test_a_ready_machine_gives_a_working_session(machine, wait):
    ready = wait(machine().endpoint())
    assert ready.session.run("echo hello").stdout == "hello\n"
    assert ready.winner.tries == 1
    assert ready.winner.refusals_by_symptom == {}


def test_the_bounds_of_every_step_contain_the_scripted_truth(machine, wait):
    booting: Machine = machine("closed")
    booting.play(("closed", 0.7), ("close", 0.8), ("denied", 1.3), ("broken", 1.3), ("ready", 0))
    ready = wait(booting.endpoint())
    moments = ready.winner.moments
    for step, behaviour in {
        Step.PORT: "close",
        Step.BANNER: "denied",
        Step.LOGIN: "broken",
        Step.FIRST_COMMAND: "ready",
    }.items():
        not_before, at = booting.truth[behaviour]
        assert moments[step].lower <= at
        assert not_before <= moments[step].upper
        assert moments[step].upper - moments[step].lower < 2.5
    assert set(ready.winner.refusals_by_symptom) == {"refused", "closed early", "permission denied", "command failed"}


def test_a_slow_server_is_slow_and_not_unready(machine, wait, clock, monkeypatch):
    monkeypatch.setattr("vastbench.clock.MIN_SOCKET_TIMEOUT_S", 0.2)
    since = clock.now()
    ready = wait(machine(banner_delay_s=1.4).endpoint(), since=since)
    assert ready.winner.refusals_by_symptom == {"silent": 1}
    assert ready.winner.moments[Step.FIRST_COMMAND].lower == since


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has POLLRDHUP, which tells of the end before what was said is read"
)
def test_whoever_says_something_else_and_hangs_up_is_not_waited_for():
    """The time limit is beyond this test's own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(Endpoint("direct", *server.getsockname()[:2]), HostKeyPin())
        connection.connect(5)
        with server.accept()[0] as other:
            other.sendall(b"\n")
        try:
            with pytest.raises(NotYet, match="hung up") as caught:
                connection.identify(3600)
        finally:
            connection.close()
    assert (caught.value.symptom, caught.value.silent) == ("not SSH", False)


SYMPTOMS = {
    "close": {"closed early"},
    "reset": {"reset", "closed early"},
    "silent": {"silent"},
    "garbage": {"not SSH"},
    "http": {"not SSH"},
    "banner then silence": {"no key exchange"},
    "banner then close": {"closed early", "reset"},
    "denied": {"permission denied"},
    "broken": {"command failed"},
    "no exec": {"command refused"},
    "drop": {"lost during command"},
    "no status": {"lost during command"},
}
"""What each behaviour looks like; a connection that ends with data under way may look closed or reset."""


@pytest.mark.parametrize("behaviour", SYMPTOMS)
def test_every_symptom_of_a_booting_machine_is_counted_and_tried_again(behaviour, machine, wait, monkeypatch):
    """Every symptom that can be made on loopback."""
    if "silen" in behaviour:  # only there: under load a short limit ends what would have worked
        monkeypatch.setattr(probing, "BANNER_S", 0.6)
        monkeypatch.setattr(probing, "EXCHANGE_S", 0.6)
    monkeypatch.setattr(probing, "REST_AFTER_HANDSHAKE_S", 0.4)
    booting = machine(behaviour)
    booting.play((behaviour, 0.8), ("ready", 0))
    winner = wait(booting.endpoint()).winner
    assert SYMPTOMS[behaviour] & set(winner.refusals_by_symptom)
    ready = winner.moments[Step.FIRST_COMMAND]
    assert ready.lower <= booting.truth["ready"][1]
    assert booting.truth["ready"][0] <= ready.upper


def test_a_deadline_leaves_a_censored_observation_with_its_evidence(machine, key, pin, clock):
    booting = machine("denied")
    now = clock.now()
    with pytest.raises(NotReady, match=r"No address ran 'true' within 1\.5 s") as failed:
        wait_ready([booting.endpoint()], key, pin, clock=clock, since=now, deadline=now + 1.5)
    (seen,) = failed.value.probes
    assert "permission denied" in failed.value.last_seen
    assert f"127.0.0.1:{booting.port}" in str(failed.value)
    assert seen.moments[Step.BANNER].seen
    assert not seen.moments[Step.LOGIN].seen
    assert seen.moments[Step.FIRST_COMMAND].lower == seen.moments[Step.LOGIN].lower > now


def test_a_port_that_drops_requests_counts_as_no_answer(key, pin, clock, monkeypatch):
    monkeypatch.setattr("vastbench.clock.MIN_SOCKET_TIMEOUT_S", 0.2)
    monkeypatch.setattr(probing, "CONNECT_S", 0.5)
    with deaf_port() as port:
        now = clock.now()
        with pytest.raises(NotReady) as failed:
            wait_ready([Endpoint("direct", "127.0.0.1", port)], key, pin, clock=clock, since=now, deadline=now + 0.9)
    assert failed.value.probes[0].refusals_by_symptom == {"no answer": 1}


def test_a_name_that_does_not_resolve_is_retried(key, pin, clock):
    now = clock.now()
    with pytest.raises(DeadlineExceeded, match="name not found"):
        wait_ready([Endpoint("proxy", "nowhere.invalid", 22)], key, pin, clock=clock, since=now, deadline=now + 1.0)


def test_a_closed_port_is_refused_and_later_found_open(machine, wait):
    booting = machine("closed")
    booting.play(("closed", 0.6), ("ready", 0))
    ready = wait(booting.endpoint())
    assert set(ready.winner.refusals_by_symptom) == {"refused"}
    moment = ready.winner.moments[Step.FIRST_COMMAND]
    assert moment.lower <= booting.truth["ready"][1] <= moment.upper + 0.0001


def test_a_greeting_before_the_identification_does_not_matter(machine, wait):
    assert wait(machine(greeting=b"Welcome\r\nto the machine\r\n").endpoint()).winner.tries == 1


def test_a_refused_key_is_offered_again_on_the_same_connection(machine, wait):
    booting = machine("denied")
    booting.play(("denied", 2.3), ("ready", 0))
    ready = wait(booting.endpoint())
    assert len(booting.accepted) == 1
    assert ready.winner.refusals_by_symptom == {"permission denied": 3}


def test_no_more_keys_are_offered_than_openssh_bears(machine, key, pin, clock):
    """At most five offers a connection, one a second, then a rest of five seconds (at ten times the speed here)."""
    booting, fast = machine("denied"), Clock(10.0)
    now = fast.now()
    with pytest.raises(NotReady):
        wait_ready([booting.endpoint()], key, pin, clock=fast, since=now, deadline=now + 22)
    first = [at for number, at in booting.offers if number == 1]
    second = [at for number, at in booting.offers if number == 2]
    assert len(first) == 5
    assert min(b - a for a, b in itertools.pairwise(first)) >= 0.095
    assert second[0] - first[-1] >= 0.5


def test_a_stopping_clock_ends_the_wait_long_before_its_deadline(machine, wait, clock):
    threading.Timer(0.3, clock.stopping.set).start()
    with pytest.raises(Interrupted, match="SSH"):
        wait(machine("closed").endpoint(), within=150.0)


def test_two_addresses_race_and_both_are_reported(machine, wait):
    quick, slow = machine(), machine("closed")
    ready = wait(slow.endpoint("proxy"), quick.endpoint("direct"))
    assert ready.winner.endpoint.kind == ready.session.endpoint.kind == "direct"
    assert [p.endpoint.kind for p in ready.probes] == ["proxy", "direct"]
    loser = ready.probes[0]
    assert not loser.moments[Step.PORT].seen
    assert loser.refusals_by_symptom == {"refused": 1}


def test_an_open_port_that_never_logs_in_does_not_win(machine, wait):
    ready = wait(machine("denied").endpoint("proxy"), machine().endpoint("direct"))
    assert ready.winner.endpoint.kind == "direct"
    assert ready.probes[0].moments[Step.BANNER].seen


def test_the_losers_connection_is_closed(machine, wait):
    one, two = machine(), machine()
    ready = wait(one.endpoint("proxy"), two.endpoint("direct"))
    assert ready.session.run("true").exit_code == 0
    assert all(p.tries >= 1 for p in ready.probes)


def test_an_address_that_is_named_late_joins_while_another_is_dead(machine, wait):
    dead, direct, asked = machine("closed"), machine(), itertools.count()
    both = [dead.endpoint("proxy"), direct.endpoint("direct")]
    ready = wait(latest=lambda: both[: 1 + (next(asked) > 3)])
    assert ready.winner.endpoint == direct.endpoint("direct")
    assert [p.endpoint.kind for p in ready.probes] == ["proxy", "direct"]


def test_an_address_that_cannot_work_is_no_verdict_before_all_are_named(machine, wait):
    proxy, direct, asked = machine("ssh1"), machine(), itertools.count()
    both = [proxy.endpoint("proxy"), direct.endpoint("direct")]
    ready = wait(latest=lambda: both[: 1 + (next(asked) > 5)])
    assert ready.winner.endpoint.kind == "direct"


def test_an_address_that_changes_takes_the_place_of_the_former(machine, wait):
    former, ours, asked = machine("denied"), machine("closed"), itertools.count()
    ours.play(("closed", 1.0), ("ready", 0))
    named = [former.endpoint()] * 3 + [ours.endpoint()]
    ready = wait(latest=lambda: named[(at := next(asked)) : at + 1])
    assert ready.winner.endpoint == ours.endpoint()
    assert [p.endpoint for p in ready.probes] == [former.endpoint(), ours.endpoint()]


def test_without_any_address_the_deadline_says_that_none_was_named(key, pin, clock):
    now = clock.now()
    with pytest.raises(NotReady, match="has named none"):
        wait_ready([], key, pin, clock=clock, since=now, deadline=now + 0.3, latest=list)


def test_a_changed_host_key_is_refused_at_once(machine, wait):
    changing = machine()
    wait(changing.endpoint())
    changing.host_key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(HostKeyChanged, match=f"127.0.0.1:{changing.port}"):
        wait(changing.endpoint(), machine("closed").endpoint("proxy"))


def test_a_changed_kind_of_host_key_is_refused(machine, wait):
    changing = machine()
    wait(changing.endpoint())
    changing.host_key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    with pytest.raises(HostKeyChanged):
        wait(changing.endpoint())


@pytest.mark.parametrize(("behaviour", "words"), [("ssh1", "no SSH that we share"), ("password", "takes no public keys")])
def test_what_waiting_cannot_mend_ends_the_wait(behaviour, words, machine, wait):
    with pytest.raises(SshError, match=words):
        wait(machine(behaviour).endpoint())


def test_one_hopeless_address_does_not_condemn_the_other(machine, wait):
    good = machine("closed")
    good.play(("closed", 0.6), ("ready", 0))
    ready = wait(machine("ssh1").endpoint("proxy"), good.endpoint("direct"))
    assert ready.winner.endpoint.kind == "direct"
    assert "no SSH that we share" in ready.probes[0].last_error


def test_an_interrupt_ends_the_wait_and_its_threads(machine, wait):
    booting = machine("silent")
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait(booting.endpoint("proxy"), machine("banner then silence").endpoint("direct"))
    timer.join()
    assert not [t for t in threading.enumerate() if t.name.startswith("vastbench-probe")]


def test_an_interrupt_ends_a_connection_attempt_that_gets_no_answer(wait):
    with deaf_port() as port:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            wait(Endpoint("direct", "127.0.0.1", port))
        timer.join()
    assert not [t for t in threading.enumerate() if t.name.startswith("vastbench-probe")]


def test_many_waits_at_once_queue_for_their_handshakes(machine, key, clock, monkeypatch):
    monkeypatch.setattr(probing, "HANDSHAKES", threading.BoundedSemaphore(1))
    ready = machine()
    now = clock.now()
    queued: list[float] = []

    def one() -> None:
        got = wait_ready([ready.endpoint()], key, probing.HostKeyPin(), clock=clock, since=now, deadline=now + 20)
        queued.append(got.winner.queued_s)
        got.session.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queued) == 6
    assert max(queued) > 0


def test_no_address_and_impossible_addresses_are_refused(wait):
    with pytest.raises(UsageError, match="no SSH address"):
        wait()
    for host, port in (("", 22), ("h", 0), ("h", 70000)):
        with pytest.raises(SshError, match="no usable SSH address"):
            Endpoint("direct", host, port)


def test_an_ipv6_address_is_written_with_brackets():
    assert Endpoint("direct", "::1", 22).address == "[::1]:22"


def test_the_private_key_is_in_no_error(machine, key, pin, clock, tmp_path):
    key.save(tmp_path / "key")
    secret = (tmp_path / "key").read_text().splitlines()[2]
    now = clock.now()
    with pytest.raises(NotReady) as failed:
        wait_ready([machine("denied").endpoint()], key, pin, clock=clock, since=now, deadline=now + 0.8)
    assert secret not in str(failed.value) + repr(failed.value.probes)


def test_a_socket_has_no_delay_and_a_dead_peer_limit(machine, wait):
    transport = wait(machine().endpoint()).session._connection.transport
    sock = transport.sock
    assert isinstance(sock, socket.socket)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert transport.remote_cipher.startswith("aes128-gcm")


def test_a_deadline_in_the_past_ends_at_once(machine, key, pin, clock):
    began = time.monotonic()
    with pytest.raises(NotReady):
        wait_ready([machine("silent").endpoint()], key, pin, clock=clock, since=clock.now(), deadline=clock.now() - 1)
    assert time.monotonic() - began < 60
