"""What a logged-in machine does for us: commands, files, tunnels; and what it may not do to us."""

import contextlib
import http.client
import http.server
import io
import os
import shlex
import socket
import socketserver
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paramiko.common import MSG_CHANNEL_WINDOW_ADJUST

from tests.ssh.machine import Relay
from vastbench.errors import CommandFailed, ConnectionLost, DeadlineExceeded, SnapshotError, SshError, UsageError
from vastbench.ssh import session as sessions
from vastbench.ssh.probe import Endpoint
from vastbench.ssh.session import Session

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- commands


def test_a_command_gives_both_streams_its_exit_code_and_its_readings(session, clock):
    result = session.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert result.sent < result.received <= clock.now()


def test_a_failed_command_names_host_command_code_and_the_end_of_stderr(session):
    with pytest.raises(CommandFailed) as failed:
        session.run("echo the reason >&2; exit 42")
    for word in ("127.0.0.1", "direct", "echo the reason", "42", "the reason"):
        assert word in str(failed.value)
    assert (failed.value.exit_code_remote, failed.value.stderr_tail) == (42, "the reason\n")


def test_standard_input_reaches_the_command(session):
    assert session.run("wc -c", stdin=b"x" * 100_000).stdout.strip() == "100000"


def test_a_command_without_input_sees_its_end(session):
    assert session.run("cat").stdout == ""


def test_megabytes_on_both_streams_and_on_input_do_not_deadlock(session):
    both = session.run("head -c 4000000 /dev/zero >&2; head -c 4000000 /dev/zero")
    assert len(both.stdout) == len(both.stderr) == 4_000_000
    assert len(session.run("cat", stdin=bytes(9_000_000)).stdout) == 9_000_000


def test_a_command_that_does_not_read_its_input_still_succeeds(session):
    assert session.run("true", stdin=bytes(5_000_000)).exit_code == 0


def test_bytes_that_are_no_text_are_replaced(session):
    assert session.run(r"printf 'a\377b'").stdout == "a\ufffdb"


@pytest.mark.parametrize("stream", ["", " >&2"])
def test_a_machine_cannot_fill_our_memory(stream, session, monkeypatch):
    monkeypatch.setattr(sessions, "OUTPUT_LIMIT", 1_000_000)
    with pytest.raises(SshError, match="more than 1,000,000 bytes"):
        session.run(f"cat /dev/zero{stream}", timeout_s=20)
    assert session.run("echo still here").stdout == "still here\n"


def test_a_command_over_its_time_limit_is_censored_and_the_session_lives(session):
    with pytest.raises(DeadlineExceeded, match=r"127.0.0.1.*sleep 60.*nearly") as failed:
        session.run("echo nearly >&2; exec sleep 60", timeout_s=0.5)
    assert failed.value.waited_for == "echo nearly >&2; exec sleep 60"
    assert session.run("echo on").stdout == "on\n"


def test_a_null_character_in_a_command_is_refused(session):
    with pytest.raises(UsageError, match="null"):
        session.run("echo a\0b")


def test_many_threads_share_one_session(session):
    results: dict[int, str] = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: session.run(f"echo {i}").stdout})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: f"{i}\n" for i in range(8)}


def test_an_end_of_file_after_its_channels_close_ends_no_connection(session):
    transport = session._connection.transport
    channel = transport.open_session()
    late = channel._send_eof()  # made, and not sent yet
    channel.close()
    transport._send_user_message(late)
    assert session.run("echo still here").stdout == "still here\n"


# --- streams


def test_a_stream_carries_input_and_output_of_any_bytes_and_its_readings(session, clock):
    content, heard = os.urandom(3_000_000), bytearray()
    done = session.stream("cat; echo said >&2", source=io.BytesIO(content), sink=heard.extend)
    assert bytes(heard) == content
    assert (done.stdout, done.stderr) == ("", "said\n")
    assert done.sent < done.received <= clock.now()


def test_a_stream_that_fails_says_why_and_one_over_its_limit_is_censored(session):
    with pytest.raises(CommandFailed, match="the reason") as failed:
        session.stream("echo the reason >&2; exit 42")
    assert failed.value.exit_code_remote == 42
    with pytest.raises(DeadlineExceeded):
        session.stream("echo first; exec sleep 60", timeout_s=0.5)
    assert session.run("echo on").stdout == "on\n"


