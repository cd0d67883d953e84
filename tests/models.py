"""A small model for tests that ask what is done with one, not how well it speaks."""

import random
from pathlib import Path

import pytest

from vastbench.emulator import llm

NAME = "words:tiny"

MOST = 24
"""Pieces of its answers unless fewer are asked for."""


@pytest.fixture
def small_model(tmp_path, monkeypatch) -> llm.Weights:
    """The only model that emulated machines can pull."""
    file = tmp_path / "words.gguf"
    file.write_bytes(random.Random(7).randbytes(300_000))
    weights = llm.Weights(NAME, file, "words", "16", "none")
    monkeypatch.setattr(llm, "available", lambda: {NAME: weights})
    monkeypatch.setattr(llm, "PROGRAM", Path(__file__).with_name("engine.py"))
    return weights
