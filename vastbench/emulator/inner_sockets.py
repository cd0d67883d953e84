"""A program of its own, ``inner_sockets.py PID PORT...``: makes sockets in the network of process PID and hands them out.

It brings that network's loopback up and sends one TCP socket for each PORT, bound to it (0: not bound), through the Unix socket
that is its standard input. A socket stays in the network that it was made in, whoever holds it. The emulator cannot do this
itself: only a process of a single thread may enter another user namespace.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

_SET_FLAGS, _UP = 0x8914, 1  # SIOCSIFFLAGS and IFF_UP of the kernel's interface


def main(pid: str, *ports: str) -> None:
    """Enter, make, send. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    for namespace in [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]:
        if libc.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), "it cannot be entered")
    made = [socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) for _ in ports]
    fcntl.ioctl(made[0], _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP))
    for one, port in zip(made, map(int, ports), strict=True):
        if port:
            one.bind(("127.0.0.1", port))
    with socket.socket(fileno=0) as asking:
        socket.send_fds(asking, [b"."], [one.fileno() for one in made])


if __name__ == "__main__":
    main(*sys.argv[1:])
