"""The parts of the site that come from the package itself, so that they cannot differ from it.

A line ``<!-- generated: NAME -->`` of a page is replaced by what the function of that name returns, in Markdown.
"""

import inspect
import json
import re
from pathlib import Path
from types import ModuleType

import click
import typer

import vastbench
from vastbench import cli, errors
from vastbench.analysis.columns import NEVER, PHASE_COLUMNS, RUN_COLUMNS
from vastbench.render.glossary import GLOSSARY

PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def fill_in(app, page, source):  # noqa: ARG001 (Sphinx's signature)
    """Replace the marked lines of a page. Raises KeyError for a name without a function."""
    source[0] = PLACE.sub(lambda found: PARTS[found[1]](), source[0])
    if page == "gallery":
        missing = [name for name in chart_names() if f"\n(chart-{name})=\n" not in source[0]]
        if missing:
            raise LookupError(f"docs/gallery.md lacks an entry for {', '.join(missing)}: a label (chart-NAME)= and five lines.")


def plain(text):
    """Text for Markdown, with nothing in it that Markdown would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|$])", r"\\\1", re.sub(r"\s+", " ", text))


def table(head, rows):
    """A table in Markdown; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _markdown(text):
    """A line of a docstring, which is reStructuredText, as Markdown: its literals and its references."""
    words = re.sub(r":\w+:`~?(?:[\w.]+\.)?([^`.]+)`|``(.+?)``", r"`\1\2`", " ".join(text.split()))
    return "".join(part if part.startswith("`") else plain(part) for part in re.split(r"(`[^`]*`)", words))


# Names


def chart_names():
    """The public charts: every public name that lies in the room ``charts``."""
    return [name for name in vastbench.__all__ if _room(name) == "charts"]


def _room(name):
    found = getattr(vastbench, name)
    return (found.__name__ if isinstance(found, ModuleType) else found.__module__).split(".")[1]


def _said(found):
    return inspect.getdoc(found.__call__ if isinstance(found, ModuleType) and callable(found) else found)


def _documented(names):
    rows = [[f"[`{name}`](#name-{name})", _markdown(_said(getattr(vastbench, name)).split("\n\n")[0])] for name in names]
    parts = [table(["name", "what it is"], rows)]
    for name in names:
        found = getattr(vastbench, name)
        if inspect.isclass(found):
            said = f".. autoclass:: vastbench.{name}\n   :members:"
        elif not isinstance(found, ModuleType):
            said = f".. autofunction:: vastbench.{name}"
        elif callable(found):
            said = f".. autofunction:: vastbench.{name}.__call__"
        else:
            said = f".. automodule:: {found.__name__}\n   :members:"
        parts.append(f"(name-{name})=\n## {name}\n\n```{{eval-rst}}\n{said}\n```\n")
    return "\n".join(parts)


MAKERS = ("bench", "emulator", "errors", "notebooks", "record", "store")
"""Rooms of what makes runs, and of what a run is."""


def _makes(name):
    return _room(name) in MAKERS or name.startswith("notebook_")


def names_of_charts():
    """The reference of the charts."""
    return _documented(chart_names())


def names_of_data():
    """The reference of what reads, asks and computes: all but charts and what makes runs."""
    return _documented([name for name in vastbench.__all__ if _room(name) != "charts" and not _makes(name)])


def names_of_runs():
    """The reference of what makes runs, and of what a run is."""
    return _documented([name for name in vastbench.__all__ if _makes(name)])


# Notebooks


def notebooks():
    """Each notebook's name, and the question that it asks: its title."""
    rows = []
    for path in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")):
        title = "".join(json.loads(path.read_text("utf-8"))["cells"][0]["source"]).splitlines()[0]
        rows.append([f"[`{path.stem}`](notebooks/{path.name})", title.removeprefix("# ")])
    return table(["notebook", "asks"], rows)


# Columns


def _columns(columns):
    rows = []
    for name, column in columns.items():
        missing = "" if column.missing == NEVER else f". *Missing:* {_markdown(column.missing)}"
        kind = ", ".join(part for part in (column.dtype, column.unit) if part)
        rows.append([f"`{name}`", plain(kind), _markdown(column.meaning) + missing])
    return table(["column", "type, unit", "what it holds"], rows)


def run_columns():
    """What every row says of its run."""
    return _columns(RUN_COLUMNS)


def phase_columns():
    """What a row says of its phase."""
    return _columns(PHASE_COLUMNS)


# Words


def glossary():
    """The words that stand behind a report, too."""
    lines = [f"{word}\n  {plain(meaning)}\n" for word, meaning in GLOSSARY.items()]
    return "```{glossary}\n" + "\n".join(lines) + "```\n"


# Commands


def commands():
    """Every command with its arguments and options, from its own help."""
    return "\n".join(_command("vastbench", typer.main.get_command(cli.app)))


def _command(name, command, above=None):
    context = click.Context(command, info_name=name.split()[-1], parent=above)
    if name != "vastbench":
        yield f"## {name}\n" if name.count(" ") == 1 else f"### {name}\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield "\n\n".join(plain(part) for part in inspect.cleandoc(command.help or "").replace("\b", "").split("\n\n")) + "\n"
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    yield table(["option", "what it does"], [[f"`{option}`", plain(said)] for option, said in records if option != "--help"])
    for word, below in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {word}", below, context)


# Errors


def error_tree():
    """Every error below the one that it is a kind of, with its meaning."""
    return "\n".join([*_below(errors.VastbenchError), *_below(errors.Interrupted)]) + "\n"


def _below(error, depth=0):
    yield f"{'  ' * depth}- `{error.__name__}`: {_meaning(error)}"
    for kind in error.__subclasses__():
        yield from _below(kind, depth + 1)


def _meaning(error):
    return _markdown(inspect.getdoc(error).split("\n\n")[0])


def exit_codes():
    """Every exit code that an error has, with the error that brings it and what it means."""
    found: dict[int, list[type]] = {}
    classes = [errors.VastbenchError, errors.Interrupted]
    for error in classes:
        classes += error.__subclasses__()
        if "exit_code" in vars(error):
            found.setdefault(error.exit_code, []).append(error)
    rows = [
        [str(code), ", ".join(f"`{error.__name__}`" for error in them), _meaning(them[0])]
        for code, them in sorted(found.items())
    ]
    return table(["code", "error", "means"], rows)


PARTS = {
    part.__name__: part
    for part in (
        names_of_charts,
        names_of_data,
        names_of_runs,
        notebooks,
        run_columns,
        phase_columns,
        commands,
        error_tree,
        exit_codes,
        glossary,
    )
}
