"""A man-in-the-middle: an HTTP server on loopback that passes calls on to a marketplace, and may meddle with each."""

import http.client
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, bytes]
"""Status and body."""


@dataclass(frozen=True)
class Raw:
    """What is written to the socket in place of an answer, piece by piece with a pause after each; then it is closed."""

    pieces: Iterable[bytes] = ()
    pause_s: float = 0.0


@dataclass(frozen=True)
class Call:
    """A request of the client; ``send`` passes it on, as often as it is called, and gives the marketplace's answer."""

    method: str
    path: str
    sent: bytes
    send: Callable[[], Answer]

    @property
    def is_create(self) -> bool:
        return self.method == "PUT" and self.path.startswith("/api/v0/asks/")

    @property
    def is_destroy(self) -> bool:
        return self.method == "DELETE" and self.path.startswith("/api/v0/instances/")

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and self.path.startswith("/api/v1/instances/")

    def rows(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Answer:
        """A page of the list with other rows."""
        status, body = self.send()
        page = json.loads(body)
        page["instances"] = change(page["instances"])
        page["total_instances"] = len(page["instances"])
        return status, json.dumps(page).encode()


@contextmanager
def between(url: str, meddle: Callable[[Call], Answer | Raw]) -> Iterator[str]:
    """The address of a server between a client and the marketplace at ``url``; ``meddle`` answers every call."""
    target = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def send() -> Answer:
                onward = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
                try:
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
                    onward.request(self.command, self.path, sent, headers)
                    answer = onward.getresponse()
                    return answer.status, answer.read()
                finally:
                    onward.close()

            answer = meddle(Call(self.command, self.path, sent, send))
            if isinstance(answer, Raw):
                self.drip(answer)
                return
            status, body = answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (the names that http.server looks for)

        def drip(self, raw: Raw) -> None:
            self.close_connection = True
            with suppress(OSError):  # the client has given up
                for piece in raw.pieces:
                    self.wfile.write(piece)
                    if closing.wait(raw.pause_s):
                        return

        def log_message(self, *_: object) -> None:
            pass

    closing = threading.Event()

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # closing waits for them, and so for their sockets

        def handle_error(self, *_: object) -> None:
            """Say nothing of clients that were killed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            closing.set()
            server.shutdown()
            thread.join()