class Broken:
    def read(self, size=-1):
        raise SnapshotError("the place is gone")


@pytest.mark.parametrize("end", ["source", "sink"])
def test_what_an_end_of_a_stream_raises_ends_it_and_is_raised(session, end):
    def sink(data):
        raise SnapshotError("the place is gone")

    ends = {"source": Broken()} if end == "source" else {"sink": sink}
    with pytest.raises(SnapshotError, match="the place is gone"):
        session.stream("head -c 100000 /dev/zero; cat; sleep 60", timeout_s=30, **ends)
    assert session.run("echo on").stdout == "on\n"


def gone(*_):
    raise EOFError


def test_no_thread_dies_of_closing_a_channel_whose_connection_is_gone(session, monkeypatch):
    monkeypatch.setattr("paramiko.Channel.close", gone)
    with pytest.raises(SnapshotError, match="the place is gone"):  # and no thread's error is left for pytest to find
        session.stream("exec cat", timeout_s=5, source=Broken())


def test_what_start_up_files_print_is_no_part_of_a_stream(machine, wait):
    chatty = machine()
    run, heard = chatty._process, bytearray()

    async def greeting(process):
        process.stdout.write(b"Welcome\n" * 100)
        await run(process)

    chatty._process = greeting
    session = wait(chatty.endpoint()).session
    session.stream("printf content", sink=heard.extend)
    assert heard == b"content"


def test_start_up_files_that_never_end_or_end_the_shell_are_said(machine, wait):
    odd = machine()
    session = wait(odd.endpoint()).session

    async def quiet(process):
        process.exit(0)

    async def endless(process):
        process.stdout.write(b"x" * 200_000)
        await process.stdout.drain()
        process.exit(0)

    for words, behaviour in (("ended the shell", quiet), ("printed more than", endless)):
        odd._process = behaviour
        with pytest.raises(SshError, match=words):
            session.stream("true")


def test_all_that_goes_over_a_session_is_counted(session):
    before = session.traffic
    session.stream("cat >/dev/null; head -c 300000 /dev/zero; head -c 1000 /dev/zero >&2", source=io.BytesIO(bytes(200_000)))
    session.put(bytes(50_000), "/tmp/vastbench-counted")
    assert session.traffic.down - before.down == 250_000
    assert 301_000 <= session.traffic.up - before.up < 301_200


class Far(Relay):
    """A relay that takes 20 ms for whatever it passes on."""

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(0.02)
                sink.sendall(data)


def test_keys_exchanged_anew_as_a_command_ends_hold_up_nothing(machine, wait, monkeypatch):
    near = machine()
    far = Far(near.port)
    try:
        session = wait(Endpoint("direct", "127.0.0.1", far.port)).session
        renewed, transport = [], session._connection.transport
        activate = transport._activate_outbound
        monkeypatch.setattr(transport, "_activate_outbound", lambda: (renewed.append(1), activate())[1])
        transport.packetizer.REKEY_BYTES = 100_000
        for _ in range(12):
            session.stream("head -c 101000 /dev/zero", timeout_s=8)
        assert len(renewed) >= 10
    finally:
        far.stop()


# --- lost connections


def test_a_connection_lost_under_a_command_is_no_result(machine, wait):
    dropping = machine()
    session = wait(dropping.endpoint()).session
    threading.Timer(0.3, dropping.drop_all).start()
    with pytest.raises(ConnectionLost, match=r"sleep 30.*unknown"):
        session.run("sleep 30", check=False)
    assert not session.alive
    with pytest.raises(ConnectionLost):
        session.run("true")


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_a_connection_on_which_nothing_can_be_said_is_lost(stream, session, monkeypatch):
    """Who reads much tells the machine that it may send more; where that fails, what came may not be all."""
    transport = session._connection.transport
    send = transport._send_message

    def broken(message):
        if message.asbytes()[0] == MSG_CHANNEL_WINDOW_ADJUST:
            raise EOFError
        send(message)

    monkeypatch.setattr(transport, "_send_message", broken)
    with pytest.raises(ConnectionLost, match="died while it was read: EOFError"):
        session.run(f"head -c 9000000 /dev/zero {stream}")


def test_a_command_without_exit_status_is_no_result(machine, wait):
    odd = machine()
    session = wait(odd.endpoint()).session
    odd.behave("no status")
    with pytest.raises(ConnectionLost, match="killed or its channel closed"):
        session.run("true", check=False)


