"""The README and the pages of the site: their commands exist, their links lead somewhere, no chart is forgotten."""

import re
import shlex

import pytest
import typer

import vastbench
from vastbench.bundled import shared
from vastbench.cli import app

ROOT = shared(".")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
COMMANDS = typer.main.get_command(app)
LEFT_OUT = re.compile(r"…|\.\.\.|[A-Z]{4,}(?![A-Z]*_)|\|")
"""A line with a placeholder is no command that could be typed."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands_in(text: str) -> list[list[str]]:
    """The words of every vastbench command in blocks of code, and of those between backquotes, that could be typed as it is."""
    blocks = re.findall(r"^```(?:text|sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(vastbench [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    typed = [re.split(r"\s+#|\s*&&|\s+>", line)[0] for line in lines if line.startswith("vastbench ")]
    return [shlex.split(line)[1:] for line in typed if not LEFT_OUT.search(line)]


@each_page
def test_every_command_of_a_page_exists_with_its_options(page):
    for words in commands_in(page.read_text("utf-8")):
        command, rest = COMMANDS, words
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known, words


def test_commands_are_found_in_blocks_and_between_backquotes():
    text = "Type `vastbench show last`.\n```\n$ vastbench run --seed 1   # a run\nvastbench study --name NAME\n```\n"
    assert commands_in(text) == [["run", "--seed", "1"], ["show", "last"]]


def test_the_readme_is_short_and_names_only_files_that_are_there():
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("\n") <= 120
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not (ROOT / link).exists()] == []


def test_every_public_chart_has_its_entry_in_the_gallery():
    gallery = (ROOT / "docs/gallery.md").read_text("utf-8")
    charts = [
        name for name in vastbench.__all__ if getattr(getattr(vastbench, name), "__module__", "").startswith("vastbench.charts")
    ]
    assert len(charts) >= 10
    assert [name for name in charts if f"\n(chart-{name})=\n" not in gallery or f"vastbench.{name}(" not in gallery] == []
