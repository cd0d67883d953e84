"""The engines behind emulated models: the real one where it is installed, and the tests' own, hold one conversation."""

import asyncio

import pytest

from tests.emulator.machines import run
from tests.models import small_model
from vastbench.emulator import llm
from vastbench.emulator.llm import Done, Engine, EngineError

__all__ = ["small_model"]

REAL = llm.available().get(llm.SMOLLM2)
needs_model = pytest.mark.skipif(REAL is None, reason=f"{llm.MISSING} (make test does)")


@pytest.fixture(params=["small", pytest.param("real", marks=needs_model)])
def weights(request):
    return REAL if request.param == "real" else request.getfixturevalue("small_model")


async def answer(engine, text, **more):
    ask = {"messages": [{"role": "user", "content": text}], "max_tokens": 12, "temperature": 0.0, "seed": 1} | more
    *pieces, done = [piece async for piece in engine.answer(ask)]
    assert isinstance(done, Done)
    return "".join(pieces), done


def with_engine(weights, talk):
    async def scenario():
        engine = Engine()
        await engine.start(weights.file)
        try:
            await talk(engine)
        finally:
            await engine.close()
            await engine.close()

    run(scenario())


def test_a_fixed_prompt_at_temperature_0_has_one_answer(weights):
    async def talk(engine):
        first, done = await answer(engine, "What is the capital of France?")
        again, _ = await answer(engine, "What is the capital of France?")
        assert first == again != ""
        assert (await answer(engine, "Name three colours."))[0] != first
        assert done.reason == "length"
        assert (done.tokens, done.prompt_tokens > 3) == (12, True)
        assert min(done.prompt_s, done.answer_s) > 0

    with_engine(weights, talk)


def test_four_are_answered_at_once_and_each_its_own(weights):
    async def talk(engine):
        texts = ["Tell me of rivers.", "Count to ten.", "Who was Newton?", "Write a haiku."]
        answers = await asyncio.gather(*(answer(engine, text) for text in texts))
        assert len({said for said, _ in answers}) == 4
        assert all(done.tokens for _, done in answers)

    with_engine(weights, talk)


def test_an_answer_that_nobody_hears_out_makes_room(weights):
    async def talk(engine):
        for number in range(6):
            ask = {"messages": [{"role": "user", "content": f"{number} tell a long story"}], "temperature": 0.0}
            pieces = engine.answer(ask)
            assert await anext(pieces)
            await pieces.aclose()
        assert (await answer(engine, "Well?"))[1].tokens

    with_engine(weights, talk)


def test_an_engine_that_dies_says_so_in_the_middle_of_an_answer(weights):
    async def talk(engine):
        pieces = engine.answer({"messages": [{"role": "user", "content": "Tell a long story"}], "temperature": 0.0})
        assert await anext(pieces)
        engine._process.kill()
        with pytest.raises(EngineError, match="in the middle of an answer"):
            [piece async for piece in pieces]

    if weights is REAL:  # the other has said all at once
        with_engine(weights, talk)


@needs_model
def test_a_prompt_beyond_its_context_is_refused_with_its_words():
    async def talk(engine):
        with pytest.raises(EngineError, match="exceeds the available context"):
            await answer(engine, "so " * 3000)

    with_engine(REAL, talk)


@needs_model
def test_a_file_that_is_no_model_does_not_start(tmp_path):
    (tmp_path / "none.gguf").write_bytes(b"GGUF" + bytes(1000))

    async def scenario():
        engine = Engine()
        with pytest.raises(EngineError, match=r"\w"):
            await engine.start(tmp_path / "none.gguf")
        assert engine._process is None

    run(scenario())


@needs_model
def test_the_real_model_is_the_one_that_it_is_called():
    assert "smollm2" in REAL.name
    assert REAL.file.stat().st_size == 98_362_432
    assert llm.digest(REAL.file).startswith("b179c9523d0e")
