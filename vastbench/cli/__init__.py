"""vastbench on the command line.

Only what every command needs is imported here; the rest is imported by the command that needs it, so that ``--help`` is quick.
Exit codes are those of ``errors.py``: 0 passed, 1 internal, 2 usage, 3 store, 4 API, 5 no offer, 6 instance, 7 deadline,
8 an instance may still exist, 9 a notebook's cell failed, 10 no run of a study passed, 11 a study lacks runs,
12 B is better and 13 worse (compare), 14 not enough runs to tell, 15 artefacts found,
16 a webhook's receiver did not take the test, 19 the account was charged what the meters do not explain, 130 interrupted.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from vastbench.cli.app import app
from vastbench.errors import Interrupted, UsageError, VastbenchError, clean, interruption_in

__all__ = ["app", "main"]

# Their import registers the commands, in the order of the help text.
for _room in (
    "rent",
    "rehearse",
    "reap",
    "stored",
    "reconcile",
    "market",
    "tools",
    "check",
    "plan",
    "estimate",
    "compare",
    "webhooks",
):
    import_module(f"vastbench.cli.{_room}")

_debug = False


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vastbench {version('vastbench')}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="vastbench: %(message)s")
    for chatty in ("asyncssh", "matplotlib", "paramiko", "stamina"):
        logging.getLogger(chatty).setLevel(logging.WARNING if debug else logging.ERROR)
    # A booting machine that drops connections is measured, not an error to talk about.
    logging.getLogger("vastbench.ssh.paramiko").setLevel(logging.WARNING if debug else logging.CRITICAL)


def _print_traceback() -> None:
    """The traceback, line by line without what drives a terminal: errors of libraries quote what a machine said."""
    print(*map(clean, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)


def main() -> None:
    """Run the command line; every error becomes one clear message and a documented exit code."""
    from vastbench.interrupts import raise_on_signals
    from vastbench.settings import ensure_home

    raise_on_signals()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for the life of the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow locale must not cost a measured run
    try:
        ensure_home()
        app()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has seen enough; say nothing when we are closed
    except (Exception, Interrupted) as error:  # noqa: BLE001 (the last line of defence before the user)
        if _debug:
            _print_traceback()
        message, hint, code = _words(error)
        print(f"vastbench: {message}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)
        sys.exit(code)


def _words(error: BaseException) -> tuple[str, str, int]:
    """What is said of an error that ended a command: the message, the next step, the exit code."""
    if not isinstance(error, VastbenchError) and isinstance(stopped := interruption_in(error), Interrupted):
        error = stopped  # a signal may have broken something on its way
    match error:
        case VastbenchError() | Interrupted():
            return error.message, error.hint, error.exit_code
        case OSError() if "temporary directory" in str(error):  # tempfile's words, whoever asked it
            return f"{clean(error)}.", "Set TMPDIR to a folder that can be written.", UsageError.exit_code
        case OSError():
            return f"{clean(error)}.", "Was the disk full, or a file or the output closed to us?", 1
        case _:
            return f"internal error: {type(error).__name__}: {clean(error)}", "Run again with: vastbench --debug …", 1
