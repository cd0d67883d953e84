"""No answer makes a command take more memory than a small machine has, however little of it travels."""

import gzip
import json
import os
from itertools import count
from multiprocessing.util import Finalize
from pathlib import Path

import pytest

from tests.hostile.between import Raw, between
from tests.processes import clean_environment, forked

MOST_MB = 150
"""Beyond what the command takes before it begins."""


def note() -> None:
    """Note this process's memory now, and at its end what it was at most."""
    place = Path(os.environ["PEAK"])
    place.write_text(f"{_most_mb()}\n")

    def at_end() -> None:
        with place.open("a") as file:
            file.write(f"{_most_mb()}\n")

    Finalize(None, at_end, exitpriority=0)


def _most_mb() -> float:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line) / 1024


KEY = "k3y-that-must-not-be-seen-anywhere"
PAGES = count(1)


def listing(row: str, size: int) -> bytes:
    """A page of every list that there is, as long as ``size`` bytes allow, whose rows are all ``row``."""
    rows = ",".join([row] * (size // (len(row) + 1)))
    return b'{"success": true, "id": 1, "next_token": "%d", "instances": [%s]}' % (next(PAGES), rows.encode())


def offers(row: str, size: int) -> bytes:
    return listing(row, size).replace(b'"instances"', b'"offers"')


OFFER = json.dumps({"id": 1, "dph_base": 0.1, "dph_total": 0.1, "storage_cost": 0, "gpu_name": "x"})
ANSWERS = {
    "twice gzipped": lambda: ("gzip, gzip", gzip.compress(gzip.compress(bytes(200_000_000)))),
    "gzipped": lambda: ("gzip", gzip.compress(bytes(200_000_000))),
    "not gzipped": lambda: ("", b" " * 50_000_000),
    "small rows": lambda: ("", listing("{}", 1_000_000)),
    "empty lists": lambda: ("", listing("[]", 1_000_000)),
    "rows of one field": lambda: ("", listing('{"":0}', 1_000_000)),
    "many small instances": lambda: ("", listing('{"id":1}', 1_000_000)),
    "pages without end": lambda: ("", listing(json.dumps({"id": next(PAGES), "status_msg": "\U0001f600" * 1800}), 900_000)),
    "deep": lambda: ("", b'{"a":' * 200_000),
    "a number": lambda: ("", b"1" * 1_000_000),
    "offers": lambda: ("", offers(OFFER, 2_000_000)),
    "odd offers": lambda: ("", offers('{"":0}', 2_000_000)),
    "a page": lambda: ("", b"<p>" * 300_000),
    "backslashes": lambda: ("", b'"' + b"\\" * 999_000 + b'"'),
    "the key": lambda: ("", json.dumps({"msg": KEY * 6_000}).encode()),
}


@pytest.mark.timeout(170)
@pytest.mark.parametrize("command", [["offers", "--live"], ["reap", "--live", "--yes"]], ids=lambda command: command[0])
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_takes_much_memory(tmp_path, command, answer):
    peak, out, err = (tmp_path / name for name in ("peak", "out", "err"))

    def hostile(call):
        encoding, body = ANSWERS[answer]()
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding or 'identity'}\r\nContent-Length: {len(body)}\r\n\r\n"
        return Raw([head.encode() + body])

    with between("http://127.0.0.1:9", hostile) as url:
        environment = clean_environment(tmp_path, VAST_URL=url, VAST_API_KEY=KEY, VASTBENCH_SPEED="1000", PEAK=str(peak))
        process = forked(command, environment | {"VASTBENCH_STORE": str(tmp_path / "runs.sqlite")}, tmp_path, out, err, note)
        process.join(150)
    assert process.exitcode in (0, 4, 5), err.read_text()
    assert "Traceback" not in err.read_text()
    before, most = map(float, peak.read_text().split())
    assert most - before < MOST_MB
