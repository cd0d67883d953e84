"""The official client of Ollama, unchanged, against an emulated machine: through OpenSSH's client, and by our own tunnel."""

import asyncio
from contextlib import contextmanager

import pytest

from tests.contract.openssh import Address, OpenSsh
from tests.emulator.machines import PUBLIC, connected, run, said
from tests.emulator.test_llm import REAL, needs_model
from tests.emulator.test_machine import BEST
from tests.emulator.test_ollama import IMAGE, SERVE
from tests.models import MOST, NAME, small_model
from tests.snapshots.conftest import connected as connected_to
from tests.sshd import needs_sshd, sshd
from vastbench.emulator import llm
from vastbench.emulator.ollama_program import PORT

__all__ = ["small_model"]

ollama = pytest.importorskip("ollama", reason="Ollama's official client is not installed; make test installs it")


@contextmanager
def directly(near, tmp_path):
    yield near.port


@contextmanager
def through_openssh(near, tmp_path):
    """Our own tunnel through OpenSSH's server, to where OpenSSH's client listens for the machine."""
    with sshd(tmp_path) as (_, port, key), connected_to(port, key) as session, session.tunnel(near.port) as own:
        yield own


@pytest.fixture(params=[directly, pytest.param(through_openssh, marks=needs_sshd)], ids=["emulator's sshd", "openssh's sshd"])
def talk(tmp_path, request):
    """Runs a conversation of the official client with the Ollama of a machine."""

    def talk(conversation):
        async def scenario():
            openssh = OpenSsh(tmp_path)
            async with connected(BEST, image=IMAGE) as (machine, ssh):
                machine.authorize([PUBLIC, openssh.public_key])
                await said(ssh, SERVE)

                def act():
                    at = Address("127.0.0.1", machine.proxy_port)
                    with openssh.forwarded(at, PORT) as near, request.param(near, tmp_path) as port:
                        client = ollama.Client(host=f"http://127.0.0.1:{port}", trust_env=False)
                        with client._client:
                            conversation(client)

                await asyncio.to_thread(act)

        run(scenario())

    return talk


def test_it_pulls_a_model_and_sees_every_byte_come(talk, small_model):
    def conversation(client):
        assert client.list().models == []
        steps = list(client.pull(NAME, stream=True))
        assert steps[-1].status == "success"
        assert max(step.completed or 0 for step in steps) == small_model.file.stat().st_size
        assert client.pull(NAME).status == "success"
        (model,) = client.list().models
        assert (model.model, model.details.family) == (NAME, "words")
        assert client.show(NAME).details.family == "words"
        assert client.delete(NAME).status == "success"
        assert client.list().models == []

    talk(conversation)


def test_it_generates_and_chats_in_pieces_and_whole(talk, small_model):
    def conversation(client):
        client.pull(NAME)
        options = {"temperature": 0, "seed": 3, "num_predict": 5}
        pieces = list(client.generate(NAME, "Say it", stream=True, options=options))
        assert (len(pieces), pieces[-1].eval_count, pieces[-1].done_reason) == (6, 5, "length")
        whole = client.generate(NAME, "Say it", options=options)
        assert whole.response == "".join(piece.response for piece in pieces)
        (loaded,) = client.ps().models
        assert loaded.digest == client.list().models[0].digest
        said = [{"role": "user", "content": "Say it"}]
        *words, last = client.chat(NAME, said, stream=True)
        assert "".join(word.message.content for word in words)
        assert (len(words), last.eval_count) == (MOST, MOST)
        assert client.chat(NAME, said, options=options, keep_alive=0).message.content
        assert client.ps().models == []

    talk(conversation)


def test_it_is_refused_as_by_ollama(talk, small_model):
    def conversation(client):
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            list(client.pull("nobody/has", stream=True))
        with pytest.raises(ollama.ResponseError, match="file does not exist") as refused:
            client.pull("nobody/has")
        assert refused.value.status_code == 500
        with pytest.raises(ollama.ResponseError, match="not found") as refused:
            client.generate(NAME, "Say it")
        assert refused.value.status_code == 404

    talk(conversation)


@needs_model
def test_a_real_model_answers_it(talk):
    def conversation(client):
        client.pull(llm.SMOLLM2)
        options = {"temperature": 0, "seed": 1, "num_predict": 8}
        first, again = (client.generate(llm.SMOLLM2, "The capital of Spain is", options=options) for _ in range(2))
        assert first.response == again.response != ""
        assert client.ps().models[0].size_vram > REAL.file.stat().st_size

    talk(conversation)
