"""Every public name helps by itself: it says what it does, and its example runs."""

import doctest
import inspect
import pathlib
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import vastbench

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented(name: str) -> doctest.DocTest:
    """The example in the help of a public name."""
    globs = {"vastbench": vastbench, "pathlib": pathlib, "pd": pd, "nbformat": nbformat}
    text = inspect.getdoc(getattr(vastbench, name)) or ""
    return doctest.DocTestParser().get_doctest(text, globs, name, None, 0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder and a store of one's own, and no figure left open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "home.sqlite"))
    yield
    plt.close("all")


@pytest.mark.parametrize("name", vastbench.__all__)
def test_a_public_name_has_an_example_that_runs(name, capsys):
    example = documented(name)
    assert example.examples, f"{name} has no example in its help"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    failures = runner.run(example, out=sys.stdout.write).failed
    assert failures == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", vastbench.__all__)
def test_the_help_of_a_function_names_each_of_its_parameters(name):
    found = getattr(vastbench, name)
    if inspect.isclass(found) or (inspect.ismodule(found) and not callable(found)):
        return
    for parameter in inspect.signature(found).parameters:
        assert f"{parameter}" in inspect.getdoc(found), f"{name} says nothing of {parameter}"