def test_a_server_that_refuses_commands_is_named(machine, wait):
    odd = machine()
    session = wait(odd.endpoint()).session
    odd.behave("no exec")
    with pytest.raises(SshError, match=r"127.0.0.1.*true.*refused"):
        session.run("true")


def test_a_half_open_connection_ends_at_the_limit(machine, wait, monkeypatch):
    monkeypatch.setattr("vastbench.clock.MIN_SOCKET_TIMEOUT_S", 0.3)
    relay = Relay(machine().port)
    session = wait(Endpoint("proxy", "127.0.0.1", relay.port)).session
    assert session.run("echo ok").stdout == "ok\n"
    relay.freeze()
    for work in (lambda: session.run("true", timeout_s=0.1), lambda: session.put(bytes(8_000_000), "never", timeout_s=0.1)):
        with pytest.raises(DeadlineExceeded):
            work()
    session.close()
    relay.stop()


def test_closing_twice_is_fine_and_a_closed_session_says_so(machine, wait):
    session = wait(machine().endpoint()).session
    with session:
        pass
    session.close()
    assert "closed" in repr(session)
    with pytest.raises(ConnectionLost):
        session.run("true")


# --- files


@quick
@given(
    content=st.binary(max_size=5000),
    name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40),
)
def test_any_content_under_any_name_survives_the_round_trip(content, name, session, tmp_path):
    if name in (".", "..") or len(name.encode()) > 200:
        return
    path = f"{tmp_path}/{name}"
    session.put(content, path)
    assert session.get(path) == content
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize(
    "name", ["-rf", "--help", "a b", "new\nline", "$(touch pwned)", "'; touch pwned; '", "*", "~", "ü", "'"]
)
def test_hostile_relative_names_are_only_names(name, session, tmp_path):
    folder = session.run("mktemp -d").stdout.strip()
    try:
        session.put(b"data", f"{folder}/{name}")
        assert session.get(f"{folder}/{name}") == b"data"
        assert session.run(f"ls -A {shlex.quote(folder)} | wc -l").stdout.strip() == ("2" if "\n" in name else "1")
    finally:
        session.run(f"rm -rf -- {shlex.quote(folder)}")


def test_a_relative_path_starts_in_the_login_folder(session):
    name = "-vastbench-relative-test"
    try:
        session.put(b"here", name)
        assert session.get(name) == b"here"
    finally:
        session.run(f"rm -f -- ./{name}")


@pytest.mark.parametrize("path", ["", "/", "/workspace/", ".", "..", "a/..", "nul\0"])
def test_a_path_that_names_no_file_is_refused(path, session):
    with pytest.raises(UsageError, match="remote path"):
        session.put(b"", path)
    with pytest.raises(UsageError, match="remote path"):
        session.get(path)


def test_megabytes_travel_whole_both_ways_and_from_and_to_files(session, tmp_path):
    content = bytes(range(256)) * 40_000
    (tmp_path / "source").write_bytes(content)
    session.put(tmp_path / "source", f"{tmp_path}/remote")
    session.get_to(f"{tmp_path}/remote", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content == session.get(f"{tmp_path}/remote")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "remote", "source"]


def test_an_empty_file_is_a_file(session, tmp_path):
    session.put(b"", f"{tmp_path}/empty")
    assert session.get(f"{tmp_path}/empty") == b""


