"""The fault matrix: every fault of the emulator alone, and random pairs, each through a whole run of the real client.

    .venv/bin/python benchmarks/faults.py            # 20 seeds each and 300 pairs, a quarter of an hour; writes docs/faults.md
    .venv/bin/python benchmarks/faults.py --quick    # one seed each and ten pairs, under a minute; writes nothing

The exit status is 1 when anything leaked, hung, stayed unclassified, ended in a way that its faults do not explain, or was not
made in time.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from figures import Row, show

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.matrix import CONDITIONS, LONGEST_S, SPEED, Case, Result, make_all, random_pairs, wrong  # noqa: E402
from vastbench.emulator.faults import FAULTS  # noqa: E402

PAGE = ROOT / "docs/faults.md"
CHUNK = 24
"""Cases that a process takes at a time."""


def work(cases: list[Case], threads: int) -> tuple[list[Result], list[str]]:
    """The results of some cases, and the exceptions that ended a thread of this process meanwhile."""
    died: list[str] = []
    threading.excepthook = lambda args: died.append(f"{args.exc_type.__name__}: {args.exc_value}")
    return make_all(cases, threads), died


def made(cases: list[Case], processes: int, threads: int, limit_s: float) -> Iterator[tuple[list[Result], list[str]]]:
    """Chunk by chunk; what has not begun when the time is up is not made."""
    random.Random(0).shuffle(cases)  # so that every chunk has its share of the slow ones
    chunks = [cases[at : at + CHUNK] for at in range(0, len(cases), CHUNK)]
    ends = time.monotonic() + limit_s
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(work, chunk, threads) for chunk in chunks]
        for done, future in enumerate(as_completed(futures), 1):
            yield future.result()
            print(f"{done} of {len(chunks)} chunks", file=sys.stderr)
            if time.monotonic() > ends:
                pool.shutdown(wait=True, cancel_futures=True)
                return


def counted(words: list[str]) -> str:
    """``passed (18), api (2)``: the most frequent first."""
    return ", ".join(f"{word} ({count})" for word, count in Counter(words).most_common())


HEAD = """# The fault matrix

Written by `{command}`; do not edit. Every fault alone and {pairs} random pairs, each in a whole run of
vastbench's own parts (client, watch, lease, SSH, scenario) against an emulator of its own at speed {speed:g}, with deadlines of
{boot:g} s for the boot and {ssh:g} s for SSH, and {attempts} attempts. Afterwards what is still open is reaped, and the
emulator itself is asked what lives.

Try one: `vastbench emulator --fault NAME` or `--fault NAME=probability`, any number of times.

| | |
|---|---|
{totals}

A run is late when it outlasts {longest:g} s: its lease's lifetime, and the time that closing it may take.

| fault | what happens | p | the run ends with | attempts |
|---|---|---|---|---|
{rows}

Ends are outcomes and causes as `vastbench runs` shows them, with how often each came. Attempts are creates sent, with how many
runs sent so many (0: the run ended before).

The pairs ended with: {pair_ends}.

Right after the runs, before reaping, {alive} instances were alive.
"""


def page(results: list[Result], command: str, totals: list[Row]) -> str:
    """The page that ``docs/faults.md`` holds."""
    pairs = [one for one in results if len(one.faults) == 2]
    rows = []
    for name, fault in FAULTS.items():
        runs = [one for one in results if one.faults == (name,)]
        ends, tries = counted([one.ended for one in runs]), counted([str(one.attempts) for one in runs])
        rows.append(f"| `{name}` | {fault.about} | {fault.usual:g} per {fault.each} | {ends} | {tries} |")
    return HEAD.format(
        command=command,
        pairs=len(pairs),
        speed=SPEED,
        boot=CONDITIONS.boot_deadline_s,
        ssh=CONDITIONS.ssh_deadline_s,
        attempts=CONDITIONS.attempts,
        totals="\n".join(f"| {row.what} | {row.figures[0]:g} |" for row in totals),
        longest=LONGEST_S,
        rows="\n".join(rows),
        pair_ends=counted([one.ended for one in pairs]),
        alive=sum(one.alive for one in results),
    )


def main() -> None:
    """Make the matrix, print what went wrong and the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each fault alone")
    parser.add_argument("--pairs", type=int, default=300, help="runs under two faults")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=6, help="runs at once in each process")
    parser.add_argument("--limit", type=float, default=1500, help="seconds after which nothing more is begun")
    parser.add_argument("--quick", action="store_true", help="one seed, ten pairs, no page")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.seeds, chosen.pairs = 1, 10
    cases = [({name: FAULTS[name].usual}, seed) for name in FAULTS for seed in range(chosen.seeds)]
    cases += random_pairs(chosen.pairs, seed=0)
    began = time.monotonic()
    results: list[Result] = []
    died: list[str] = []
    for some, dead in made(list(cases), chosen.processes, chosen.threads, chosen.limit):
        results += some
        died += dead
    took = time.monotonic() - began
    complaints = [text for one in results for text in wrong(one)]
    for text in [*complaints, *(f"a thread died: {text}" for text in died)]:
        print(text)
    totals = [
        Row("runs", "runs", [len(results)]),
        Row("runs not made in time", "runs", [len(cases) - len(results)], 0),
        Row("instances or leases left after reaping", "leaks", [sum(len(one.leaked) for one in results)], 0),
        Row("runs that hung or were late", "runs", [sum(one.late for one in results)], 0),
        Row("unclassified errors", "errors", [sum(bool(one.unclassified) for one in results) + len(died)], 0),
        Row("canaries found", "places", [sum(len(one.canaries) for one in results)], 0),
        Row("ends or attempts that the faults do not explain", "runs", [len({text.split(": ")[0] for text in complaints})], 0),
    ]
    missed = show(f"{chosen.seeds} seeds, {chosen.pairs} pairs, {took:.0f} s", totals, chosen.processes)
    for name in FAULTS:
        runs = [one for one in results if one.faults == (name,)]
        print(f"{name:<22} {counted([one.ended for one in runs])}; attempts: {counted([str(one.attempts) for one in runs])}")
    print(f"{'pairs':<22} {counted([one.ended for one in results if len(one.faults) == 2])}")
    if not chosen.quick:
        command = f"benchmarks/faults.py --seeds {chosen.seeds} --pairs {chosen.pairs}"
        PAGE.write_text(page(results, command, totals), "utf-8")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
