"""The model drill: what a whole run shows, and that each planted fault fails it for its own cause."""

import dataclasses
import hashlib
import re
import signal

import pytest

from tests.fleet import bench
from tests.models import NAME, small_model
from tests.processes import Started, clean_environment, command
from tests.profiles import certain
from vastbench.emulator import Emulator, llm, machine, ollama, ollama_program, ollama_server, ollama_store
from vastbench.emulator.llm import Done, Engine
from vastbench.emulator.ollama import Line
from vastbench.errors import UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.phases import Outcome
from vastbench.scenarios import model
from vastbench.scenarios.model import FOUR, FROM_DISK, MODEL, ONE, OUTPUT, PULL, Wanted
from vastbench.store import Store

__all__ = ["small_model"]

SPEED = 50
ASKED = Conditions(boot_deadline_s=120, ssh_deadline_s=60)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A bench for all tests of this file."""
    folder = tmp_path_factory.mktemp("model")
    with bench(folder, profile=certain(folder), seed=3, speed=SPEED) as opened:
        yield opened


@pytest.fixture
def digest(small_model):
    return hashlib.sha256(ollama_store.published(small_model)[0]).hexdigest()


@pytest.fixture
def deploy(opened, digest):
    """Makes a run of the drill with the small model, which it asks for by name and digest."""

    def made(**asked):
        run = opened.run(dataclasses.replace(ASKED, **({"model": f"{NAME}@{digest}"} | asked)), scenario="model")
        assert opened.emulator.alive == []
        assert opened.store.leases(open_only=True) == []
        return run

    return made


def test_a_model_is_deployed_and_every_state_has_its_figure(deploy, digest, small_model, opened):
    run = deploy()
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    found = run.validation
    assert {phase.name for phase in run.phases} == set(MODEL.timeline) - ({FROM_DISK} if FROM_DISK in found else set())
    size = small_model.file.stat().st_size
    assert (found["model"]["digest"], found["model"]["weights_sha256"]) == (digest, llm.digest(small_model.file))
    assert (found[PULL]["state"], found[PULL]["bytes"]) == ("not pulled", size)
    memory = found["gpu memory"]
    assert memory["before_mib"] == memory["unloaded_mib"] < memory["loaded_mib"]
    states = {"just loaded", "loaded", "prompt-cached", "page-cache-warm"}
    assert states <= found["first token"]["seconds"].keys() <= states | {"disk-cold"}
    assert (found[ONE]["at_once"], found[FOUR]["at_once"]) == (1, 4)
    assert found[ONE]["tokens_per_s"] == found[ONE]["tokens"] / run.seconds(ONE)
    assert found["usd per million tokens"]["one_at_a_time"] == pytest.approx(
        found["usd per million tokens"]["usd_per_hour"] / 3600 / found[ONE]["tokens_per_s"] * 1e6
    )
    assert found["answer"]["matches"]
    assert run.seconds(OUTPUT) == found["first token"]["seconds"]["just loaded"]
    assert opened.store.run(run.id) == run_from_dict(run_to_dict(run)) == run


def test_the_text_says_what_was_found_and_what_the_clock_does_to_it(deploy):
    text = str(deploy())
    assert re.search(r"\n  model +words:tiny, 0\.3 MB, manifest [0-9a-f]{12}, as asked for\n", text)
    assert re.search(r"\n  clock +an emulated engine is real: by this clock it takes 50 times as long", text)
    assert max(map(len, text.splitlines())) < 150


def test_an_image_that_has_the_program_needs_no_installation(deploy):
    run = deploy(image="ollama/ollama:0.12.6", model=NAME)
    assert (run.outcome, run.detail) == (Outcome.PASSED, "")
    assert run.validation["ollama"]["says"] == f"version {ollama_program.VERSION}, from the image"
    assert not run.validation["model"]["demanded"]
    assert "no digest was asked for" in run.validation["model"]["says"]


def test_what_the_machine_pulls_is_metered_as_its_traffic(deploy):
    pulled = deploy()
    size = pulled.validation[PULL]["bytes"]
    assert size > 250_000
    assert pulled.cost.transfer_usd > size / 1e9 * 0.001  # the least that the market asks for a GB


def test_live_and_emulated_runs_have_models_of_their_own_by_default():
    assert MODEL.settled(Conditions(), live=True).model == "qwen3:0.6b"
    assert MODEL.settled(Conditions()).model.startswith(f"{llm.SMOLLM2}@")
    assert MODEL.settled(Conditions(model="any:one"), live=True).model == "any:one"


@pytest.mark.parametrize("asked", ["", "../x", "a b", "x@", "x@12345", "x@zz", "a/b/c/d:e", "$(id)"])
def test_a_model_that_cannot_be_meant_rents_nothing(asked, opened):
    with pytest.raises(UsageError, match="The model is"):
        Wanted.of(asked)
    if asked == "x@12345":
        run = opened.run(dataclasses.replace(ASKED, model=asked), scenario="model")
        assert (run.cause, run.attempts) == ("usage", ())


@pytest.mark.parametrize(
    ("asked", "manifest"),
    [
        ("qwen3:0.6b", "manifests/registry.ollama.ai/library/qwen3/0.6b"),
        ("qwen3", "manifests/registry.ollama.ai/library/qwen3/latest"),
        ("me/mine:1", "manifests/registry.ollama.ai/me/mine/1"),
        ("hf.co/me/mine:Q4", "manifests/hf.co/me/mine/Q4"),
        ("host:5000/me/mine", "manifests/host:5000/me/mine/latest"),
    ],
)
def test_a_manifest_is_looked_for_where_ollama_keeps_it(asked, manifest):
    assert Wanted.of(asked).manifest == manifest


def test_memory_that_cannot_be_read_is_unknown_and_never_0(deploy, monkeypatch):
    monkeypatch.setattr(model, "_MEMORY", "nvidia-smi --query-gpu=memory.used --format=csv")
    run = deploy()
    assert run.outcome is Outcome.PASSED
    assert run.validation["gpu memory"]["loaded_mib"] is None
    assert run.validation["gpu memory"]["says"].startswith("unknown MiB by nvidia-smi")


def test_a_thinking_model_has_a_first_token_before_its_first_output(deploy, monkeypatch):
    answered = ollama.Ollama._answer

    async def thoughtful(self, *given):
        count = 0
        async for row in answered(self, *given):
            count += 1
            if row.get("response") and count <= 3:
                row |= {"thinking": row["response"], "response": ""}
            yield row

    monkeypatch.setattr(ollama.Ollama, "_answer", thoughtful)
    run = deploy()
    assert run.outcome is Outcome.PASSED
    assert 0 < run.seconds("first token") < run.seconds(OUTPUT)


def test_a_page_cache_that_cannot_be_emptied_gives_no_cold_figure(deploy, monkeypatch):
    monkeypatch.setattr(model, "_DROP", "echo 299999")
    run = deploy()
    assert run.outcome is Outcome.PASSED
    assert run.validation[FROM_DISK]["says"].startswith("not measured")
    assert "disk-cold" not in run.validation["first token"]["seconds"]
    assert run.seconds(FROM_DISK) is None


# Mutants: each takes away what the drill rests on, and the drill must fail, for that reason.


def _answering(monkeypatch, change):
    """Let ``change`` make what the engine says out of what it would have said."""
    answer = Engine.answer

    async def other(self, ask):
        async for piece in answer(self, ask):
            for one in change(piece):
                yield one

    monkeypatch.setattr(Engine, "answer", other)


def _rows(monkeypatch, name, change):
    """Let ``change`` make the rows of an answer of the API."""
    method = getattr(ollama.Ollama, name)

    async def other(self, *given):
        async for row in method(self, *given):
            for one in change(row):
                yield one

    monkeypatch.setattr(ollama.Ollama, name, other)


def _fail_every_inference(monkeypatch):
    async def failing(self, ask):
        raise llm.EngineError("llama runner process has terminated")
        yield

    monkeypatch.setattr(Engine, "answer", failing)


def _answer_nothing(monkeypatch):
    _answering(monkeypatch, lambda piece: [piece] if isinstance(piece, Done) else [])


def _answer_with_empty_pieces(monkeypatch):
    _answering(monkeypatch, lambda piece: [piece if isinstance(piece, Done) else ""])


def _cut_the_answer(monkeypatch):
    _answering(monkeypatch, lambda piece: [] if isinstance(piece, Done) else [piece])


def _count_tokens_tenfold(monkeypatch):
    def more(piece):
        return [dataclasses.replace(piece, tokens=piece.tokens * 10) if isinstance(piece, Done) else piece]

    _answering(monkeypatch, more)


def _only_think(monkeypatch):
    _rows(monkeypatch, "_answer", lambda row: [row | {"thinking": row.get("response", ""), "response": ""}])


def _publish_another_model(monkeypatch):
    published = ollama_store.published

    def other(weights):
        return published(dataclasses.replace(weights, parameters="17"))

    monkeypatch.setattr(ollama, "published", other)


def _load_another_model(monkeypatch):
    row = ollama.Ollama._row

    def other(self, stored):
        loaded = self._loaded.get(stored.name)
        return row(self, stored) | ({"digest": "0" * 64} if loaded and loaded.model is stored else {})

    monkeypatch.setattr(ollama.Ollama, "_row", other)


def _list_another_digest(monkeypatch):
    row = ollama.Ollama._row
    monkeypatch.setattr(ollama.Ollama, "_row", lambda self, stored: row(self, stored) | {"digest": "0" * 64})


def _damage_the_weights(monkeypatch):
    pulled = ollama.Ollama._loaded_down

    async def damaged(self, weights, blob, row):
        async for one in pulled(self, weights, blob, row):
            yield one
        await self.store.run('printf x | dd of="$1" bs=1 seek=5 conv=notrunc 2>/dev/null', self.store._blob(blob))

    monkeypatch.setattr(ollama.Ollama, "_loaded_down", damaged)


def _pull_nothing_and_say_it_was_there(monkeypatch):
    _rows(monkeypatch, "_pulled", lambda row: [row] if "digest" not in row else [])


def _cut_the_pull(monkeypatch):
    _rows(monkeypatch, "_pulled", lambda row: [row] if "pulling" in row["status"] else [])


def _call_a_short_pull_a_success(monkeypatch):
    pulled = ollama.Ollama._loaded_down

    async def short(self, weights, blob, row):
        async for one in pulled(self, weights, blob, row):
            yield one
        await self.store.run('truncate -s 150000 "$1"', self.store._blob(blob))

    monkeypatch.setattr(ollama.Ollama, "_loaded_down", short)


def _forget_to_list_it(monkeypatch):
    async def nothing(self):
        return {}

    monkeypatch.setattr(ollama_store.ModelStore, "models", nothing)


def _ask_the_same_prompt_again(monkeypatch):
    monkeypatch.setattr(model.secrets, "token_hex", lambda size: "0" * 2 * size)


def _answer_as_it_likes(monkeypatch):
    ask = ollama._ask
    count = iter(range(1000))
    monkeypatch.setattr(ollama, "_ask", lambda options: ask(options) | {"temperature": 1.0, "seed": next(count)})


def _never_serve(monkeypatch):
    monkeypatch.setattr(model, "_SERVE", model._SERVE.replace("setsid ollama serve", "setsid ollama run"))
    monkeypatch.setattr(model, "SERVE_S", 10.0)


def _serve_without_answering(monkeypatch):
    async def silent(self, said):
        return

    monkeypatch.setattr(ollama_server.OllamaServer, "_serve", silent)
    monkeypatch.setattr(model, "SERVE_S", 10.0)


def _run_on_the_cpu(monkeypatch):
    monkeypatch.setattr(Engine, "memory_bytes", 0)


def _use_no_memory_of_the_gpu(monkeypatch):
    async def nowhere(self, memory_bytes):
        return

    monkeypatch.setattr(ollama_server.OllamaServer, "_hold", nowhere)


def _never_unload(monkeypatch):
    async def kept(self, one):
        return

    monkeypatch.setattr(ollama.Ollama, "_expire", kept)


def _have_no_installer(monkeypatch):
    monkeypatch.setattr(model, "_INSTALL", model._INSTALL.replace("ollama.com", "127.0.0.1:1"))


def _install_nothing(monkeypatch):
    monkeypatch.setattr(ollama_program, "_INSTALLER", "true\n")


MUTANTS = {
    _fail_every_inference: ("check_failed", "answered 500.*terminated"),
    _answer_nothing: ("check_failed", "gave no token"),
    _answer_with_empty_pieces: ("check_failed", "gave no token"),
    _cut_the_answer: ("check_failed", "was cut after"),
    _count_tokens_tenfold: ("check_failed", "counts 240 tokens, and 24 pieces"),
    _only_think: ("check_failed", "said nothing"),
    _publish_another_model: ("check_failed", "was asked for"),
    _load_another_model: ("check_failed", "in memory"),
    _list_another_digest: ("check_failed", "Ollama calls it 0000"),
    _damage_the_weights: ("check_failed", "weights with the SHA-256"),
    _pull_nothing_and_say_it_was_there: ("check_failed", "were not pulled"),
    _cut_the_pull: ("check_failed", "not with success"),
    _call_a_short_pull_a_success: ("check_failed", "weights with the SHA-256"),
    _forget_to_list_it: ("check_failed", "does not list it"),
    _ask_the_same_prompt_again: ("check_failed", "was asked before: a cache"),
    _answer_as_it_likes: ("check_failed", "The same prompt was answered .* and then"),
    _never_serve: ("deadline", "does not answer 10 s after.*only the command serve"),
    _serve_without_answering: ("deadline", "does not answer 10 s after"),
    _run_on_the_cpu: ("check_failed", "nothing of it is on the GPU"),
    _use_no_memory_of_the_gpu: ("check_failed", "nvidia-smi says that 1 MiB are used"),
    _never_unload: ("check_failed", "still loaded"),
    _have_no_installer: ("check_failed", "cannot be installed"),
    _install_nothing: ("check_failed", "cannot be installed"),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__.strip("_"))
def test_a_drill_that_a_fault_was_planted_in_fails_for_it(deploy, monkeypatch, mutant):
    cause, words = MUTANTS[mutant]
    mutant(monkeypatch)
    run = deploy()
    print(run.cause, run.detail)
    assert run.outcome is not Outcome.PASSED
    assert run.cause == cause
    assert re.search(words, run.detail)


def test_a_model_that_the_registry_does_not_have_is_named(deploy):
    run = deploy(model="nobody/has:it")
    assert run.cause == "check_failed"
    assert "pull nobody/has:it" in run.detail
    assert "pull model manifest: file does not exist" in run.detail


def test_without_an_engine_the_drill_says_what_to_install(deploy, monkeypatch):
    monkeypatch.setattr(llm, "available", dict)
    assert "pip install 'vastbench[model]'" in deploy().detail


def test_killed_while_it_pulls_it_leaks_nothing(tmp_path, small_model, monkeypatch):
    monkeypatch.setattr(machine, "Line", lambda _, count: Line(3000.0, count))
    store = tmp_path / "runs.sqlite"
    with Emulator(certain(tmp_path), seed=3, speed=SPEED) as vast:
        environment = clean_environment(tmp_path) | {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key}
        environment["VASTBENCH_SPEED"] = str(SPEED)
        words = ["run", "model", "--live", "--budget", "9", "--yes", "--store", store, "--model", NAME]
        with Started(*words, env=environment, cwd=tmp_path) as process:
            assert any(line.strip() == f"{PULL} …" for line in process.stderr)
            process.send_signal(signal.SIGKILL)
        assert len(vast.alive) == 1
        reaped = command("reap", "--live", "--yes", "--store", store, env=environment, cwd=tmp_path)
        assert reaped.returncode == 0, reaped.stderr
        assert vast.alive == []
    with Store(store) as opened:
        assert {lease.state for lease in opened.leases()} == {"closed"}
