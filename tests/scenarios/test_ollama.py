"""The client of Ollama's API against servers that say anything: what is not in its form is an error that names it."""

import contextlib
import json
import socket
import threading
import time

import pytest

from vastbench.clock import Clock
from vastbench.errors import CheckFailed, DeadlineExceeded
from vastbench.scenarios import ollama
from vastbench.scenarios.ollama import Answer, Ollama

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def row(**words):
    return json.dumps(words).encode() + b"\n"


@contextlib.contextmanager
def client(*parts, speed=1.0):
    """A client of a server that answers everything with these bytes and then closes; a number is a pause in seconds, and
    None keeps the connection open."""
    over = threading.Event()

    def answer(one):
        with one, contextlib.suppress(OSError), one.makefile("rb") as asked:
            length = max(int(line.split()[1]) if b"Content-Length" in line else 0 for line in iter(asked.readline, b"\r\n"))
            asked.read(length)  # a server that closes before it has read all resets the connection
            for part in parts:
                if part is None:
                    over.wait(20)
                elif isinstance(part, bytes):
                    one.sendall(part)
                else:
                    time.sleep(part)

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        one = Ollama(listener.getsockname()[1], Clock(speed))
        try:
            yield one
        finally:
            over.set()
            one.close()
            listener.shutdown(socket.SHUT_RDWR)


def ask(one, limit_s=20.0, **more):
    return one.ask("m:1", "A prompt", limit_s=limit_s, options={"num_predict": 9}, **more)


def test_an_answer_is_heard_piece_by_piece():
    last = row(response="", done=True, eval_count=3)
    with client(OK, row(thinking="hm"), 0.02, row(response="a"), 0.02, row(response=" b"), 0.02, last) as one:
        said = ask(one)
    assert (said.text, said.thinking, said.pieces, said.tokens) == ("a b", "hm", 3, 3)
    assert said.sent < said.first < said.first_output < said.ended
    assert said.inter_token_s == (said.ended - said.first) / 2


def test_a_single_token_has_no_time_between_tokens():
    assert Answer("a", "", 0.0, 1.0, 1.0, 2.0, pieces=1, tokens=1).inter_token_s is None
    assert Answer("a", "", 0.0, 1.0, 1.0, 2.0, pieces=1).inter_token_s is None


def test_no_more_is_heard_than_the_first_output_where_that_is_asked_for():
    with client(OK, row(response="a"), None) as one:
        said = ask(one, to_output=True)
    assert (said.text, said.tokens) == ("a", None)


FORMS = {
    "no JSON": ((OK, b"<html>hello</html>\n"), "says '<html>hello</html>', which is not"),
    "a list": ((OK, b"[1]\n"), "not Ollama's form"),
    "an escape": ((OK, b"\x1b[2J\n"), "says '�\\[2J'"),
    "an error": ((OK, row(error="no\x1b such thing")), "refused: no� such thing"),
    "a refusal": ((b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n", row(error="busy")), "answered 503: .*busy"),
    "a redirect": ((b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\n",), "answered 302"),
    "no end": ((OK, row(response="a")), "was cut after 1 pieces"),
    "no token": ((OK, row(response="", done=True, eval_count=0)), "gave no token"),
    "no count": ((OK, row(response="a"), row(done=True)), "eval_count is 'None'"),
    "a count of text": ((OK, row(response="a"), row(done=True, eval_count="7")), "eval_count is '7'"),
    "a count below what came": ((OK, row(response="a") * 4, row(done=True, eval_count=1)), "counts 1 tokens, and 4"),
    "a count beyond what came": ((OK, row(response="a"), row(done=True, eval_count=900)), "counts 900 tokens"),
    "a connection that ends": ((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", row(response="a")), "connection ended"),
    "a nest": ((OK, b"[" * 90_000 + b"\n"), "not Ollama's form"),
    "no HTTP": ((b"SSH-2.0-OpenSSH_9.6\r\n",), "connection ended"),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_in_another_form_is_no_answer(form):
    parts, words = FORMS[form]
    with client(*parts) as one, pytest.raises(CheckFailed, match=words):
        ask(one)


def test_a_line_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(ollama, "LONGEST_LINE", 1000)
    with client(OK, b"x" * 5000, None) as one, pytest.raises(CheckFailed, match="more than 1,000 bytes in a line"):
        ask(one)


def test_an_answer_that_goes_on_and_on_is_given_up(monkeypatch):
    monkeypatch.setattr(ollama, "LONGEST_ANSWER", 1000)
    with client(OK, *[row(response="a")] * 200, None) as one, pytest.raises(CheckFailed, match="or 1,000 in all"):
        ask(one)


def test_a_silent_server_is_waited_for_no_longer_than_it_may_take():
    with client(None, speed=1000.0) as one, pytest.raises(DeadlineExceeded, match="was not done in 20 s"):
        ask(one)


def test_an_answer_that_drips_is_given_up_in_time():
    with client(OK, *([row(response="a"), 0.1] * 100), speed=1000.0) as one, pytest.raises(DeadlineExceeded, match="20 s"):
        ask(one)


def test_a_proxy_for_the_internet_is_not_asked(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with client(OK, row(version="1.2")) as one:
        assert one.version() == "1.2"


def test_nothing_on_the_port_and_nonsense_there_have_no_version():
    with client(b"") as nothing, client(OK, b"{}") as nonsense:
        assert (nothing.version(), nonsense.version()) == (None, None)


def test_what_is_no_list_of_models_is_refused():
    for said in ({}, {"models": None}, {"models": [1]}, {"models": [{}]}):
        with client(OK, row(**said)) as one, pytest.raises(CheckFailed, match="no list of models"):
            one.digests()
    with client(OK, row(models=[{"name": "m:1", "size_vram": -1}])) as one, pytest.raises(CheckFailed, match="size_vram"):
        one.loaded()


def test_a_pull_tells_what_came_from_what_was_there():
    there = row(status="pulling", digest="sha256:a", total=5, completed=5)
    begun, half = (row(status="pulling", digest="sha256:b", total=7, completed=count) for count in (0, 3))
    with client(OK, there, begun, half, row(status="success")) as one:
        assert one.pull("m:1", limit_s=9.0) == {"sha256:a", "sha256:b"}
        assert one.come == {"sha256:b": 7}
    with client(OK, there, begun, half) as one:
        with pytest.raises(CheckFailed, match="ended with 'pulling', not with success"):
            one.pull("m:1", limit_s=9.0)
        assert one.come == {"sha256:b": 3}  # which were paid for
