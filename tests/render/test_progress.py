"""Progress in words: what a terminal, a log and a notebook show of a study."""

import io
import itertools
import math
import os
import pty
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from vastbench.bundled import shared
from vastbench.io.files import read_run
from vastbench.record.phases import Outcome, PhaseName
from vastbench.record.study import StudyProgress, WorkerStatus
from vastbench.render.progress import counts, plain_study, study_lines

HERE = Path(__file__).parents[2]
RUN = read_run(shared("data/runs") / "2026-01-02-rtx4090.json")


def progress(**changes):
    plain = StudyProgress("s", 12, 3, 2, 0.0123, None, 20.0, (None, None))
    return replace(plain, **changes)


def test_the_counts_say_how_far_a_study_is_and_what_it_cost():
    assert counts(progress()) == "s: 3 of 12 runs made · 2 passed · 1 failed · $0.0123 spent"


@pytest.mark.parametrize(("left_s", "words"), [(45, "about 45 s left"), (600, "about 10 min left"), (7200, "about 2.0 h left")])
def test_the_time_left_has_the_unit_that_suits_it(left_s, words):
    assert counts(progress(left_s=left_s)).endswith(words)


def test_a_study_that_ends_by_itself_says_how_near_it_is():
    near = counts(progress(left_s=45, widths=(0.384, 0.15)))
    assert near.endswith("· interval 38.4 % wide, ends at 15 % · at most about 45 s left")
    assert "interval – wide, ends at 15 %" in counts(progress(widths=(math.inf, 0.15)))


def test_a_complete_study_has_no_time_left():
    assert "left" not in counts(progress(made=12, left_s=0.0))


def test_a_log_has_one_line_for_each_run_that_ended():
    stream = io.StringIO()
    listen = plain_study(stream)
    for news in (progress(), progress(ended=RUN), progress(ended=replace(RUN, outcome=Outcome.FAILED, cause="boot_failed"))):
        listen(news)
    passed, failed = stream.getvalue().splitlines()
    assert passed.startswith(f"{RUN.id}  passed, 98.98 s · s: 3 of 12")
    assert "failed (boot_failed)" in failed


def test_a_terminal_has_one_line_for_each_worker_with_clock_seconds():
    since = (time.monotonic() - 2) * 20.0
    header, busy, idle = study_lines(progress(workers=(WorkerStatus(4, PhaseName.WAIT_SSH, since), None)))
    assert "3 of 12" in header
    assert busy.split()[:4] == ["run", "4", "wait", "SSH"]
    assert float(busy.split()[-2]) >= 40
    assert idle.strip() == "idle"


TERMINAL = """
from tests.render.test_progress import WorkerStatus, PhaseName, progress
from vastbench.render.progress import study_for_stderr

with study_for_stderr() as listen:
    listen(progress())
    listen(progress(made=4, passed=3, workers=(WorkerStatus(4, PhaseName.WAIT_SSH, 0.0), None)))
"""


def test_on_a_terminal_only_the_last_counts_stay():
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL], stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}, cwd=HERE
    ) as done:
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 4096):
                said += chunk
        except OSError:
            pass  # the other side has closed
    os.close(ours)
    assert done.returncode == 0, said
    assert "run 4 " in said.decode()
    assert said.decode().splitlines()[-1].endswith("\x1b[2Ks: 4 of 12 runs made · 3 passed · 1 failed · $0.0123 spent")


def test_a_notebook_keeps_one_line(monkeypatch):
    from IPython import display as shown

    from vastbench.render.progress import notebook_study

    texts = []

    class Handle:
        def update(self, data, raw):
            texts[-1] = data["text/plain"]

    def display(data, raw, display_id):
        texts.append(data["text/plain"])
        return Handle()

    monkeypatch.setattr(shown, "display", display)
    listen = notebook_study()
    listen(progress())
    listen(progress(made=4))
    assert texts == [counts(progress(made=4))]


def test_a_notebooks_line_has_a_clock_while_a_phase_goes_on(monkeypatch):
    from IPython import display as shown

    from vastbench.render import progress as drawing

    texts, ticked = [], threading.Event()

    class Handle:
        def update(self, data, raw):
            texts.append(data["text/plain"])
            if texts[-1].endswith(" … 0:07"):
                ticked.set()

    monkeypatch.setattr(shown, "display", lambda *_, **__: Handle())
    monkeypatch.setattr(drawing, "TICK_S", 0.001)
    seconds = itertools.chain([0.0], itertools.repeat(7.9))
    monkeypatch.setattr(drawing, "time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=time.sleep))
    listen = drawing.notebook("run 2 of 3: ")
    listen(PhaseName.WAIT_RUNNING, None)
    assert ticked.wait(60)
    listen(PhaseName.WAIT_RUNNING, RUN.phase(PhaseName.WAIT_RUNNING))
    ended = len(texts)
    (clock,) = [thread for thread in threading.enumerate() if thread.name == "progress"] or [None]
    if clock:
        clock.join(60)
    assert texts[0] == "run 2 of 3: wait running …"
    assert texts[-1].startswith("run 2 of 3: wait running  ")
    assert len(texts) == ended  # nothing ticks after the end
