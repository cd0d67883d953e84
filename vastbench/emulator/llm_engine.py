"""A program of its own, ``llm_engine.py FILE``: answers by the model in that GGUF file until its standard input ends.

It says one JSON object a line, and is told so: ``{"id": 1, "ask": {...}}`` (the body of an OpenAI chat completion) begins an
answer and ``{"stop": 1}`` ends it early. It says ``{"ready": true}`` when the model is loaded, then for each piece of an answer
``{"id": 1, "text": "..."}``, and last ``{"id": 1, "done": {...}}`` or ``{"id": 1, "error": "..."}``. llama.cpp may crash on a
file or a request, and works for seconds at a time: it is kept out of the emulator's own process.
"""

import json
import os
import secrets
import sys
import threading
from typing import Any

SLOTS = 4
"""Answers at a time."""

SLOT_TOKENS = 2048
"""Tokens of prompt and answer together."""


def main(file: str) -> None:
    """Load, then answer."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what llama.cpp prints is no part of the conversation
    saying = threading.Lock()

    def say(**words: Any) -> None:
        with saying:
            out.write(json.dumps(words, allow_nan=False) + "\n")
            out.flush()

    try:
        server = _server(file)
    except Exception as error:  # noqa: BLE001 (whatever it is, the emulator tells it)
        say(error=f"{type(error).__name__}: {error}")
        return
    say(ready=True)
    stopped: set[int] = set()
    for line in sys.stdin:
        told = json.loads(line)
        if "stop" in told:
            stopped.add(told["stop"])
        else:
            threading.Thread(target=_answer, args=(server, told["id"], told["ask"], stopped, say), daemon=True).start()
    os._exit(0)  # threads may be deep in llama.cpp; nobody is left who would hear them


def _server(file: str) -> Any:
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path = file
    asked.n_parallel, asked.n_ctx = SLOTS, SLOTS * SLOT_TOKENS
    asked.n_gpu_layers = 0
    # More threads wait for each other in a busy loop: on a machine that does other things too, 40 times slower than one.
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    asked.verbosity = -1
    asked.api_keys = [secrets.token_hex(16)]  # it listens on a port as well, for nobody
    return xllamacpp.Server(asked)


def _answer(server: Any, number: int, ask: dict[str, Any], stopped: set[int], say: Any) -> None:
    last: dict[str, Any] = {}

    def hear(chunk: dict[str, Any]) -> bool:
        for choice in chunk.get("choices", ()):
            if text := choice["delta"].get("content"):
                say(id=number, text=text)
            last["reason"] = choice.get("finish_reason") or last.get("reason")
        last.update({name: chunk[name] for name in ("usage", "timings", "error") if name in chunk})
        return number in stopped

    try:
        server.handle_chat_completions({**ask, "stream": True, "stream_options": {"include_usage": True}}, hear)
    except Exception as error:  # noqa: BLE001
        last["error"] = {"message": f"{type(error).__name__}: {error}"}
    if "timings" in last:
        timings = last["timings"]
        done = {
            "reason": last.get("reason"),
            "prompt_tokens": last["usage"]["prompt_tokens"],
            "prompt_s": timings["prompt_ms"] / 1e3,
            "tokens": timings["predicted_n"],
            "answer_s": timings["predicted_ms"] / 1e3,
        }
        say(id=number, done=done)
    else:
        say(id=number, error=last.get("error", {}).get("message", "stopped"))
    stopped.discard(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
