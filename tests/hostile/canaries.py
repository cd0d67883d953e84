"""Looks for planted secrets in files and texts, in every form in which they could have got there."""

import base64
import gzip
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from urllib.parse import quote_from_bytes

import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vastbench.ssh.keys import RunKey

SEED = b"canary-of-a-run's-private-key-32"
"""The planted private key of every run."""

EMULATOR_KEY = "cafe51e2" * 6
"""How every key begins that an emulator with planted keys gives away, the account's and each instance's own."""

DEEPEST = 4
"""Archives inside archives that are opened."""


def forms(secret: bytes) -> dict[str, bytes]:
    """How ``secret`` may have been written. Line ends and wrapping need no form: they are taken out of what is searched."""
    found = {"as it is": secret, "percent": quote_from_bytes(secret, safe="").encode(), "hex": secret.hex().encode()}
    text = secret.decode("utf-8", "ignore")
    if text.encode() == secret:
        found |= {"JSON": json.dumps(text)[1:-1].encode(), "UTF-16": text.encode("utf-16-le")}
    for shift in range(3):
        # What stands before it moves the groups of base64; the characters at both ends depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + secret)[(0, 2, 3)[shift] :].rstrip(b"=")[:-1]
        found[f"base64 {shift}"] = encoded
        found[f"base64url {shift}"] = encoded.replace(b"+", b"-").replace(b"/", b"_")
    return {name: _squeezed(needle) for name, needle in found.items()}


def pem(seed: bytes = SEED) -> bytes:
    """The private key of ``seed`` as a run holds it."""
    return RunKey(Ed25519PrivateKey.from_private_bytes(seed), "canary")._pem


def planted() -> dict[str, bytes]:
    """What to search for where the emulator's keys and the runs' private key are the planted ones."""
    return private_key(pem()) | {"run key's seed": SEED, "keys of account and instances": EMULATOR_KEY.encode()}


def private_key(pem: bytes) -> dict[str, bytes]:
    """The secrets in an OpenSSH private key: its body behind the public half that it begins with, and what marks a key."""
    body = b"".join(line for line in pem.splitlines() if b"-----" not in line)
    inner, wrapped = base64.b64decode(body)[-96:-32], body[-128:-8]
    return {"private key": inner, "private key, base64": wrapped, "a private key's head": b"PRIVATE KEY-----"}


def search(secrets: Mapping[str, bytes], folders: Iterable[Path], texts: Mapping[str, str | bytes] = {}) -> list[str]:
    """Where each of ``secrets`` was found: ``NAME (form) in PLACE``; the names of files count as texts."""
    needles = [(f"{name} ({form})", needle) for name, secret in secrets.items() for form, needle in forms(secret).items()]
    found = []
    for place, data in _everything(folders, texts):
        views = (_squeezed(data), data)
        found += [f"{name} in {place}" for name, needle in needles if any(needle in view for view in views)]
    return sorted(set(found))


def _everything(folders: Iterable[Path], texts: Mapping[str, str | bytes]) -> Iterator[tuple[str, bytes]]:
    for name, text in texts.items():
        yield from _opened(name, text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            yield f"the name {path}", str(path).encode()
            if path.is_file() and not path.is_symlink():
                yield from _opened(str(path), path.read_bytes())
                if path.read_bytes()[:16] == b"SQLite format 3\0":
                    yield from _rows(path)


def _opened(place: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """``data``, and what is packed inside it."""
    yield place, data
    if depth == DEEPEST:
        return
    if data[:2] == b"\x1f\x8b":
        yield from _opened(f"{place}, unpacked", gzip.decompress(data), depth + 1)
    elif data[:2] == b"PK":
        with zipfile.ZipFile(BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from _opened(f"{place}, {name}", archive.read(name), depth + 1)
    elif data[:4] == b"PAR1":
        table = pq.read_table(BytesIO(data))
        yield f"{place}, schema", repr(table.schema.metadata).encode() + str(table.schema).encode()
        for column in table.column_names:
            yield f"{place}, {column}", "\n".join(str(value) for value in table[column].to_pylist()).encode("utf-8", "replace")
    # Images and texts inside a page or a notebook.
    for packed in re.findall(rb"base64,([A-Za-z0-9+/=\\n]{64,})", data):
        yield from _opened(f"{place}, inline data", base64.b64decode(packed.replace(b"\\n", b"") + b"=="), depth + 1)


def _rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every value in a database, its write-ahead log included: long ones lie in pieces in the file itself."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield f"{path}, {table}", "\n".join(map(str, row)).encode("utf-8", "surrogateescape")
    database.close()


def _squeezed(data: bytes) -> bytes:
    """``data`` without line ends and wrapping, as they are and as JSON writes them, and without the zeros of UTF-16."""
    return data.replace(rb"\r", b"").replace(rb"\n", b"").translate(None, b" \t\n\r\f\v\0\\\"',>|")
