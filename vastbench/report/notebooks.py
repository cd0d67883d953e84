"""The notebooks of a report: executed on the report's own table in parallel processes, and made into pages."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, cast

from vastbench.bundled import shared
from vastbench.errors import NotebookFailed
from vastbench.interrupts import as_they_end
from vastbench.notebooks.running import run_notebook
from vastbench.render.wording import plain
from vastbench.settings import environment_for_child

NOTEBOOKS = ("01-integration-test", "02-phase-timings", "03-boot-bottlenecks", "04-provider-costs", "05-how-sure-are-we")
DATA = "../runs.parquet"
"""The report's table, seen from the folder of its notebooks, so that they can be run again where they lie."""

CODE_FOLDED = (
    "{%- extends 'basic/index.html.j2' -%}"
    "{%- block input -%}<details class='code'><summary>Code</summary>{{ super() }}</details>{%- endblock input -%}"
)
DROPPED = ("parameters", "injected-parameters", "remove-cell", "hide-cell")
"""Cells with these tags are not part of a page."""


class Executed(NamedTuple):
    """An executed notebook: its ``title``, its page's ``body``, ``error`` (empty when every cell ran) and what it took."""

    name: str
    title: str
    body: str
    error: str
    seconds: float


def execute_all(folder: Path, notebooks: Sequence[str], done: Callable[[Executed], None]) -> list[Executed]:
    """Run ``notebooks`` (names of ours, or files) on the table beside ``folder``, as many at once as there are cores.

    They are kept in ``folder``, one that fails like the others, with its error. ``done`` hears of each as it ends. On an
    interruption the processes are stopped first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def one(name: str) -> Executed:
        worker = idle.get()
        try:
            return worker.execute(name)
        finally:
            idle.put(worker)

    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(folder)) for _ in range(min(len(notebooks), os.cpu_count() or 2))]
        for worker in workers:
            idle.put(worker)
        pool = stack.enter_context(ThreadPoolExecutor(max(1, len(workers))))
        running = [pool.submit(one, name) for name in notebooks]
        try:
            for future in as_they_end(running):
                done(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.stop()
            raise
    return [future.result() for future in running]


class _Worker:
    """A process that executes notebooks in ``folder``, one after the other, and ends with this one, however that ends.

    A fresh interpreter: a fork would inherit our threads' locks, papermill works in the caller's folder, and stored runs are
    looked at without our secrets.
    """

    def __init__(self, folder: Path) -> None:
        self._line, theirs = Pipe()
        program = "from vastbench.report.notebooks import work; work()"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, str(theirs.fileno())],
                cwd=folder,
                env=environment_for_child(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def execute(self, name: str) -> Executed:
        """What :func:`execute` gives or raises there."""
        try:
            self._line.send(name)
            outcome = self._line.recv()
        except (EOFError, OSError):
            raise NotebookFailed(
                f"The process that executed {name} ended with status {self._process.wait()}.", hint="Is there enough memory?"
            ) from None
        if isinstance(outcome, BaseException):
            raise outcome
        return cast("Executed", outcome)

    def stop(self) -> None:
        """Let it interrupt what it executes."""
        self._process.terminate()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._process.wait()


def work() -> None:
    """Execute the notebooks that the parent process names, until it closes its end of the line or has ended."""
    # To check a format that no notebook has, nbformat's validator compiles a grammar: as long as all else takes to import.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a terminal tells us, too; what is executed has a handler of its own
    line, names = Connection(int(sys.argv[1])), SimpleQueue[str]()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                names.put(line.recv())
        os._exit(0)  # whatever is executed: a kernel ends with its parent

    threading.Thread(target=listen, daemon=True).start()
    while True:
        outcome: Executed | BaseException
        try:
            outcome = execute(names.get())
        except BaseException as error:  # noqa: BLE001 (raised again by the parent)
            outcome = error
        line.send(outcome)


def execute(path: str) -> Executed:
    """Run the notebook ``path`` (a name of ours, or a file) in the current folder on ``DATA``.

    It is left there as ``NAME.ipynb``, without the machine's own paths.
    """
    import nbformat

    begun, error, name = time.monotonic(), "", Path(path).stem
    try:
        run_notebook(path, {"data": DATA}, ".")
    except NotebookFailed as failed:
        error = failed.message
    (kept,) = Path.cwd().glob(f"{name}-*.ipynb")
    notebook = nbformat.reads(_without_paths(kept.read_text(encoding="utf-8")), as_version=4)  # type: ignore[no-untyped-call]
    notebook.metadata.papermill.update(input_path=f"{name}.ipynb", output_path=f"{name}.ipynb")
    nbformat.write(notebook, f"{name}.ipynb")  # type: ignore[no-untyped-call]
    kept.unlink()
    return Executed(name, _title(notebook, name), body(notebook), error, time.monotonic() - begun)


def body(notebook: Any) -> str:
    """The notebook as an HTML fragment: code folded, the parameters' cells left out, each image with the text near it."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config({"TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": set(DROPPED)}})
    exporter = HTMLExporter(config=config, template_name="basic")  # type: ignore[no-untyped-call]
    exporter.raw_template = CODE_FOLDED
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    fragment, _ = exporter.from_notebook_node(notebook)
    return _with_alt_texts(fragment)


def _with_alt_texts(fragment: str) -> str:
    """nbconvert gives images no text of their own; ours have their finding in the paragraph that follows."""

    def described(image: re.Match[str]) -> str:
        paragraph = re.search(r"<p>(.*?)</p>", fragment[image.end() :], re.DOTALL)
        words = re.sub(r"<[^>]+>", "", paragraph[1]) if paragraph else "A chart of this notebook"
        return f'<img alt="{html.escape(html.unescape(" ".join(words.split())))}"'

    return re.sub(r'<img alt="No description has been provided for this image"', described, fragment)


def _title(notebook: Any, name: str) -> str:
    first = next((line for cell in notebook.cells for line in cell.source.splitlines() if line.startswith("# ")), name)
    return plain(first.removeprefix("# "))


def _without_paths(text: str) -> str:
    """The file's text without the folders of this machine, which tracebacks and warnings name."""
    places = {str(Path.cwd()): ".", str(shared(".").resolve()): "vastbench", sys.prefix: "python", str(Path.home()): "~"}
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:
            text = text.replace(json.dumps(place, allow_nan=False)[1:-1], places[place])
    return re.sub(re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+", "ipykernel", text)
