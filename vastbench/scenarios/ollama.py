"""A client of Ollama's HTTP API that believes no answer which it cannot check: what it was told, and when it heard each part.

It talks through a tunnel, to a machine that may say anything: answers have a longest line and a longest time, and whatever is
not in Ollama's form is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from vastbench.clock import Clock
from vastbench.errors import CheckFailed, DeadlineExceeded, clean
from vastbench.vast.route import usual_certificates

LONGEST_LINE = 1_000_000
"""Bytes in a line of an answer."""

LONGEST_ANSWER = 64_000_000
"""Bytes in all lines of one."""

LOOK_S = 60.0
"""Clock seconds for a question that is answered at once."""

HINT = "The machine's log of it is in $HOME/vastbench-ollama.log."


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory: its manifest's digest, and how many of its bytes are on the GPU."""

    digest: str
    gpu_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and when its parts were heard, in clock readings.

    ``thinking``: what a thinking model says before. ``first``: its first token, ``first_output`` the first that is no thinking
    (None: there was none). ``tokens``: as the machine counts them; None for an answer that was not heard out.
    """

    text: str
    thinking: str
    sent: float
    first: float
    first_output: float | None
    ended: float
    pieces: int
    tokens: int | None = None

    @property
    def inter_token_s(self) -> float | None:
        """(Latency − time to first token) ÷ (tokens − 1); None for fewer than two tokens.

        >>> Answer("a b c", "", 0.0, 1.0, 1.0, 2.0, pieces=3, tokens=3).inter_token_s
        0.5
        """
        return None if self.tokens is None or self.tokens < 2 else (self.ended - self.first) / (self.tokens - 1)


class Ollama:
    """One server. Every method raises CheckFailed for a refusal and for what is not Ollama's form, and DeadlineExceeded.

    ``come``: bytes that its pulls moved, by the digest of the layer.
    """

    def __init__(self, port: int, clock: Clock) -> None:
        """Take the port on loopback that leads to it; nothing is asked yet."""
        self.come: dict[str, int] = {}
        self._clock = clock
        # What is set for the way to the internet is no way to the loopback.
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            trust_env=False,
            verify=usual_certificates(),
            headers={"Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def version(self) -> str | None:
        """The version of what answers; None where nothing does."""
        try:
            return str(self._whole("GET", "/api/version", "the version")["version"])[:40]
        except (CheckFailed, DeadlineExceeded, KeyError):
            return None

    def digests(self) -> dict[str, str]:
        """The models on its disk, each with the SHA-256 of its manifest."""
        return {name: _digest(row) for name, row in self._models("/api/tags").items()}

    def loaded(self) -> dict[str, Loaded]:
        """The models in its memory."""
        rows = self._models("/api/ps")
        return {name: Loaded(_digest(row), _count(row.get("size_vram"), "size_vram")) for name, row in rows.items()}

    def pull(self, model: str, *, limit_s: float) -> frozenset[str]:
        """Pull a model: the digests of its layers. What of them comes over the line is added to :attr:`come` as it comes.

        That it is whole is only Ollama's word for it.
        """
        totals: dict[str, int] = {}
        there: set[str] = set()
        last = ""
        for row in self._rows("/api/pull", {"model": model}, f"pull {model}", limit_s):
            last = str(row.get("status", ""))
            if "digest" not in row:
                continue
            layer, total, done = (
                str(row["digest"]),
                _count(row.get("total", 0), "total"),
                _count(row.get("completed", 0), "completed"),
            )
            if layer not in totals and 0 < total == done:
                there.add(layer)
            totals[layer] = total
            if layer not in there:
                self.come[layer] = done
        if last != "success":
            raise CheckFailed(f"The pull of {model} ended with {clean(last[:80])!r}, not with success.", hint=HINT)
        self.come |= {layer: total for layer, total in totals.items() if layer not in there}  # the last row may be left out
        return frozenset(totals)

    def load(self, model: str, *, limit_s: float) -> None:
        """Load a model into memory, for as long as the server runs."""
        self._keep(model, -1, "load", limit_s)

    def unload(self, model: str) -> None:
        """Free its memory."""
        self._keep(model, 0, "unload", LOOK_S)
        give_up = self._clock.now() + LOOK_S
        while model in self.loaded():
            if self._clock.now() > give_up:
                raise CheckFailed(f"{model} is still loaded {LOOK_S:g} s after it was unloaded.", hint=HINT)
            self._clock.rest(0.2)

    def ask(self, model: str, prompt: str, *, limit_s: float, options: Mapping[str, float], to_output: bool = False) -> Answer:
        """Ask a model, which loads it where it is not loaded. ``to_output``: hear no more than the first output token.

        Raises CheckFailed, too, for an answer without a token, one that was cut, and one whose count of tokens its pieces
        belie.
        """
        body = {"model": model, "prompt": prompt, "system": prompt[:64], "keep_alive": -1, "options": dict(options)}
        text, thinking, pieces, last = "", "", 0, {}
        first, first_output = None, None
        sent = ended = self._clock.now()
        for last in self._rows("/api/generate", body, f"ask {model}", limit_s):
            now = ended = self._clock.now()
            said, thought = str(last.get("response") or ""), str(last.get("thinking") or "")
            if said or thought:
                text, thinking, pieces, first = text + said, thinking + thought, pieces + 1, first or now
            if said and first_output is None:
                first_output = now
                if to_output:
                    break
        if first is None:
            raise CheckFailed(f"{model} was asked and gave no token.", hint=HINT)
        answer = Answer(text, thinking, sent, first, first_output, ended, pieces)
        if to_output and first_output is not None:
            return answer
        if last.get("done") is not True:
            raise CheckFailed(f"The answer of {model} was cut after {pieces} pieces.", hint=HINT)
        tokens = _count(last.get("eval_count"), "eval_count")
        if not pieces - 2 <= tokens <= 2 * pieces + 16:  # the end and the marks around thinking are not shown, or cut a token
            raise CheckFailed(
                f"{model} counts {tokens} tokens, and {pieces} pieces came.", hint="Its counts are not to be used."
            )
        return Answer(text, thinking, sent, first, first_output, ended, pieces, tokens)

    def _keep(self, model: str, seconds: int, what: str, limit_s: float) -> None:
        body = {"model": model, "keep_alive": seconds}
        rows = list(self._rows("/api/generate", body, f"{what} {model}", limit_s))
        if not rows or rows[-1].get("done") is not True:
            raise CheckFailed(f"Ollama did not {what} {model}: its answer was cut.", hint=HINT)

    def _models(self, path: str) -> dict[str, dict[str, Any]]:
        rows = self._whole("GET", path, "its models").get("models")
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
            raise CheckFailed(f"What answers on Ollama's port has no list of models at {path}.", hint=HINT)
        return {str(row["name"]): row for row in rows}

    def _whole(self, method: str, path: str, what: str) -> dict[str, Any]:
        with self._said(method, path, None, what, LOOK_S) as lines:
            return _parsed(b"\n".join(lines))

    def _rows(self, path: str, body: Mapping[str, object], what: str, limit_s: float) -> Iterator[dict[str, Any]]:
        with self._said("POST", path, body, what, limit_s) as lines:
            for line in lines:
                row = _parsed(line)
                if "error" in row:
                    raise CheckFailed(f"Ollama was asked to {what}, and refused: {clean(str(row['error'])[:200])}", hint=HINT)
                yield row

    @contextmanager
    def _said(
        self, method: str, path: str, body: Mapping[str, object] | None, what: str, limit_s: float
    ) -> Iterator[Iterator[bytes]]:
        """The lines of an answer as they come."""
        limit = self._clock.socket_timeout(limit_s)
        give_up, timeout = self._clock.now() + limit * self._clock.speed, httpx.Timeout(limit)
        try:
            with self._http.stream(method, path, json=body, timeout=timeout) as reply:
                lines = self._lines(reply, what, limit_s, give_up)
                if reply.status_code != 200:
                    words = next(lines, b"nothing").decode("utf-8", "replace")[:200]
                    raise CheckFailed(
                        f"Ollama was asked to {what}, and answered {reply.status_code}: {clean(words)}", hint=HINT
                    )
                yield lines
        except httpx.TimeoutException as error:
            raise self._too_late(what, limit_s) from error
        except httpx.HTTPError as error:
            raise CheckFailed(f"Ollama was asked to {what}, and the connection ended: {clean(error)}.", hint=HINT) from error

    def _lines(self, reply: httpx.Response, what: str, limit_s: float, give_up: float) -> Iterator[bytes]:
        rest, left = b"", LONGEST_ANSWER
        for data in reply.iter_raw():
            left -= len(data)
            if self._clock.now() > give_up:
                raise self._too_late(what, limit_s)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if len(rest) > LONGEST_LINE or left < 0:
                most = f"{LONGEST_LINE:,} bytes in a line or {LONGEST_ANSWER:,} in all"
                raise CheckFailed(f"Ollama was asked to {what}, and says more than {most}.", hint=HINT)
        if rest:
            yield rest

    def _too_late(self, what: str, limit_s: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"Ollama was asked to {what}, and was not done in {limit_s:g} s.", waited_for=what, last_seen="no end", hint=HINT
        )


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        shown = clean(line[:80].decode("utf-8", "replace"))
        raise CheckFailed(f"What answers on Ollama's port says {shown!r}, which is not Ollama's form.", hint=HINT)
    return row


def _digest(row: Mapping[str, Any]) -> str:
    return str(row.get("digest", "")).removeprefix("sha256:")


def _count(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return value
    raise CheckFailed(f"Ollama says that {name} is {clean(str(value)[:40])!r}.", hint=HINT)