def test_putting_replaces_a_file_whole(session, tmp_path):
    (tmp_path / "f").write_bytes(b"long old content")
    session.put(b"new", f"{tmp_path}/f")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_a_link_is_replaced_and_its_target_left_alone(session, tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    session.put(b"new", f"{tmp_path}/link")
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_putting_where_it_cannot_be_fails_and_leaves_nothing(session, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(CommandFailed, match="folder is in the way"):
        session.put(b"x", f"{tmp_path}/folder")
    with pytest.raises(CommandFailed, match="put"):
        session.put(b"x", f"{tmp_path}/missing/file")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_getting_what_is_no_file_fails(session, tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CommandFailed, match="no such regular file"):
            session.get(str(path))


def test_getting_has_a_size_limit(session, tmp_path):
    (tmp_path / "big").write_bytes(bytes(2000))
    with pytest.raises(CommandFailed, match="2000 bytes, more than 1000"):
        session.get(f"{tmp_path}/big", limit_bytes=1000)
    with pytest.raises(CommandFailed):
        session.get_to(f"{tmp_path}/big", tmp_path / "copy", limit_bytes=1000)
    assert [p.name for p in tmp_path.iterdir()] == ["big"]


def starting_with(monkeypatch, words):
    """Sessions whose machine has a start-up file that says ``words``, as some images have."""
    plain = Session._execute
    monkeypatch.setattr(Session, "_execute", lambda self, command, *rest: plain(self, f"{words}; {command}", *rest))


def test_words_of_a_start_up_file_are_told_from_the_content(session, tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"content")
    starting_with(monkeypatch, "echo Welcome 42")
    assert session.get(f"{tmp_path}/f") == b"content"


def test_words_of_a_start_up_file_are_no_result_of_a_command(session, monkeypatch):
    starting_with(monkeypatch, "echo Welcome; printf 'no end'")
    assert session.run("echo one; echo two").stdout == "one\ntwo\n"
    assert session.run("printf '\\n\\n x'").stdout == "\n\n x"
    assert session.run("cat", stdin=b"given").stdout == "given"
    assert session.run("true").stdout == ""


def test_a_start_up_file_that_ends_the_shell_is_told(session, monkeypatch):
    starting_with(monkeypatch, "echo Please log in as another user; exit 0")
    with pytest.raises(SshError, match="start-up files ended the shell"):
        session.run("echo one", check=False)


def test_an_unreadable_local_file_is_named(session, tmp_path):
    with pytest.raises(UsageError, match="missing"):
        session.put(tmp_path / "missing", "/tmp/never")
    with pytest.raises(UsageError, match="cannot be written"):
        session.get_to("/etc/hostname", tmp_path / "no" / "file")


# --- tunnels


@contextlib.contextmanager
def serving(handler):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"x" * 300_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read())


def test_a_tunnel_carries_http(session):
    with serving(Hello) as port, session.tunnel(port) as local:
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", local, timeout=10)
            connection.request("GET", "/")
            assert len(connection.getresponse().read()) == 300_000
            connection.close()


def test_a_tunnel_keeps_half_closed_connections_apart(session):
    with (
        serving(Echo) as port,
        session.tunnel(port) as local,
        socket.create_connection(("127.0.0.1", local), timeout=10) as sock,
    ):
        sock.sendall(b"ping" * 10_000)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65536):
            received += data
    assert received == b"ping" * 10_000


def test_a_tunnel_to_a_closed_port_closes_and_lives_on(session):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with session.tunnel(port) as local:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", local), timeout=10) as sock:
                assert sock.recv(1) == b""


def test_a_tunnel_serves_on_when_a_channel_cannot_be_closed(session, monkeypatch, capsys):
    monkeypatch.setattr("vastbench.ssh.tunnel.CONNECTIONS", 2)
    with serving(Echo) as port, session.tunnel(port) as local:
        monkeypatch.setattr("paramiko.Channel.close", gone)
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", local), timeout=10) as sock:
                sock.sendall(b"ping")
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(10) == b"ping"
    assert capsys.readouterr().err == ""


def test_leaving_a_tunnel_ends_its_port_and_its_connections(session):
    with serving(Echo) as port:
        with session.tunnel(port) as local:
            sock = socket.create_connection(("127.0.0.1", local), timeout=10)
            sock.sendall(b"half")
        with sock, contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", local), timeout=2)


# --- dialogues


def test_a_command_answers_line_by_line_while_it_runs(session):
    with session.dialogue('while read -r line; do echo "heard $line"; done') as talk:
        for word in (b"one", b"two"):
            talk.say(word)
            assert talk.hear() == b"heard " + word
    assert session.run("echo still here").stdout == "still here\n"


def test_a_command_that_ends_or_falls_silent_ends_the_dialogue(session):
    with pytest.raises(ConnectionLost, match="the command ended"), session.dialogue("exit 0") as talk:
        talk.hear()
    with pytest.raises(DeadlineExceeded, match="had not said all"), session.dialogue("sleep 60", timeout_s=0.5) as talk:
        talk.hear()


def test_a_line_without_end_is_not_taken(session):
    with pytest.raises(SshError, match="a line of more than"), session.dialogue("head -c 1000000 /dev/zero; cat") as talk:
        talk.hear()
