"""Drawing progress: the library tells one listener of every phase; these are the listeners.

On a terminal live lines (rich), elsewhere plain lines, in a notebook one updating display that leaves one line behind. Those
for a run hear of its phases, those for a study of its :class:`~vastbench.record.study.StudyProgress`.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vastbench.errors import clean
from vastbench.record.formats import decimals, dollars, given, percent
from vastbench.record.phases import Phase
from vastbench.record.recorder import Listener
from vastbench.record.study import StudyListener, StudyProgress

TICK_S = 1.0
"""Seconds between two readings of a notebook's clock."""


def _ended(phase: Phase) -> str:
    took = "not seen to end" if phase.seconds is None else f"{decimals(phase.seconds)} s"
    detail = f"  {clean(phase.detail)}" if phase.detail else ""
    return f"{phase.name:<20} {took:>12}{detail}"


def plain(stream: TextIO, prefix: str = "") -> Listener:
    """Plain lines: one when a phase begins, one when it ends."""

    def listen(name: str, phase: Phase | None) -> None:
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

        def listen(name: str, phase: Phase | None) -> None:
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
    """One display that always shows the latest phase and how long it has gone on; the saved notebook keeps one line.

    ``prefix`` stands before it, such as ``"run 2 of 3: "``. The clock counts minutes and seconds of real time.

    Examples
    --------
    >>> tell = vastbench.notebook_progress("run 1 of 3: ")  # for bench.run(conditions, tell)
    {'text/plain': 'run 1 of 3: starting'}
    """
    show = _notebook_line(f"{prefix}starting")
    begun: dict[str, float] = {}  # phases of several machines go on at the same time
    lock, ticking = threading.Lock(), False

    def tick() -> None:
        nonlocal ticking
        while True:
            time.sleep(TICK_S)
            with lock:
                if not begun:
                    ticking = False
                    return
                name, since = [*begun.items()][-1]
                minutes, seconds = divmod(int(time.monotonic() - since), 60)
                show(f"{prefix}{name} … {minutes}:{seconds:02d}")

    def listen(name: str, phase: Phase | None) -> None:
        nonlocal ticking
        with lock:
            if phase is None:
                begun[name] = time.monotonic()
                show(f"{prefix}{name} …")
                if not ticking:
                    ticking = True
                    threading.Thread(target=tick, name="progress", daemon=True).start()
            elif phase.parent is None:
                begun.pop(name, None)
                show(prefix + _ended(phase))

    return listen


def notebook_study() -> StudyListener:
    """One display that always shows a study's counts; the saved notebook keeps one line.

    Examples
    --------
    >>> tell = vastbench.notebook_study_progress()  # for run_study(bench, study, listener=tell)
    {'text/plain': 'starting'}
    """
    show = _notebook_line("starting")
    return lambda progress: show(counts(progress))


def _notebook_line(text: str) -> Callable[[str], None]:
    from IPython.display import display

    handle: Any = display({"text/plain": text}, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def show(text: str) -> None:
        if handle is not None:
            handle.update({"text/plain": text}, raw=True)

    return show


def counts(progress: StudyProgress) -> str:
    """A study's one line: runs made, passed and failed, spent, how near its rule is, and the real time left at this pace."""
    parts = [
        f"{progress.study}: {progress.made} of {progress.repeats} runs made",
        f"{progress.passed} passed",
        f"{progress.failed} failed",
        f"{dollars(progress.spent_usd)} spent",
    ]
    if progress.widths is not None:
        now, wanted = progress.widths
        parts.append(f"interval {percent(now)} wide, ends at {given(wanted)}")
    if progress.left_s is not None and progress.made < progress.repeats:
        at_most = "" if progress.widths is None else "at most "
        parts.append(f"{at_most}about {_duration(progress.left_s)} left")
    return " · ".join(parts)


def plain_study(stream: TextIO) -> StudyListener:
    """One line per run that ended, with the counts."""

    def listen(progress: StudyProgress) -> None:
        if run := progress.ended:
            how = f"{run.outcome}" + (f" ({run.cause})" if run.cause else "")
            print(f"{run.id}  {how}, {decimals(run.total_s)} s · {counts(progress)}", file=stream, flush=True)

    return listen


@contextmanager
def terminal_study() -> Iterator[StudyListener]:
    """The counts and a line for each worker on stderr, redrawn in place; the counts stay at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    latest: list[StudyProgress] = []

    def picture() -> Text:
        return Text("\n".join(study_lines(latest[-1])) if latest else "starting")

    def listen(progress: StudyProgress) -> None:
        latest[:] = [progress]

    with Live(get_renderable=picture, console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield listen
        live.stop()
    if latest:
        print(counts(latest[-1]), file=sys.stderr, flush=True)


def study_lines(progress: StudyProgress) -> list[str]:
    """The counts, and for each worker the number of its run, the phase, and the clock seconds since it began."""
    now = time.monotonic() * progress.speed
    return [counts(progress)] + [
        "  idle" if doing is None else f"  run {doing.run:<5} {doing.phase:<20} {max(0.0, now - doing.since):>7.0f} s"
        for doing in progress.workers
    ]


@contextmanager
def study_for_stderr() -> Iterator[StudyListener]:
    """The listener of a study that suits standard error: live on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        with terminal_study() as listener:
            yield listener
    else:
        yield plain_study(sys.stderr)


def _duration(seconds: float) -> str:
    """Real time, in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
