"""Two network namespaces joined by a line of a given rate and delay: packets wait in this process, TCP is the kernel's own.

Needs Linux and root (or the right to make network namespaces) and ``/dev/net/tun``.
"""

import collections
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable

NEAR, FAR = "10.213.0.1", "10.213.0.2"
"""The addresses of the two ends."""

MTU = 9000
"""Bytes in a packet at most: large ones, so that carrying them takes little of the processor."""

_NEW_NETWORK, _TUN_SET, _TUN_NO_HEADER = 0x40000000, 0x400454CA, 0x1001


def at_end(address: str, other: str, hand_over: socket.socket, work: Callable[[], int]) -> int:
    """A child process that does ``work`` in a network namespace whose only way out is the line; gives its id.

    What ``work`` gives is the child's exit status.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, _TUN_SET, struct.pack("16sH22x", b"line", _TUN_NO_HEADER))
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", "line", "mtu", str(MTU), "up"),
            ("addr", "add", address, "peer", other, "dev", "line"),
        ):
            subprocess.run(["ip", *words], check=True)
        socket.send_fds(hand_over, [b"t"], [tun])
        os.close(tun)
        status = work()
    except BaseException:  # noqa: BLE001 (a child of fork has nobody to raise it to)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


class Way:
    """One direction: a packet leaves after those before it, at ``rate`` bytes per second, and arrives ``delay_s`` later."""

    def __init__(self, source: int, sink: int, rate: float, delay_s: float) -> None:
        self.source, self.sink, self.rate, self.delay_s = source, sink, rate, delay_s
        self.room = 2 * rate * delay_s + 1_000_000
        self.waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self.bytes = 0
        self.free = 0.0

    def take(self) -> None:
        """Read a packet; it is lost when too many wait, as in a router."""
        packet = os.read(self.source, MTU + 64)
        if self.bytes + len(packet) > self.room:
            return
        now = time.monotonic()
        self.free = max(self.free, now) + len(packet) / self.rate
        self.waiting.append((self.free + self.delay_s, packet))
        self.bytes += len(packet)

    def deliver(self) -> float:
        """Hand on what is due; the seconds until the next is."""
        while self.waiting:
            due, packet = self.waiting[0]
            if (rest := due - time.monotonic()) > 0:
                return rest
            self.waiting.popleft()
            self.bytes -= len(packet)
            try:
                os.write(self.sink, packet)
            except OSError:
                return 1.0  # the other end is gone
        return 1.0


def join(ends: list[socket.socket], rate: float, delay_s: float, child: int) -> int:
    """Carry packets between the two ends until the process ``child`` has ended; its status.

    ``rate``: bytes per second each way. ``delay_s``: one way.
    """
    tuns = [socket.recv_fds(end, 1, 1)[1][0] for end in ends]
    for tun in tuns:
        os.set_blocking(tun, False)
    ways = {tuns[0]: Way(tuns[0], tuns[1], rate, delay_s), tuns[1]: Way(tuns[1], tuns[0], rate, delay_s)}
    poll = select.poll()
    for tun in tuns:
        poll.register(tun, select.POLLIN)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        wait_s = min(way.deliver() for way in ways.values())
        for tun, _ in poll.poll(max(0.2, wait_s * 1000)):
            try:
                for _ in range(32):
                    ways[tun].take()
            except BlockingIOError:
                continue
