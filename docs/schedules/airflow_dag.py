"""A study a night and its report, on the emulator, free of charge, as a DAG for Airflow 3.

Copy it into the DAGs folder of a worker that has a checkout of vastbench with its .venv in ``~/vastbench``.
"""

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

CHECKOUT = Path.home() / "vastbench"
# Times are UTC. A run made by hand on the same day goes on with the same study.
NAME = "nightly-{{ dag_run.run_after.strftime('%Y-%m-%d') }}"
STUDY = f"vastbench study --name {NAME} --repeats 12 --workers 4 --store out/runs.sqlite"
# Live, spending money; the key is read from ~/.config/vastai/vast_api_key, a file of mode 0600:
# STUDY += " --live --yes --budget 2"
REPORT = f"vastbench report --store out/runs.sqlite --study {NAME} --out out/report"

GO_ON = {0, 10, 11, 17}
"""After these a report has something to say; it ends with the same code."""
LOOK_FIRST = {2, 3, 8, 9, 10, 17}
"""After these another try helps nobody; after all others it goes on where the study stopped."""


class Vastbench(BaseOperator):
    """Runs vastbench commands one after the other, and turns their exit code into success, another try or failure."""

    template_fields = ("commands",)

    def __init__(self, *, commands, **kwargs):
        """Take the command lines."""
        super().__init__(**kwargs)
        self.commands = commands
        self.hook = None

    def execute(self, context):  # noqa: ARG002 (Airflow's signature)
        """Run the commands; raises AirflowFailException where another try would not help."""
        self.hook = SubprocessHook()
        for command in self.commands:
            program, *words = shlex.split(command)
            code = self.hook.run_command([str(CHECKOUT / ".venv/bin" / program), *words], cwd=str(CHECKOUT)).exit_code
            if code not in GO_ON:
                break
        if code in LOOK_FIRST:
            raise AirflowFailException(f"{command} ended with exit code {code}: look before it is tried again.")
        if code:
            raise RuntimeError(f"{command} ended with exit code {code}: it goes on at the next try.")

    def on_kill(self):
        """Ask vastbench to stop; it then destroys its instances, also when the worker does not wait for it."""
        if self.hook:
            self.hook.send_sigterm()


with DAG(
    dag_id="vastbench_nightly_study",
    schedule="17 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["vastbench"],
):
    Vastbench(
        task_id="study_and_report",
        commands=[STUDY, REPORT],
        retries=2,
        retry_delay=timedelta(minutes=15),
        execution_timeout=timedelta(hours=2),
    )
