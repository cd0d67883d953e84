"""What all commands share: the application, their common options, and how they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from vastbench.record.plain import dumps


def share(text: str) -> float:
    """The share that ``15%`` or ``0.15`` says, between 0 and 1. Raises UsageError for anything else."""
    from vastbench.errors import UsageError

    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UsageError(f"{text!r} is no share between 0 and 1.", hint="Give one like 15% or 0.15.")
    return value


def of_study(name: str) -> str:
    """``name``, unless it is empty: then it would select everything. Raises UsageError."""
    from vastbench.errors import UsageError

    if not name:
        raise UsageError("--study names no study.", hint="Leave it out for all runs, or see: vastbench studies")
    return name


app = typer.Typer(
    help="How long until a rented GPU is ready, what it costs, where the time goes, and how sure we are.\n\n"
    "Without --live everything runs on a built-in emulator of Vast.ai and costs nothing. "
    "Start with: vastbench run, then: vastbench show last.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StoreOption = Annotated[
    Optional[str],  # noqa: UP045 (typer reads this annotation at run time)
    typer.Option("--store", help="The store: a file or a database URL. [default: VASTBENCH_STORE or the data directory]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for programs.")]
Live = Annotated[bool, typer.Option("--live", help="On the marketplace at VAST_URL, spending money. Needs --budget.")]
KeyFile = Annotated[Optional[Path], typer.Option("--api-key-file", help="A file that holds the API key.")]  # noqa: UP045
Profile = Annotated[str, typer.Option("--profile", help="The emulator's behaviour: a name in data/profiles or a TOML file.")]
Seed = Annotated[Optional[int], typer.Option("--seed", help="Repeat the same emulated draws.")]  # noqa: UP045
Speed = Annotated[float, typer.Option("--speed", help="Emulated seconds per real second; 1 is real time.")]
Disk = Annotated[float, typer.Option("--disk", help="Disk in GB, at least 8.")]
OfStudy = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--study", parser=of_study, metavar="NAME", help="Only the runs of this study."),
]
Where = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--where", metavar="COLUMN=VALUE", help="Only runs with that value of a column of the table: scale=20."),
]
Pool = Annotated[bool, typer.Option("--pool", help="Take runs of several scenarios, variants or scales for one sample.")]
Passed = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--passed", metavar="WORD", help="A word of a status column that means passed; several times if need be."),
]
Unit = Annotated[str, typer.Option("--unit", metavar="UNIT", help="Of times whose column names none: s, ms, us, ns, min, h.")]
TimesColumn = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--column", metavar="NAME", help="The column of times, where its name does not tell; several are phases."),
]
GroupBy = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--group-by", metavar="NAME", help="A column whose values are samples of their own."),
]
Truth = Annotated[Optional[Path], typer.Option("--truth", help="Write the emulator's log of the truth to this file.")]  # noqa: UP045
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before spending (with --live).")]


def open_store(place: str | None, *, made: bool = True) -> Any:
    """The store at ``place``, or the default one; with ``made`` False it must exist already."""
    from vastbench.settings import default_store
    from vastbench.store import Store

    opener = Store if made else Store.existing
    return opener(place or default_store())


def in_store(place: str | None) -> str:
    """`` in PLACE`` for a sentence about nothing there, or that it is not made yet."""
    from vastbench.answers.selection import existing, nothing_stored_yet

    if nothing_stored_yet(place):
        return " yet"
    with existing(place) as opened:
        return f" in {opened.place}"


def open_market(live: bool, api_key_file: Path | None, profile: str, seed: int | None) -> Any:
    """An API client on the live marketplace or on an emulator of its own, as a context manager."""
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        from vastbench.clock import Clock
        from vastbench.settings import Settings
        from vastbench.vast.api import VastApi

        settings = Settings.from_environment(api_key_file=api_key_file)
        if live:
            with VastApi(settings.vast_url, settings.require_key(), clock=Clock(settings.vastbench_speed)) as api:
                yield api
        else:
            from vastbench.emulator import Emulator

            with Emulator(profile, seed=seed) as vast, VastApi(vast.url, vast.api_key, clock=Clock()) as api:
                yield api

    return opened()


def print_table(head: list[str], rows: list[list[str]], *, numbers: int = 0) -> None:
    """Plain aligned columns, foreign words made harmless; the last ``numbers`` of them to the right."""
    from vastbench.render.blocks import Table

    print(Table(head, rows, numbers).text())


def print_json(value: Any) -> None:
    """Print JSON for programs; raises TypeError for what JSON has no word for."""
    text = dumps(value, indent=2)
    # What drives a terminal is written as an escape, which says the same to a program.
    print("".join(c if c.isprintable() or c == "\n" else dumps(c, ensure_ascii=True)[1:-1] for c in text))
