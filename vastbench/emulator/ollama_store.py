"""The models on a machine's disk, where Ollama keeps them: manifests by name, and blobs by their SHA-256.

Everything is read and written by programs of the machine, in its own walls and as its own user: what lies there is the
machine's, and may be anything.
"""

import asyncio
import hashlib
import json
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from vastbench.emulator.llm import Weights, digest
from vastbench.emulator.sandbox import Sandbox, reaped

MODEL_LAYER = "application/vnd.ollama.image.model"

NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*){0,2}(?::\w[\w.-]*)?", re.ASCII)
"""A model's name: the tag is ``latest`` unless given."""

_LIST = r"""
cd "$1/manifests/registry.ollama.ai/library" 2>/dev/null || exit 0
for file in */*; do
  [ -f "$file" ] || continue
  printf '%s %s ' "$file" "$(stat -c %Y "$file" 2>/dev/null || stat -f %m "$file")"
  head -c 100000 "$file"
  echo
done
"""

_WRITE = """
mkdir -p "${1%/*}" && cat >"$1-partial" && [ "$(wc -c <"$1-partial")" -eq "$2" ] && mv -f "$1-partial" "$1"
"""
# Counted: when a pull is given up, the end of its input looks like the end of the file.

_HASH = """
sha256sum <"$1" || shasum -a 256 <"$1"
"""


class StoreError(Exception):
    """The machine's disk did not take or give what it should; the text is the machine's own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A model on the disk: its name, the SHA-256 of its manifest, when that was written (Unix time), and what it says."""

    name: str
    digest: str
    modified: float
    manifest: dict[str, Any]

    @property
    def blob(self) -> str:
        """The SHA-256 of its weights."""
        layers = self.manifest.get("layers", ())
        return next((one["digest"].removeprefix("sha256:") for one in layers if one.get("mediaType") == MODEL_LAYER), "")

    @property
    def size(self) -> int:
        """Bytes of all that belongs to it."""
        return sum(one.get("size", 0) for one in (*self.manifest.get("layers", ()), self.manifest.get("config", {})))


def full_name(name: str) -> str:
    """``name`` with its tag, as Ollama writes it: ``library/`` and the registry's own name are left out."""
    short = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    return short if ":" in short else f"{short}:latest"


def published(weights: Weights) -> tuple[bytes, bytes]:
    """What the registry has beside the weights themselves: manifest and configuration."""
    config = {
        "model_format": "gguf",
        "model_family": weights.family,
        "model_families": [weights.family],
        "model_type": weights.parameters,
        "file_type": weights.quantization,
    }
    configuration = _json(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _layer("application/vnd.docker.container.image.v1+json", _sha256(configuration), len(configuration)),
        "layers": [_layer(MODEL_LAYER, digest(weights.file), weights.file.stat().st_size)],
    }
    return _json(manifest), configuration


class ModelStore:
    """The models in the folder ``folder`` of a machine."""

    def __init__(self, sandbox: Sandbox, folder: str) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self._sandbox = sandbox

    async def models(self) -> dict[str, Stored]:
        """Every model whose manifest lies there, by its name; files that are none are left out."""
        found = {}
        for line in (await self.run(_LIST, self.folder)).split(b"\n"):
            path, _, rest = line.partition(b" ")
            when, _, text = rest.partition(b" ")
            try:
                name = path.decode().replace("/", ":", 1)
                found[name] = Stored(name, _sha256(text), float(when), dict(json.loads(text)))
            except ValueError:
                continue
        return found

    async def write_manifest(self, name: str, manifest: bytes) -> None:
        """Add a model. Raises StoreError."""
        await self._write(self._manifest(name), len(manifest), _only(manifest))

    async def write_blob(self, sha256: str, size: int, content: AsyncIterator[bytes]) -> str:
        """Write a blob of ``size`` bytes whole: the SHA-256 of what then lies there. Raises StoreError."""
        await self._write(self._blob(sha256), size, content)
        return await self.hash(sha256)

    async def hash(self, sha256: str) -> str:
        """The SHA-256 of the blob of that name, read from the disk. Raises StoreError where there is none."""
        return (await self.run(_HASH, self._blob(sha256))).decode().partition(" ")[0]

    async def remove(self, model: Stored) -> None:
        """Remove a model and its weights. Raises StoreError."""
        await self.run('rm -f -- "$@"', self._manifest(model.name), *([self._blob(model.blob)] if model.blob else []))

    async def _write(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        await self.run(_WRITE, path, str(size), content=content)

    async def run(self, script: str, *arguments: str, content: AsyncIterator[bytes] | None = None) -> bytes:
        """Run a script in the machine, with ``content`` as its standard input: what it says. Raises StoreError."""
        command = ["/bin/sh", "-c", script, "ollama", *arguments]
        spawning = asyncio.ensure_future(self._sandbox.spawn(command, stdin=PIPE, stdout=PIPE, stderr=PIPE))
        try:
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:  # one that is given up half-way would be left, and with it what it reads from
            await self._end(await spawning)
            raise
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: PT018, S101
        said = asyncio.gather(process.stdout.read(), process.stderr.read())
        try:
            try:
                async for data in content or _only(b""):
                    process.stdin.write(data)
                    await process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                pass  # it says why itself
            process.stdin.close()
            out, error = await said
            status = await process.wait()
        except BaseException:
            said.cancel()
            await asyncio.gather(said, self._end(process), return_exceptions=True)
            raise
        if status != 0:
            raise StoreError(error.decode(errors="replace").strip()[-300:] or f"exit status {status}")
        return out

    async def _end(self, process: Process) -> None:
        self._sandbox.signal(process, signal.SIGKILL)
        await reaped(process)

    def _manifest(self, name: str) -> str:
        return f"{self.folder}/manifests/registry.ollama.ai/library/{name.replace(':', '/')}"

    def _blob(self, sha256: str) -> str:
        return f"{self.folder}/blobs/sha256-{sha256}"


async def _only(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _layer(kind: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": size}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
