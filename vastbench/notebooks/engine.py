"""A papermill engine that lets a notebook clean up, and tells the truth about it afterwards.

``papermill --engine vastbench``: SIGTERM, SIGINT and SIGHUP interrupt the running cell instead of orphaning its kernel; the
kernel gets the time that destroying and confirming an instance needs, and a second signal does not cut it short; the saved
metadata say which cell was stopped, and papermill ends with exit code 130. The kernel is given the API key only where the
notebook rents live. Registered as an entry point of the group
``papermill.engine``.
"""

import logging
import re
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from papermill.engines import NBClientEngine, NotebookExecutionManager

from vastbench.errors import Interrupted
from vastbench.interrupts import STOPPING, interruption_in, raising
from vastbench.rental.lease import CONFIRM_DEADLINE_S
from vastbench.settings import environment_for_child

log = logging.getLogger(__name__)

SHUTDOWN_WAIT_S = 2 * (CONFIRM_DEADLINE_S + 60)
"""Real seconds that a stopped kernel may take to unwind. jupyter_client sends SIGTERM after half of it, SIGKILL at its end."""


class VastbenchEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, made safe for notebooks that rent machines."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **kwargs: Any) -> Any:
        """Run the notebook; on any way out but success, mark the cell that was stopped and leave the later ones pending.

        Raises SystemExit with code 130 when a signal stopped it: papermill's command makes exit code 1 of a KeyboardInterrupt.
        """
        managers: list[AsyncKernelManager] = []
        environment = environment_for_child(key=_rents_live(nb_man.nb), store=True)

        class Manager(AsyncKernelManager):
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
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
        kwargs.setdefault("extra_arguments", ["--IPKernelApp.log_level=CRITICAL"])
        kwargs.setdefault("interrupt_on_timeout", True)
        try:
            with raising(KeyboardInterrupt(), *STOPPING, first=be_patient):
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
        except BaseException as error:
            _mark_stopped(nb_man)
            if interruption_in(error) is None:
                raise
            kept = f"What was executed is kept: {nb_man.output_path}. " if nb_man.output_path else ""
            log.info("The notebook was stopped by a signal. %sOpen leases, if any: vastbench doctor", kept)
            raise SystemExit(Interrupted.exit_code) from error


def _rents_live(notebook: Any) -> bool:
    """Whether the parameter ``live`` is True, as the notebook declares it or as it was set."""
    told = {"parameters", "injected-parameters"}
    cells = [cell.source for cell in notebook.cells if told & {*cell.metadata.get("tags", ())}]
    return re.findall(r"^live\b[^=#\n]*=\s*(\w+)", "\n".join(cells), re.MULTILINE)[-1:] == ["True"]


def _mark_stopped(nb_man: NotebookExecutionManager) -> None:
    begun = [cell for cell in nb_man.nb.cells if cell.metadata.papermill.get("start_time")]
    if begun:
        nb_man.cell_exception(begun[-1])
    else:
        nb_man.nb.metadata.papermill["exception"] = True
