"""Running notebooks with checked parameters: the seam that schedules and many machines use.

:func:`run_notebook` takes and returns plain picklable values, so that any ``concurrent.futures`` executor can call it.
papermill itself only warns about an unknown parameter and runs the default; here it is refused.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from vastbench.bundled import shared
from vastbench.errors import Interrupted, NotebookFailed, NotFound, UsageError, VastbenchError


@dataclass(frozen=True, slots=True)
class RunResult:
    """An executed notebook: where it lies and the parameters that were set."""

    path: Path
    parameters: dict[str, object]


def run_notebook(
    path: str | Path, parameters: Mapping[str, Any], out_dir: str | Path, *, echo: TextIO | None = None
) -> RunResult:
    """Execute the notebook at ``path`` (or one of ours, by name) into ``out_dir`` with ``parameters``.

    Parameters
    ----------
    path
        A notebook, or the name of one of ours, such as ``02-phase-timings``.
    parameters
        Values by name. Text is converted to the type that the notebook's parameters cell declares.
    out_dir
        The folder of the executed notebook; it is made.
    echo
        What the notebook prints goes here as well.

    Returns
    -------
    RunResult
        The ``path`` of the executed notebook, and its ``parameters`` as it got them.

    Raises
    ------
    NotFound
        No such notebook.
    UsageError
        An unknown parameter, or a value of the wrong type.
    NotebookFailed
        A cell raised or the kernel died; the executed notebook is kept and named.
    LeaseNotClosed
        A kernel that died left leases open.
    Interrupted
        SIGINT or SIGTERM, after the notebook had its time to clean up.

    Examples
    --------
    >>> import nbformat
    >>> from nbformat import v4 as nb
    >>> cells = [nb.new_code_cell("repeats: int = 1", metadata={"tags": ["parameters"]}), nb.new_code_cell("repeats + 1")]
    >>> of = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    >>> nbformat.write(nb.new_notebook(cells=cells, metadata=of), "mine.ipynb")
    >>> vastbench.run_notebook("mine.ipynb", {"repeats": "3"}, "out").parameters
    {'repeats': 3}
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = find_notebook(path)
    checked = check_parameters(notebook, parameters)
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {str(folder)!r} cannot be made: {error.strerror}.", hint="Name another.") from None
    executed = folder / f"{_plain_name(notebook.stem)}-{datetime.now(UTC):%Y%m%dT%H%M%S}.ipynb"
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters=checked,
            engine_name="vastbench",
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
            stdout_file=echo,
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"Cell {error.cell_index + 1} of {notebook.name} raised {error.ename}: {error.evalue[:800].rstrip('.')}.",
            hint=f"The executed notebook is kept: {executed}",
        ) from None
    except (KeyboardInterrupt, SystemExit) as ended:  # the second by our engine
        if isinstance(ended.__cause__, VastbenchError):
            raise ended.__cause__ from None
        raise Interrupted(
            f"{notebook.name} was stopped.",
            hint=f"What was executed is kept: {executed}. Open leases, if any: vastbench doctor",
        ) from None
    return RunResult(executed, checked)


def find_notebook(path: str | Path) -> Path:
    """The notebook file that ``path`` names: a file, or the name of one that comes with vastbench. Raises NotFound."""
    given = Path(path)
    if given.is_file():
        return given
    ours = sorted(p for p in shared("notebooks").glob("*.ipynb") if p.stem == given.name or p.name == given.name)
    if not ours:
        names = ", ".join(sorted(p.stem for p in shared("notebooks").glob("*.ipynb")))
        raise NotFound(f"There is no notebook {str(path)!r}.", hint=f"Give a file, or one of ours: {names}")
    return ours[0]


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, object]:
    """``parameters`` with their values in the declared types. Raises UsageError for unknown names and unfit values."""
    import papermill

    try:
        known = papermill.inspect_notebook(str(notebook))
    except Exception as error:  # noqa: BLE001 (papermill lets json, nbformat and its own errors through)
        raise UsageError(f"{notebook.name} is not a readable notebook: {type(error).__name__}.", hint="Check it.") from None
    checked = {}
    for name, value in parameters.items():
        if name not in known:
            raise UsageError(
                f"{notebook.name} has no parameter {name!r}.", hint=f"Its parameters: {', '.join(known) or 'none'}."
            )
        declared = known[name]["inferred_type_name"]
        try:
            checked[name] = convert(value, declared)
        except ValueError:
            raise UsageError(f"The parameter {name} is {value!r}.", hint=f"It must be of type {declared}.") from None
    return checked


def convert(value: Any, declared: str) -> Any:
    """``value`` as the ``declared`` type; text is parsed. Raises ValueError when it does not fit."""
    optional = re.fullmatch(r"Optional\[(.*)\]", declared)
    if optional:
        return None if value in (None, "None", "null", "") else convert(value, optional[1])
    misfit = ValueError(f"{value!r} is not of type {declared}")
    if declared == "str":
        return str(value)
    if declared == "bool":
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise misfit
        return words[str(value).lower()]
    try:
        if declared == "int":
            return int(str(value))
        if declared == "float":
            number = float(value)
            if math.isfinite(number):
                return number
            raise misfit
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise misfit from None


def _plain_name(stem: str) -> str:
    """A file name made of harmless characters only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "notebook"
