"""The model drill: Ollama is put on a rented machine, a model is pulled, loaded, asked and unloaded.

It passes only if the model is the one that was asked for, from its manifest to its weights and in memory, if it runs on the
GPU, and if a fixed prompt has the same answer twice. Each figure names the state that the model was in, and every prompt that
is measured is new, so that no cache can have known it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from vastbench.clock import Clock
from vastbench.errors import CheckFailed, CommandFailed, DeadlineExceeded, SshError, UsageError, VastbenchError, clean
from vastbench.record.acceptance import Criterion
from vastbench.record.cost import usd_for
from vastbench.record.formats import counted, decimals, seconds
from vastbench.record.moments import Moment
from vastbench.record.phases import Phase, renting, returning
from vastbench.rental.provisioner import Machine
from vastbench.scenarios.drill import HEDGING, Drill, Scenario
from vastbench.scenarios.ollama import Answer, Ollama
from vastbench.ssh.session import Session
from vastbench.ssh.transport import Traffic

INSTALL = "install Ollama"
"""Script sent → the machine has the program."""

SERVE = "start Ollama"
"""Program started → its API answers through the tunnel."""

PULL = "pull model"
"""Request sent → Ollama says that all is there."""

VERIFY = "verify model"
"""Command sent → manifest and weights on the disk have the digests that they must have."""

LOAD = "load model"
"""Request sent → Ollama says that the model is in memory. Pulled → loaded."""

OUTPUT = "first output token"
"""Request sent → the first token that is no thinking. The model was just loaded."""

FIRST = "first token"
"""The same request → its first token of all."""

ONE = "generate, one at a time"
"""First request sent → last token of the last answer."""

FOUR = "generate, four at a time"
"""First request sent → last token of all answers."""

TWICE = "answer twice"
"""Request sent → the second answer to the same prompt has ended."""

UNLOAD = "unload model"
"""Request sent → it is not in memory any more."""

FROM_CACHE = "first token, page-cache-warm"
"""Request sent → first token. Not loaded; its file was read just before."""

FROM_DISK = "first token, disk-cold"
"""Request sent → first token. Not loaded; its file was dropped from the page cache."""

PRICE = "usd per million tokens"
"""The check that holds what tokens cost."""

AT_ONCE = 4

TOKENS = 48
"""Tokens of an answer whose speed is measured, at most."""

LONGEST_THOUGHT = 4096
"""Tokens within which a thinking model must say something."""

SERVE_S = 120.0
"""Clock seconds within which the API must answer."""

WORK_S = 1800.0
"""Clock seconds that all of it may take."""

FIXED = "Name the four seasons of the year, one a line."
"""The prompt whose answer must come twice."""

URL = "https://ollama.com/install.sh"

_INSTALL = f"""
command -v ollama >/dev/null && {{ echo had; exit; }}
received() {{
  sed 's/:/ /' /proc/net/dev | awk 'NR > 2 && $1 != "lo" {{ sum += $2; found = 1 }} END {{ if (found) print sum }}'
}}
before=$(received)
export DEBIAN_FRONTEND=noninteractive
if ! command -v zstd >/dev/null || ! {{ command -v curl || command -v wget; }} >/dev/null; then
  {{ apt-get update -qq && apt-get install -y -qq curl ca-certificates zstd; }} >&2 || echo "apt-get failed" >&2
