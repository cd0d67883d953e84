"""A real receiver on loopback that verifies what it gets with the library of Standard Webhooks."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLwSw"


@dataclass
class Receiver:
    """What was received; ``answers`` are the (status, headers) of the next requests, then 204. ``held`` keeps answers back."""

    url: str = ""
    answers: list = field(default_factory=list)
    ids: list = field(default_factory=list)
    payloads: list = field(default_factory=list)
    hosts: list = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    came: threading.Event = field(default_factory=threading.Event)

    def types(self) -> list:
        return [payload["type"] for payload in self.payloads]

    def data(self, event: str) -> list:
        return [payload["data"] for payload in self.payloads if payload["type"] == event]


@contextmanager
def receiving(*answers, hold: bool = False, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver that answers with ``answers`` one after the other; with ``hold`` only once its event ``free`` is set."""
    receiver = Receiver(answers=list(answers))
    if not hold:
        receiver.free.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            Webhook(SECRET).verify(body, dict(self.headers))  # raises, and closes the connection, for a wrong signature
            receiver.ids.append(self.headers["webhook-id"])
            receiver.payloads.append(json.loads(body))
            receiver.hosts.append(self.headers["host"])
            receiver.came.set()
            receiver.free.wait(30)
            answer = receiver.answers.pop(0) if receiver.answers else 204
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            try:
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
            except OSError:
                pass  # the sender has given up

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    receiver.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        receiver.free.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def raw_receiver(answer) -> Iterator[str]:
    """The URL of a receiver that hands each connection to ``answer`` as a socket, and closes it afterwards."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                try:
                    read = b""
                    while not read.endswith(b"}"):
                        read += connection.recv(65536)
                    answer(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
