"""No secret lies anywhere after a study with all that comes of it; and the search for them finds planted ones."""

import base64
import gzip
import json
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import traceback
import zipfile
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.hostile.canaries import private_key, search
from tests.hostile.leaping import Leaping
from tests.processes import VASTBENCH, clean_environment
from tests.profiles import CERTAIN
from tests.vast.market import KEY, Script, client, page
from vastbench.errors import VastbenchError
from vastbench.ssh.keys import RunKey
from vastbench.vast.models import CreateRequest

PLANTED = b"c4nary-51e2/that+must:not~be_seen-anywhere"
TEXT = PLANTED.decode()


def planted_key(seed: bytes) -> bytes:
    return RunKey(Ed25519PrivateKey.from_private_bytes(seed), "canary")._pem


def sqlite_with(folder: Path, *, in_log_only: bool) -> None:
    database = sqlite3.connect(folder / "runs.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (text)")
    database.execute("INSERT INTO t VALUES (?)", ("x" * 5000 + TEXT,))
    database.commit()
    if in_log_only:
        KEPT.append(database)  # closing it would fold the log into the file
    else:
        database.close()


KEPT: list[sqlite3.Connection] = []


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.json.gz", gzip.compress(json.dumps({"key": TEXT}).encode()))


PLACES = {
    "a text file": lambda folder: (folder / "log").write_bytes(b"Bearer " + PLANTED),
    "a file's name": lambda folder: (folder / TEXT.replace("/", "-")).touch() or (folder / quote(TEXT, safe="")).touch(),
    "percent-encoded": lambda folder: (folder / "url").write_text(quote(TEXT, safe="")),
    "JSON": lambda folder: (folder / "a.json").write_text(json.dumps({"a": json.dumps({"key": TEXT})})),
    "UTF-16": lambda folder: (folder / "utf16").write_text(TEXT, encoding="utf-16"),
    "base64": lambda folder: (folder / "b64").write_bytes(base64.b64encode(PLANTED)),
    "base64 of a header": lambda folder: (folder / "b64").write_bytes(base64.b64encode(b"user:" + PLANTED + b"!")),
    "wrapped base64": lambda folder: (folder / "b64").write_text("\n".join(textwrap.wrap(base64.b64encode(PLANTED).decode(), 9))),
    "hex": lambda folder: (folder / "hex").write_text(PLANTED.hex()),
    "gzip": lambda folder: (folder / "a.gz").write_bytes(gzip.compress(PLANTED)),
    "gzip in zip": lambda folder: zipped(folder / "a.zip"),
    "parquet": lambda folder: pq.write_table(pa.table({"label": ["x", TEXT]}), folder / "a.parquet", compression="zstd"),
    "SQLite": lambda folder: sqlite_with(folder, in_log_only=False),
    "SQLite's write-ahead log": lambda folder: sqlite_with(folder, in_log_only=True),
    "an image in a page": lambda folder: (folder / "a.html").write_bytes(
        b'<img src="data:image/png;base64,' + base64.b64encode(gzip.compress(b"x" * 200 + PLANTED + os.urandom(64))) + b'">'
    ),
}


@pytest.mark.parametrize("plant", PLACES.values(), ids=PLACES)
def test_the_search_finds_a_key_that_is_planted_in(plant, tmp_path):
    plant(tmp_path)
    assert search({"key": PLANTED}, [tmp_path])


@pytest.mark.parametrize("width", [64, 70, 76, 1000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\\n", "\n> "])
def test_the_search_finds_a_private_key_in_any_wrapping_without_its_head(width, line_end):
    secrets, other = private_key(planted_key(b"\7" * 32)), private_key(planted_key(b"\7" * 31 + b"8"))
    body = "".join(planted_key(b"\7" * 32).decode().splitlines()[1:-1])
    text = line_end.join(textwrap.wrap(body, width))
    assert search(secrets, [], {"log": text})
    assert not search(other, [], {"log": text})


def test_the_search_finds_nothing_where_nothing_is(tmp_path):
    (tmp_path / "public").write_text(RunKey(Ed25519PrivateKey.from_private_bytes(b"\7" * 32), "canary").public_line)
    assert search(private_key(planted_key(b"\7" * 32)) | {"key": PLANTED}, [tmp_path], {"log": "nothing"}) == []