fi
script=$(curl -fsSL {URL} || wget -qO- {URL}) && [ -n "$script" ] || exit 69
printf '%s' "$script" | sh >&2 || exit
command -v ollama >/dev/null || exit 69
after=$(received)
echo "installed ${{before:+$((after - before))}}"
"""

_SERVE = """
port=${OLLAMA_HOST##*:}; case $port in '' | *[!0-9]*) port=11434 ;; esac
OLLAMA_HOST=127.0.0.1:$port OLLAMA_NUM_PARALLEL=%d setsid ollama serve >"$HOME/vastbench-ollama.log" 2>&1 </dev/null &
echo "$port ${OLLAMA_MODELS:-$HOME/.ollama/models}"
"""

_LOG = 'tail -c 300 "$HOME/vastbench-ollama.log"'

_DROP = """
sync "$1" && dd if="$1" iflag=nocache count=0 2>/dev/null || exit
if command -v fincore >/dev/null; then fincore --bytes --noheadings --output RES "$1"; else echo unknown; fi
"""

_MEMORY = "nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits"

_NAME = re.compile(r"(?:(?:[\w.:-]+/)?[\w.-]+/)?[\w.-]+(?::[\w.-]+)?", re.ASCII)
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The model that was asked for: its name with its tag, and the beginning of its digest, empty for any.

    >>> Wanted.of("qwen3:0.6b@sha256:7f4030143c1c")
    Wanted(name='qwen3:0.6b', digest='7f4030143c1c')
    """

    name: str
    digest: str = ""

    @classmethod
    def of(cls, asked: str) -> Wanted:
        """From NAME or NAME@DIGEST. Raises UsageError."""
        name, at, digest = asked.partition("@")
        found = _DIGEST.fullmatch(digest)
        if not _NAME.fullmatch(name) or ".." in name or (at and found is None):
            raise UsageError(
                f"The model is {asked!r}.",
                hint="Give a name such as qwen3:0.6b, or NAME@DIGEST with the 12 digits that `ollama list` shows, or more.",
            )
        return cls(name if ":" in name.rpartition("/")[2] else f"{name}:latest", found[1] if found else "")

    @property
    def manifest(self) -> str:
        """Where Ollama keeps its manifest, below the folder of its models."""
        path, _, tag = self.name.rpartition(":")
        parts = path.split("/")
        return "/".join(["manifests", *["registry.ollama.ai", "library"][: 3 - len(parts)], *parts, tag])


@dataclass(slots=True)
class Server:
    """The server on one machine, and what of the time is left."""

    session: Session
    clock: Clock
    ollama: Ollama
    model: Wanted
    folder: str
    give_up: float
    used: set[str] = field(default_factory=set)

    @property
    def left_s(self) -> float:
        """Clock seconds that are left."""
        return max(self.give_up - self.clock.now(), 1.0)

    def ask(self, prompt: str, *, most: int, to_output: bool = False, **options: float) -> Answer:
        """Ask for at most so many tokens."""
        asked = {"num_predict": most, "temperature": 0.0} | options
        return self.ollama.ask(self.model.name, prompt, limit_s=self.left_s, options=asked, to_output=to_output)

    def measure(self, about: str, *, most: int = TOKENS, to_output: bool = False) -> Answer:
        """Ask what was never asked before. Raises CheckFailed where a cache could know how the prompt begins."""
        prompt = f"{secrets.token_hex(8)} {about}"
        begins = prompt[:16]
        if begins in self.used:
            raise CheckFailed(
                f"A prompt that begins with {begins!r} was asked before: a cache may answer for the model.",
                hint="The figures of this run say nothing: report this.",
            )
        self.used.add(begins)
        return self.ask(prompt, most=most, to_output=to_output)


def run(drill: Drill) -> None:
    """Put a model on a machine and measure it in every state. Raises CheckFailed, DeadlineExceeded, and what SSH raises."""
    model = Wanted.of(drill.conditions.model or "")
    with drill.rent_raced() as machine, _serving(drill, machine, model) as server:
        _deploy(drill, machine, server)
        _load(drill, server)
        _first(drill, server)
        rates = [_generate(drill, server, name, at_once) for name, at_once in ((ONE, 1), (FOUR, AT_ONCE))]
        _price(drill, machine, rates)
        _twice(drill, server)
        _from_states(drill, server)


@contextmanager
def _serving(drill: Drill, machine: Machine, model: Wanted) -> Iterator[Server]:
    """Ollama on the machine, reached through the session's own tunnel: no port of the machine is opened."""
    session, clock = machine.session, drill.recorder.clock
    give_up = clock.now() + WORK_S
    with drill.recorder.phase(INSTALL) as phase:
        try:
            said = session.run(f"sh -c {shlex.quote(_INSTALL)}", timeout_s=WORK_S).stdout
        except CommandFailed as failed:
            raise CheckFailed(
                f"Ollama cannot be installed: {clean(failed.stderr_tail.strip()[-200:]) or failed.message}",
                hint="Choose an image that has it: --image ollama/ollama. The installation loads it from the internet.",
            ) from failed
        had, counted_there = "had" in said.split(), re.search(r"installed (\d{1,15})\n", said)
        loaded = int(counted_there[1]) if counted_there else None
        phase.detail = "the image has it" if had else ""
    machine.rental.elsewhere += Traffic(down=loaded or 0)
    begun = Moment.exact(clock.now())
    started = re.fullmatch(r"(\d{1,5}) (/.*)\n", session.run(_SERVE % AT_ONCE).stdout)
    if started is None or not 0 < int(started[1]) < 65_536:
        raise CheckFailed("The machine does not say where it started Ollama.", hint="Look at its shell's start-up files.")
    folder = started[2]
    with session.tunnel(int(started[1])) as near:
        ollama = Ollama(near, clock)
        try:
            with drill.recorder.phase(SERVE, begun) as phase:
                version, phase.end = _answering(session, ollama, clock)
            drill.checks["ollama"] = {
                "says": f"version {version}, " + ("from the image" if had else f"installed, {_mb(loaded)} over its line"),
                "version": version,
                "installed": not had,
                "bytes": loaded,
            }
            yield Server(session, clock, ollama, model, folder, give_up)
        finally:
            ollama.close()


def _answering(session: Session, ollama: Ollama, clock: Clock) -> tuple[str, Moment]:
    """Its version, and when it first answered."""
    give_up, no = clock.now() + SERVE_S, (clock.now(), clock.now())
    while True:
        sent = clock.now()
        version = ollama.version()
        now = clock.now()
        if version is not None:
            return version, Moment(*no, sent, now, "ssh")
        if now > give_up:
            words = clean(session.run(_LOG, check=False).stdout.strip()) or "nothing"
            raise DeadlineExceeded(
                f"Ollama does not answer {SERVE_S:g} s after it was started; it said: {words}",
                waited_for="Ollama's API",
                last_seen=words,
                hint="Look at the machine: its program may not run there.",
            )
        no = (sent, now)
        clock.rest(0.5)


def _deploy(drill: Drill, machine: Machine, server: Server) -> None:
    """Pull the model, and see that what lies on the disk is what was asked for."""
    before = server.ollama.digests()
    try:
        with drill.recorder.phase(PULL):
            layers = server.ollama.pull(server.model.name, limit_s=server.left_s)
    finally:
        come = sum(server.ollama.come.values())
        machine.rental.elsewhere += Traffic(down=come)
    took_s = drill.recorder.phases[-1].seconds or 0.0
    with drill.recorder.phase(VERIFY):
        digest, weights, size = _verified(server, layers)
    drill.checks["model"] = {
        "says": f"{server.model.name}, {_mb(size)}, manifest {digest[:12]}"
        + (", as asked for" if server.model.digest else "; no digest was asked for"),
        "name": server.model.name,
        "digest": digest,
        "weights_sha256": weights,
        "bytes": size,
        "demanded": bool(server.model.digest),
        "matches": True,
    }
    drill.checks[PULL] = {
        "says": f"{_mb(come)} in {seconds(took_s)}: {decimals(come * 8 / 1e6 / took_s, 0)} Mbit/s, "
        f"the line is offered at {decimals(machine.offer.inet_down, 0)}"
        if took_s and come
        else "it was there already",
        "state": "pulled" if server.model.name in before else "not pulled",
        "bytes": come,
        "seconds": took_s,
        "link_mbit_per_s": machine.offer.inet_down,
    }


def _verified(server: Server, pulled: frozenset[str]) -> tuple[str, str, int]:
    """The digests of manifest and weights, and the weights' size, as the disk has them. Raises CheckFailed.

    Ollama's word is not taken for them: the manifest is hashed here, the weights are hashed there.
    """
    name, found = server.model.name, server.ollama.digests().get(server.model.name)
    if found is None:
        raise CheckFailed(f"{name} was pulled, and Ollama does not list it.", hint="Do not use this machine.")
    manifest = bytearray()
    try:
        server.session.stream(f"cat {shlex.quote(f'{server.folder}/{server.model.manifest}')}", sink=_at_most(manifest))
        layers = json.loads(manifest)["layers"]
        (layer,) = (one for one in layers if one["mediaType"] == "application/vnd.ollama.image.model")
        weights, size = str(_DIGEST.fullmatch(layer["digest"])[1]), int(layer["size"])  # type: ignore[index]
        hashed = server.session.run(f"sha256sum < {shlex.quote(_blob(server, weights))}", timeout_s=server.left_s).stdout[:64]
    except (CommandFailed, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        words = error.message if isinstance(error, VastbenchError) else f"{type(error).__name__}: {error}"
        raise CheckFailed(f"The disk does not have {name} whole: {words}", hint="Do not use this machine.") from error
    digest = hashlib.sha256(manifest).hexdigest()
    false = {
        f"the digest {digest[:12]}, and {server.model.digest[:12]} was asked for": not digest.startswith(server.model.digest),
        f"a manifest with the SHA-256 {digest[:12]}, and Ollama calls it {clean(found[:12])}": digest != found,
        f"weights with the SHA-256 {clean(hashed[:12])}, not {weights[:12]}": hashed != weights,
        f"the weights {weights[:12]}, which were not pulled": f"sha256:{weights}" not in pulled,
    }
    if other := next((words for words, true in false.items() if true), None):
        raise CheckFailed(f"{name} has {other}.", hint="It is another model: do not use this machine for it.")
    return digest, weights, size


def _load(drill: Drill, server: Server) -> None:
    """Load it, and see that it is this model and that the GPU has it."""
    before = _memory_mib(server.session)
    with drill.recorder.phase(LOAD):
        server.ollama.load(server.model.name, limit_s=server.left_s)
    loaded, after = _in_memory(drill, server), _memory_mib(server.session)
    if before is not None and after is not None and after <= before:
        raise CheckFailed(
            f"nvidia-smi says that {after} MiB are used with the model loaded, and {before} without.",
            hint="The model does not run on the GPU that is paid for.",
        )
    held = None if before is None or after is None else after - before
    drill.checks["gpu memory"] = {
        "says": f"{_or_unknown(held)} MiB by nvidia-smi, {decimals(loaded / 2**20, 0)} MiB by Ollama",
        "before_mib": before,
        "loaded_mib": after,
        "model_bytes": loaded,
    }


def _in_memory(drill: Drill, server: Server) -> int:
    """Bytes that the model has on the GPU. Raises CheckFailed where it is another model, or runs on the CPU."""
    loaded = server.ollama.loaded().get(server.model.name)
    digest = drill.checks["model"]["digest"]  # type: ignore[index]
    if loaded is None or loaded.digest != digest:
        has = "nothing of that name" if loaded is None else f"the digest {clean(loaded.digest[:12])}"
        raise CheckFailed(f"{digest[:12]} was loaded, and Ollama has {has} in memory.", hint="It is another model.")
    if not loaded.gpu_bytes:
        raise CheckFailed(
            f"{server.model.name} is loaded, and nothing of it is on the GPU.",
            hint="Ollama fell back to the CPU: the image or the driver does not let it use the GPU.",
        )
    return loaded.gpu_bytes


def _first(drill: Drill, server: Server) -> None:
    """The first answer of all, until its first output token."""
    with drill.recorder.phase(OUTPUT) as phase:
        answer = server.measure("Greet me in one word.", most=LONGEST_THOUGHT, to_output=True)
        if answer.first_output is None:
            raise CheckFailed(
                f"{server.model.name} thought for {answer.tokens} tokens and said nothing.", hint="Choose another model."
            )
        phase.start, phase.end = Moment.exact(answer.sent), Moment.exact(answer.first_output)
    drill.recorder.add(Phase(FIRST, Moment.exact(answer.sent), Moment.exact(answer.first)))
    _state(drill, "just loaded", answer)


def _generate(drill: Drill, server: Server, name: str, at_once: int) -> float:
    """Four answers, so many at a time: tokens per second over all of it."""
    about = [f"Tell a long story of the number {number}." for number in range(AT_ONCE)]
    with drill.recorder.phase(name) as phase:
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="vastbench-ask")
        try:
            answers = [asked.result() for asked in [pool.submit(server.measure, one) for one in about]]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who is left talks through a tunnel that is closed next
        begun, ended = min(one.sent for one in answers), max(one.ended for one in answers)
        phase.start, phase.end = Moment.exact(begun), Moment.exact(ended)
    tokens = sum(one.tokens or 0 for one in answers)
    rate = tokens / (ended - begun)
    gaps = [gap for one in answers if (gap := one.inter_token_s) is not None]
    drill.checks[name] = {
        "says": f"{decimals(rate, 1)} tokens/s, {decimals(1e3 * fmean(gaps) if gaps else None, 0)} ms from token to token, "
        f"first token after {1e3 * fmean(one.first - one.sent for one in answers):,.0f} ms ({counted(tokens, 'token')})",
        "state": "loaded",
        "at_once": at_once,
        "tokens": tokens,
        "tokens_per_s": rate,
        "inter_token_s": gaps,
        "first_token_s": [one.first - one.sent for one in answers],
    }
    if at_once == 1:
        _state(drill, "loaded", answers[-1])
    return rate


def _price(drill: Drill, machine: Machine, rates: list[float]) -> None:
    """What a million tokens cost at the machine's hourly price, storage included, if it did nothing else."""
    usd_per_hour = max(machine.rental.usd_per_hour, machine.offer.usd_per_hour(drill.conditions.disk_gb))
    prices = [usd_for(1e6 / rate, usd_per_hour) for rate in rates]
    drill.checks[PRICE] = {
        "says": f"{prices[0]:.2f} one at a time, {prices[1]:.2f} with {AT_ONCE} at a time, at {usd_per_hour:.4f} USD/h",
        "one_at_a_time": prices[0],
        "four_at_a_time": prices[1],
        "usd_per_hour": usd_per_hour,
    }
    if (speed := drill.recorder.clock.speed) != 1:
        drill.checks["clock"] = {
            "says": f"an emulated engine is real: by this clock it takes {speed:g} times as long, and costs as much more",
            "speed": speed,
        }


def _twice(drill: Drill, server: Server) -> None:
    """A fixed prompt has one answer at temperature 0. The second time it is prompt-cached, and no other figure's."""
    with drill.recorder.phase(TWICE) as phase:
        first, again = (server.ask(FIXED, most=TOKENS, seed=42) for _ in range(2))
        phase.start, phase.end = Moment.exact(first.sent), Moment.exact(again.ended)
        same = (first.thinking, first.text) == (again.thinking, again.text)
        if not same:
            raise CheckFailed(
                f"The same prompt was answered {clean(first.text[-60:])!r} and then {clean(again.text[-60:])!r}.",
                hint="At temperature 0 there is one answer: memory or GPU may be broken.",
            )
    _state(drill, "prompt-cached", again)
    drill.checks["answer"] = {
        "says": f"the same twice: {clean(' '.join((first.text or first.thinking).split())[:60])}",
        "prompt": FIXED,
        "sha256": hashlib.sha256(f"{first.thinking}\0{first.text}".encode()).hexdigest(),
        "text": first.text[:500],
        "matches": same,
    }


def _from_states(drill: Drill, server: Server) -> None:
    """The first token of a model that must be loaded first: from the page cache, and from the disk."""
    used = _memory_mib(server.session)
    with drill.recorder.phase(UNLOAD):
        server.ollama.unload(server.model.name)
    left = _memory_mib(server.session)
    drill.checks["gpu memory"] |= {"before_unload_mib": used, "unloaded_mib": left}  # type: ignore[operator]
    blob = shlex.quote(_blob(server, str(drill.checks["model"]["weights_sha256"])))  # type: ignore[index]
    server.session.run(f"cat {blob} >/dev/null", timeout_s=server.left_s)
    _first_from(drill, server, FROM_CACHE)
    server.ollama.unload(server.model.name)
    dropped = server.session.run(f"sh -c {shlex.quote(_DROP)} drop {blob}", timeout_s=server.left_s, check=False).stdout.strip()
    resident = int(dropped) if dropped.isdecimal() else None
    if dropped == "unknown" or (resident is not None and resident < 0.05 * drill.checks["model"]["bytes"]):  # type: ignore[index]
        _first_from(drill, server, FROM_DISK)
    else:
        drill.checks[FROM_DISK] = {"says": "not measured: the machine keeps the file in its page cache", "resident": resident}


def _first_from(drill: Drill, server: Server, name: str) -> None:
    with drill.recorder.phase(name) as phase:
        answer = server.measure("Greet me in one word.", most=TOKENS)
        phase.start, phase.end = Moment.exact(answer.sent), Moment.exact(answer.first)
    _in_memory(drill, server)
    _state(drill, name.partition(", ")[2], answer)


def _state(drill: Drill, state: str, answer: Answer) -> None:
    """Keep how long the first token took in that state of the model."""
    kept = drill.checks.setdefault(FIRST, {"says": "", "seconds": {}})
    took_s = kept["seconds"]  # type: ignore[index]
    took_s[state] = answer.first - answer.sent
    kept["says"] = "; ".join(f"{name} {1e3 * value:,.0f} ms" for name, value in took_s.items())  # type: ignore[index]


def _memory_mib(session: Session) -> int | None:
    """MiB used on all GPUs together; None where nvidia-smi does not say it of each."""
    try:
        lines = session.run(_MEMORY).stdout.split()
    except (SshError, DeadlineExceeded):
        return None
    return sum(map(int, lines)) if lines and all(line.isdecimal() and len(line) < 9 for line in lines) else None


def _blob(server: Server, sha256: str) -> str:
    return f"{server.folder}/blobs/sha256-{sha256}"


def _at_most(kept: bytearray, most: int = 1_000_000) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        if len(kept) + len(data) > most:
            raise SshError(f"the manifest is longer than {most:,} bytes")
        kept.extend(data)

    return take


def _mb(size: float | None) -> str:
    return "an unknown number of bytes" if size is None else f"{size / 1e6:.1f} MB"


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


MODEL = Scenario(
    "model",
    "until a model that was pulled onto a rented GPU says its first word, and how fast it goes on, in every state",
    {
        **renting(),
        INSTALL: None,
        SERVE: None,
        PULL: None,
        VERIFY: None,
        LOAD: None,
        OUTPUT: None,
        FIRST: OUTPUT,
        ONE: None,
        FOUR: None,
        TWICE: None,
        UNLOAD: None,
        FROM_CACHE: None,
        FROM_DISK: None,
        **returning(),
    },
    ready=OUTPUT,
    work_s=WORK_S,
    run=run,
    options={"model": "qwen3:0.6b", **HEDGING},
    acceptance=(
        Criterion("runs pass", 0.95, "share"),
        Criterion("the same answer after a restore on another machine", 1.0, "share", place=("restored answer", "same")),
    ),
    emulated={"model": "smollm2:135m-instruct-q4_1@cd883d196adf"},
)
