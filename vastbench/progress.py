"""Drawing progress: the library tells one listener of every phase; these are the listeners.

On a terminal one live line (rich), elsewhere plain lines, in a notebook one updating display that leaves one line behind.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from vastbench.report.text import clean, seconds_text
from vastbench.timing import Listener, Phase, PhaseName


def _ended(phase: Phase) -> str:
    took = "not seen to end" if phase.seconds is None else f"{seconds_text(phase.seconds)} s"
    detail = f"  {clean(phase.detail)}" if phase.detail else ""
    return f"{phase.name:<20} {took:>12}{detail}"


def plain(stream: TextIO, prefix: str = "") -> Listener:
    """Plain lines: one when a phase begins, one when it ends."""

    def listen(name: PhaseName, phase: Phase | None) -> None:
        if phase is None:
            print(f"{prefix}{name} …", file=stream, flush=True)
        elif phase.parent is None:
            print(f"{prefix}{_ended(phase)}", file=stream, flush=True)

    return listen


@contextmanager
def terminal() -> Iterator[Listener]:
    """A spinner with the current phase and its running time on stderr, and a line for each phase that ended."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("starting")

        def listen(name: PhaseName, phase: Phase | None) -> None:
            if phase is None:
                progress.reset(task, description=str(name))
            elif phase.parent is None:
                progress.console.print(_ended(phase), markup=False, highlight=False)

        yield listen


@contextmanager
def for_stderr() -> Iterator[Listener]:
    """The listener that suits standard error: live on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        with terminal() as listener:
            yield listener
    else:
        yield plain(sys.stderr)


def notebook(prefix: str = "") -> Listener:
    """One display that always shows the latest phase; the saved notebook keeps one line."""
    from IPython.display import display

    handle = display(  # type: ignore[no-untyped-call]
        {"text/plain": f"{prefix}starting"}, raw=True, display_id=True
    )

    def listen(name: PhaseName, phase: Phase | None) -> None:
        text = f"{name} …" if phase is None else _ended(phase)
        if handle is not None and (phase is None or phase.parent is None):
            handle.update({"text/plain": f"{prefix}{text}"}, raw=True)

    return listen
