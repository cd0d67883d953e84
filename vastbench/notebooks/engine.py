"""A papermill engine that lets a notebook clean up, and tells the truth about it afterwards.

``papermill --engine vastbench``: SIGTERM, SIGINT and SIGHUP interrupt the running cell instead of orphaning its kernel; the
kernel gets the time that destroying and confirming an instance needs, and a second signal does not cut it short; the saved
metadata say which cell was stopped, and papermill ends with exit code 130; when the kernel dies, with 8 where it left leases
open and with 9 otherwise. The kernel is given the API key only where the notebook rents live. Registered as an entry point of
the group ``papermill.engine``.
"""

import logging
import re
import tempfile
from typing import Any

import zmq
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, NotebookExecutionManager

from vastbench.errors import Interrupted, LeaseNotClosed, NotebookFailed, VastbenchError, interruption_in
from vastbench.interrupts import STOPPING, raising
from vastbench.record.lease import CONFIRM_DEADLINE_S
from vastbench.settings import default_store, environment_for_child

log = logging.getLogger(__name__)

SHUTDOWN_WAIT_S = 2 * (CONFIRM_DEADLINE_S + 60)
"""Real seconds that a stopped kernel may take to unwind. jupyter_client sends SIGTERM after half of it, SIGKILL at its end."""

QUIET = (
    "--IPKernelApp.log_level=CRITICAL",
    "--IPKernelApp.logging_config={'loggers': {'tornado': {'level': 'CRITICAL'}}}",
)
"""A kernel that ends while a message comes in says so, with a traceback, to whoever runs the notebook."""


class VastbenchEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, made safe for notebooks that rent machines."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **kwargs: Any) -> Any:
        """Run the notebook; on any way out but success, mark the cell that was stopped and leave the later ones pending.

        Raises SystemExit with code 130 when a signal stopped it, and with that of the error behind it when the kernel died:
        papermill's command makes exit code 1 of anything else.
        """
        managers: list[AsyncKernelManager] = []
        environment = environment_for_child(key=_rents_live(nb_man.nb), store=True)

        class Manager(AsyncKernelManager):
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more, **_sockets(place))
                managers.append(self)
                if kwargs.get("execution_timeout"):
                    be_patient()

            async def start_kernel(self, **more: Any) -> None:  # type: ignore[override]
                await super().start_kernel(**more, env=environment)

        def be_patient() -> None:
            # Only for a cell that is stopped: an idle kernel that misses the request to end would be waited for as long.
            for manager in managers:
                manager.shutdown_wait_time = SHUTDOWN_WAIT_S

        kwargs.setdefault("kernel_manager_class", Manager)
        kwargs.setdefault("extra_arguments", list(QUIET))
        kwargs.setdefault("interrupt_on_timeout", True)
        try:
            with (
                tempfile.TemporaryDirectory(prefix="vastbench-kernel-", ignore_cleanup_errors=True) as place,
                raising(KeyboardInterrupt(), *STOPPING, first=be_patient),
            ):
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
        except BaseException as error:
            cell = _mark_stopped(nb_man)
            if isinstance(error, DeadKernelError) or (isinstance(error, RuntimeError) and not cell):
                died = _died(nb_man, cell) if cell else _never_began(nb_man, error)
                log.error("%s %s", died.message, died.hint)
                raise SystemExit(died.exit_code) from died
            if interruption_in(error) is None:
                raise
            kept = f"What was executed is kept: {nb_man.output_path}. " if nb_man.output_path else ""
            log.info("The notebook was stopped by a signal. %sOpen leases, if any: vastbench doctor", kept)
            raise SystemExit(Interrupted.exit_code) from error


def _sockets(place: str) -> dict[str, str]:
    """How the kernel is spoken to: through files in the folder ``place``, where their names are not too long for that.

    A port that is free when it is chosen may be taken by the time that the kernel listens on it, and then there is no kernel.
    """
    stem = f"{place}/kernel"
    return {"transport": "ipc", "ip": stem} if len(f"{stem}-0") <= zmq.IPC_PATH_MAX_LEN else {}


def _rents_live(notebook: Any) -> bool:
    """Whether the parameter ``live`` is True, as the notebook declares it or as it was set."""
    told = {"parameters", "injected-parameters"}
    cells = [cell.source for cell in notebook.cells if told & {*cell.metadata.get("tags", ())}]
    return re.findall(r"^live\b[^=#\n]*=\s*(\w+)", "\n".join(cells), re.MULTILINE)[-1:] == ["True"]


def _died(nb_man: NotebookExecutionManager, cell: int) -> VastbenchError:
    """What to say of a kernel that died in that cell: which leases it left open, and what to do about them."""
    from vastbench.rental.reap import left_open  # half a second that papermill would take for every notebook

    told = nb_man.nb.metadata.papermill
    what = f"The kernel of {told.get('input_path') or 'the notebook'} died in cell {cell}"
    kept = f"What was executed is kept: {nb_man.output_path}. " if nb_man.output_path else ""
    store = told.get("parameters", {}).get("store")
    if not (left := left_open(store or default_store())):
        return NotebookFailed(f"{what}.", hint=f"{kept}Its memory may have run out.")
    named = f" --store {store}" if store else ""
    return LeaseNotClosed(
        f"{what} and left {', '.join(left)}, which may still exist and bill.",
        hint=f"{kept}Close what it left: vastbench reap --live{named}",
    )


def _never_began(nb_man: NotebookExecutionManager, error: RuntimeError) -> VastbenchError:
    path = nb_man.nb.metadata.papermill.get("input_path") or "the notebook"
    hint = "Run it again; if that does not help: python -m ipykernel_launcher --version"
    return NotebookFailed(f"The kernel of {path} did not start: {str(error).rstrip('.')}.", hint=hint)


def _mark_stopped(nb_man: NotebookExecutionManager) -> int:
    """Mark the cell that was stopped, counted from 1; 0 when none had begun."""
    begun = [number for number, cell in enumerate(nb_man.nb.cells, 1) if cell.metadata.papermill.get("start_time")]
    if not begun:
        nb_man.nb.metadata.papermill["exception"] = True
        return 0
    nb_man.cell_exception(nb_man.nb.cells[begun[-1] - 1])
    return begun[-1]
