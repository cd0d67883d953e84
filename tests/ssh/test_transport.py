"""A machine cannot make us keep more than a little."""

import socket
import struct
import threading
from contextlib import contextmanager, suppress

import paramiko
import pytest
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA

from tests.processes import until
from vastbench.ssh.keys import HostKeyPin
from vastbench.ssh.transport import LARGEST_PACKET_BYTES, MOST_UNREAD_BYTES, Connection, Endpoint, NotYet, RareTransport


@contextmanager
def speaking(chunks):
    """A port that names itself as an SSH server, sends ``chunks`` as long as they are taken, and counts the bytes."""
    sent = [0]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-odd\r\n")
                for chunk in chunks:
                    connection.sendall(chunk)
                    sent[0] += len(chunk)
                connection.recv(1 << 16)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Endpoint("direct", "127.0.0.1", listener.getsockname()[1]), sent
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("length", [LARGEST_PACKET_BYTES + 12, (1 << 30) + 4, (1 << 32) - 4])
def test_a_packet_of_an_impossible_length_is_not_read(length):
    def packet():
        yield struct.pack(">I", length)
        for _ in range(4000):
            yield bytes(65536)

    with speaking(packet()) as (endpoint, sent):
        connection = Connection(endpoint, HostKeyPin())
        connection.connect(5.0)
        connection.identify(5.0)
        with pytest.raises(NotYet, match="announced a packet of"):
            connection.exchange_keys(20.0)
        connection.close()
    assert sent[0] < 32 * 1024 * 1024  # what the kernel keeps


@pytest.mark.parametrize("kind", [MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA])
def test_a_machine_that_sends_more_than_it_may_is_cut_off(kind):
    def feed():
        message = paramiko.Message()
        if kind == MSG_CHANNEL_EXTENDED_DATA:
            message.add_int(1)
        message.add_string(bytes(32768))
        message.rewind()
        RareTransport._channel_handler_table[kind](channel, message)

    channel = paramiko.Channel(1)
    for _ in range(MOST_UNREAD_BYTES // 32768 + 1):
        feed()
    with pytest.raises(paramiko.SSHException, match="more than there was room for"):
        feed()


def test_a_connection_that_ends_while_a_channel_is_made_ends_quietly():
    ours, theirs = socket.socketpair()
    transport = RareTransport(ours)

    class Meanwhile(dict):
        """Of the channels that paramiko has seen: told of one after it was listed."""

        def __setitem__(self, number, seen):
            theirs.shutdown(socket.SHUT_WR)  # closed with something unread it would be reset, which is another error
            until(lambda: not transport.active, 10)

    transport.channels_seen = Meanwhile()
    transport.start_client(threading.Event())
    theirs.sendall(b"SSH-2.0-odd\r\n")
    with pytest.raises((EOFError, paramiko.SSHException)):
        transport.open_channel("session", timeout=10)
    transport.join(10)
    theirs.close()
    assert not transport.is_alive()
