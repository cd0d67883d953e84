"""Sockets in the network of a machine, kept by the emulator outside."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"

_PROGRAM = Path(__file__).with_name("inner_sockets.py")


def made_inside(pid: int, ports: Sequence[int]) -> list[socket.socket]:
    """A TCP socket for each port, bound to it on the loopback that process ``pid`` sees (0: not bound), and not yet listening.

    Raises OSError with the system's own words.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # Isolated and without site-packages: it starts in a third of the time.
        command = [sys.executable, "-I", "-S", str(_PROGRAM), str(pid), *map(str, ports)]
        done = subprocess.run(command, stdin=theirs.fileno(), capture_output=True, env={}, check=False)
        if done.returncode != 0:
            raise OSError(f"no network of its own: {done.stderr.decode(errors='replace').strip().rpartition(chr(10))[2]}")
        handles = socket.recv_fds(ours, 1, len(ports), socket.MSG_CMSG_CLOEXEC)[1]
    made = [socket.socket(fileno=handle) for handle in handles]
    for one in made:
        one.setblocking(False)
    return made


async def connected(sock: socket.socket, port: int) -> socket.socket:
    """``sock``, connected to that port of its own loopback. Raises OSError, with ``sock`` closed."""
    try:
        await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    except BaseException:
        sock.close()
        raise
    return sock
