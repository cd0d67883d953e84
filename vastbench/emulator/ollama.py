"""Ollama's HTTP API, as a machine's ``ollama serve`` offers it: real models, real bytes, real answers.

Its times are the machine's own: real ones, whatever the emulator's clock does. Only pulls go by that clock, as fast as the
machine's line is offered.
"""

import asyncio
import contextlib
import json
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from vastbench.emulator import llm
from vastbench.emulator.llm import MISSING, Done, Engine, EngineError, Weights
from vastbench.emulator.llm_engine import SLOT_TOKENS, SLOTS
from vastbench.emulator.ollama_program import VERSION
from vastbench.emulator.ollama_store import NAME, ModelStore, Stored, StoreError, full_name, published
from vastbench.emulator.pace import Pace

KEEP_S = 300.0
"""Emulated seconds that a model stays loaded after its last answer unless told."""

CHUNK = 1 << 20
"""Bytes of a model that are pulled at a time."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_OPTIONS = {"temperature": float, "seed": int, "top_k": int, "top_p": float, "min_p": float, "repeat_penalty": float}


T = TypeVar("T")

Rows = AsyncGenerator[dict[str, Any], None]
"""An answer, piece by piece."""


class Refusal(Exception):
    """The API says no: an HTTP status and its words."""

    def __init__(self, status: int, words: str) -> None:
        """Take both."""
        self.status, self.words = status, words
        super().__init__(words)


@dataclass(frozen=True, slots=True)
class Line:
    """What pulls go over: bytes per emulated second, and who counts the bytes."""

    bytes_per_s: float
    count: Callable[[int], None]


@dataclass(slots=True)
class Loaded:
    """A model in memory. ``due``: the emulated reading at which it is unloaded if nobody asks it."""

    model: Stored
    weights: Weights
    engine: Engine
    places: asyncio.Semaphore
    memory_bytes: int
    users: int = 0
    due: float = math.inf
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Ollama:
    """One server. ``holds`` is told how many bytes of the GPU's memory its models hold; ``parallel``: answers at a time."""

    store: ModelStore
    pace: Pace
    line: Line
    holds: Callable[[int], Awaitable[None]]
    parallel: int = 1
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: "set[asyncio.Task[Any]]" = field(default_factory=set)

    def app(self) -> Starlette:
        """The HTTP API."""

        def told(handler: Callable[[dict[str, Any]], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
            async def handle(request: Request) -> Response:
                try:
                    body = json.loads(await request.body() or b"{}")
                except ValueError:
                    raise Refusal(400, "invalid JSON in request body") from None
                if not isinstance(body, dict):
                    raise Refusal(400, "json: cannot unmarshal into Go value")
                return await handler(body)

            return handle

        async def running(_: Request) -> Response:
            return PlainTextResponse("Ollama is running")

        async def version(_: Request) -> Response:
            return JSONResponse({"version": VERSION})

        async def refused(_: Request, error: Exception) -> Response:
            assert isinstance(error, Refusal)  # noqa: S101
            return JSONResponse({"error": error.words}, error.status)

        async def unknown(_: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)  # noqa: S101
            return PlainTextResponse(f"{error.status_code} {error.detail.lower()}", error.status_code)

        return Starlette(
            routes=[
                Route("/", running),
                Route("/api/version", version),
                Route("/api/tags", self._tags),
                Route("/api/ps", self._ps),
                Route("/api/show", told(self._show), methods=["POST"]),
                Route("/api/pull", told(self._pull), methods=["POST"]),
                Route("/api/delete", told(self._delete), methods=["DELETE"]),
                Route("/api/generate", told(self._generate), methods=["POST"]),
                Route("/api/chat", told(self._chat), methods=["POST"]),
            ],
            exception_handlers={Refusal: refused, HTTPException: unknown},
        )

    async def close(self) -> None:
        """Unload everything."""
        async with self._loading:
            for one in list(self._loaded.values()):
                await self._unload(one)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Models on the disk

    async def _tags(self, _: Request) -> Response:
        models = sorted((await self.store.models()).values(), key=lambda one: -one.modified)
        return JSONResponse({"models": [self._row(one) | {"modified_at": _date(one.modified)} for one in models]})

    async def _show(self, body: dict[str, Any]) -> Response:
        model = await self._find(body)
        details = _details(self._weights(model))
        return JSONResponse(
            {
                "modelfile": f"FROM {self.store.folder}/blobs/sha256-{model.blob}\n",
                "template": "",
                "details": details,
                "model_info": {"general.architecture": details["family"]},
                "capabilities": ["completion"],
                "modified_at": _date(model.modified),
            }
        )

    async def _delete(self, body: dict[str, Any]) -> Response:
        model = await self._find(body)
        async with self._loading:
            if model.name in self._loaded:
                await self._unload(self._loaded[model.name])
            await self.store.remove(model)
        return Response(status_code=200)

    async def _pull(self, body: dict[str, Any]) -> Response:
        return await _sent(body, self._pulled(_name(body)))

    async def _pulled(self, name: str) -> Rows:
        yield {"status": "pulling manifest"}
        there = llm.available()
        weights = there.get(name)
        if weights is None:
            more = "" if there else f" ({MISSING})"
            raise Refusal(500, f"pull model manifest: file does not exist{more}")
        manifest, configuration = await asyncio.to_thread(published, weights)
        layers = Stored(name, "", 0.0, json.loads(manifest))
        size = weights.file.stat().st_size
        row = {"status": f"pulling {layers.blob[:12]}", "digest": f"sha256:{layers.blob}", "total": size}
        try:
            if await self._has(layers.blob):
                yield row | {"completed": size}
            else:
                async with contextlib.aclosing(self._loaded_down(weights, layers.blob, row)) as rows:
                    async for come in rows:
                        yield come
            yield {"status": "writing manifest"}
            config = layers.manifest["config"]["digest"].removeprefix("sha256:")
            await self.store.write_blob(config, len(configuration), _only(configuration))
            await self.store.write_manifest(name, manifest)
        except StoreError as error:
            raise Refusal(500, str(error)) from error
        yield {"status": "success"}

    async def _has(self, blob: str) -> bool:
        try:
            return await self.store.hash(blob) == blob
        except StoreError:
            return False

    async def _loaded_down(self, weights: Weights, blob: str, row: dict[str, Any]) -> Rows:
        progress: asyncio.Queue[int | None] = asyncio.Queue()
        writing = asyncio.create_task(self.store.write_blob(blob, row["total"], self._bytes(weights, progress)))
        writing.add_done_callback(lambda _: progress.put_nowait(None))
        try:
            yield row
            while (come := await progress.get()) is not None:
                yield row | {"completed": come}
            found = await writing
        finally:
            writing.cancel()
            self._see_off(writing)  # not waited for: whoever is cancelled here is so again and again, and would pass it on
        yield {"status": "verifying sha256 digest"}
        if found != blob:
            raise Refusal(500, f"digest mismatch, file must be downloaded again: want sha256:{blob}, got sha256:{found}")

    async def _bytes(self, weights: Weights, progress: "asyncio.Queue[int | None]") -> AsyncIterator[bytes]:
        """The model's bytes, no faster than the line."""
        begun, come = self.pace.now(), 0
        with weights.file.open("rb") as file:
            while data := file.read(CHUNK):
                come += len(data)
                await self.pace.sleep_until(begun + come / self.line.bytes_per_s)
                self.line.count(len(data))
                progress.put_nowait(come)
                yield data

    # Models in memory

    async def _ps(self, _: Request) -> Response:
        rows = []
        for one in self._loaded.values():
            left_s = min(one.due - self.pace.now(), 1e9) / self.pace.speed
            held = {"size": one.memory_bytes, "size_vram": one.memory_bytes, "context_length": SLOT_TOKENS}
            rows.append(self._row(one.model) | held | {"expires_at": _date(time.time() + left_s)})
        return JSONResponse({"models": rows})

    @contextlib.asynccontextmanager
    async def _used(self, model: Stored, keep_s: float) -> AsyncIterator[Loaded]:
        """The model, loaded; it stays so for ``keep_s`` afterwards."""
        async with self._loading:
            one = self._loaded.get(model.name)
            if one is None or one.model.digest != model.digest:
                one = self._loaded[model.name] = await self._load(model)
                await self._tell()
            one.users += 1
            one.due = math.inf
            if one.timer is not None:
                one.timer.cancel()
        try:
            yield one
        finally:
            one.users -= 1
            if not one.users:
                one.due = self.pace.now() + keep_s
                if keep_s <= 0:
                    await asyncio.shield(self._later(one))
                elif keep_s < math.inf:
                    loop = asyncio.get_running_loop()
                    one.timer = loop.call_later(keep_s / self.pace.speed, self._later, one)

    async def _load(self, model: Stored) -> Loaded:
        failed = Refusal(500, f"unable to load model: {self.store.folder}/blobs/sha256-{model.blob}")
        weights = self._weights(model)
        engine = Engine()
        try:
            # All of it is read from the machine's own disk; what runs is the same file outside, which nobody can change.
            if weights is None or await self.store.hash(model.blob) != model.blob:
                raise failed
            await engine.start(weights.file)
        except (StoreError, EngineError) as error:
            raise failed from error
        places = asyncio.Semaphore(max(1, min(self.parallel, SLOTS)))
        return Loaded(model, weights, engine, places, engine.memory_bytes)

    def _later(self, one: Loaded) -> "asyncio.Task[None]":
        return self._see_off(asyncio.create_task(self._expire(one)))

    def _see_off(self, task: "asyncio.Task[T]") -> "asyncio.Task[T]":
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _expire(self, one: Loaded) -> None:
        async with self._loading:
            if not one.users and one.due <= self.pace.now() + 0.01 and self._loaded.get(one.model.name) is one:
                await self._unload(one)

    async def _unload(self, one: Loaded) -> None:
        del self._loaded[one.model.name]
        if one.timer is not None:
            one.timer.cancel()
        await one.engine.close()
        await self._tell()

    async def _tell(self) -> None:
        await self.holds(sum(one.memory_bytes for one in self._loaded.values()))

    # Answers

    async def _generate(self, body: dict[str, Any]) -> Response:
        prompt, system = body.get("prompt", ""), body.get("system", "")
        said = [{"role": "user", "content": prompt}] if prompt else []
        if system and said:
            said.insert(0, {"role": "system", "content": system})
        return await self._answered(body, said, lambda text: {"response": text})

    async def _chat(self, body: dict[str, Any]) -> Response:
        said = [{key: one[key] for key in ("role", "content")} for one in body.get("messages", ()) if "content" in one]
        return await self._answered(body, said, lambda text: {"message": {"role": "assistant", "content": text}})

    async def _answered(
        self, body: dict[str, Any], said: list[dict[str, str]], shape: Callable[[str], dict[str, Any]]
    ) -> Response:
        name, keep_s = _name(body), _keep_s(body.get("keep_alive"))
        for wrong, words in {"tools": "tools", "think": "thinking"}.items():
            if body.get(wrong):
                raise Refusal(400, f"{name!r} does not support {words}")
        ask = _ask(body.get("options") or {}) | {"messages": said}
        answer = self._answer(await self._find(body), ask, keep_s, shape)
        head = await anext(answer)  # what fails before the first word is told by the status
        return await _sent(body, _after(head, answer), whole=lambda rows: _joined(rows, shape))

    async def _answer(self, model: Stored, ask: dict[str, Any], keep_s: float, shape: Callable[[str], dict[str, Any]]) -> Rows:
        begun = time.monotonic_ns()

        def row(text: str, **more: Any) -> dict[str, Any]:
            return {"model": model.name, "created_at": _date(time.time()), **shape(text), "done": bool(more), **more}

        if not ask["messages"] and keep_s <= 0 and model.name not in self._loaded:
            yield row("", done_reason="unload")
            return
        async with self._used(model, keep_s) as one:
            loaded = time.monotonic_ns()
            if not ask["messages"]:
                yield row("", done_reason="unload" if keep_s <= 0 else "load")
                return
            async with one.places, contextlib.aclosing(one.engine.answer(ask)) as pieces:
                try:
                    async for piece in pieces:
                        if not isinstance(piece, Done):
                            yield row(piece)
                            continue
                        yield row(
                            "",
                            done_reason=piece.reason or "stop",
                            total_duration=time.monotonic_ns() - begun,
                            load_duration=loaded - begun,
                            prompt_eval_count=piece.prompt_tokens,
                            prompt_eval_duration=round(piece.prompt_s * 1e9),
                            eval_count=piece.tokens,
                            eval_duration=round(piece.answer_s * 1e9),
                        )
                except EngineError as error:
                    raise Refusal(500, str(error)) from error

    async def _find(self, body: dict[str, Any]) -> Stored:
        name = _name(body)
        model = (await self.store.models()).get(name)
        if model is None:
            raise Refusal(404, f"model '{name}' not found")
        return model

    def _weights(self, model: Stored) -> Weights | None:
        known = {llm.digest(one.file): one for one in llm.available().values()}
        return known.get(model.blob)

    def _row(self, model: Stored) -> dict[str, Any]:
        details = _details(self._weights(model))
        return {"name": model.name, "model": model.name, "size": model.size, "digest": model.digest, "details": details}


async def _sent(
    body: dict[str, Any],
    rows: Rows,
    whole: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda rows: rows[-1],
) -> Response:
    """The rows as they come, one a line, or all in one where the request asks for that."""
    if body.get("stream") is False:
        return JSONResponse(whole([row async for row in rows]))

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for row in rows:
                yield json.dumps(row, allow_nan=False).encode() + b"\n"
        except Refusal as error:
            yield json.dumps({"error": error.words}, allow_nan=False).encode() + b"\n"
        finally:
            await rows.aclose()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _after(head: dict[str, Any], rest: Rows) -> Rows:
    async with contextlib.aclosing(rest):
        yield head
        async for row in rest:
            yield row


async def _only(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _joined(rows: list[dict[str, Any]], shape: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    pieces = [row.get("response", row.get("message", {}).get("content", "")) for row in rows]
    return rows[-1] | shape("".join(pieces))


def _name(body: dict[str, Any]) -> str:
    name = body.get("model") or body.get("name") or ""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Refusal(400, "invalid model name" if name else "model is required")
    return full_name(name)


def _keep_s(asked: Any) -> float:
    """Emulated seconds from what ``keep_alive`` may be: seconds, or a duration such as 1h30m; less than 0 is for ever."""
    if asked is None or asked == "":
        return KEEP_S
    if isinstance(asked, str) and _DURATION.fullmatch(asked.lstrip("-")):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", asked)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) * (-1 if asked.startswith("-") else 1)
    else:
        try:
            seconds = float(asked)
        except (TypeError, ValueError):
            raise Refusal(400, f'time: invalid duration "{asked}"') from None
    return math.inf if seconds < 0 else seconds


def _ask(options: dict[str, Any]) -> dict[str, Any]:
    """Ollama's options as the engine has them, with Ollama's defaults. Raises Refusal for a value that is none."""
    try:
        ask = {"temperature": 0.8} | {name: kind(options[name]) for name, kind in _OPTIONS.items() if name in options}
        most = int(options.get("num_predict", -1))
    except (TypeError, ValueError):
        raise Refusal(400, f"invalid options: {json.dumps(options, allow_nan=False)[:200]}") from None
    if options.get("stop"):
        ask["stop"] = options["stop"]
    return ask | ({"max_tokens": most} if most >= 0 else {})


def _details(weights: Weights | None) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": weights.family if weights else "",
        "families": [weights.family] if weights else [],
        "parameter_size": weights.parameters if weights else "",
        "quantization_level": weights.quantization if weights else "",
    }


def _date(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
