"""The referee over whole commands: schedules of acts between client and marketplace, lags and signals, drawn by hypothesis.

    .venv/bin/python benchmarks/referee.py                      # 2,000 schedules, an hour on two cores
    .venv/bin/python benchmarks/referee.py --schedules 100      # three minutes
    .venv/bin/python benchmarks/referee.py --planted            # in how many schedules each planted fault is found

The exit status is 1 when a promise was broken, or when a planted fault was not found within 500 schedules.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.hostile.planted import PLANTED  # noqa: E402
from tests.hostile.referee import Schedule, refereed, schedules  # noqa: E402
from tests.processes import hear_interrupts  # noqa: E402
from tests.profiles import certain  # noqa: E402

WITHIN = 500
"""Schedules within which a planted fault has to be found."""


class Found(Exception):
    """A promise was broken."""


def play(number: int, first: int, planted: str) -> tuple[int, list[str], Counter[str]]:
    """How many schedules were played, what was broken, and how commands ended; a planted fault ends it when it is found."""
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="vastbench-referee-") as place:
        folder = Path(place)
        with refereed(certain(folder), folder, PLANTED.get(planted)) as referee:

            @seed(first)
            @settings(
                max_examples=number,
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(schedules)
            def keep(schedule: Schedule) -> None:
                found = [f"{schedule}: {what}" for what in referee.play(schedule)]
                broken.extend(found)
                for what in found:
                    print(what, file=sys.stderr)
                if found and planted:
                    raise Found

            try:
                keep()
            except Found:
                return referee.played - 1, broken, referee.ended  # the last is played twice
            return referee.played, broken, referee.ended


def main() -> int:
    """Play, print, and say whether all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=2_000)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--planted", action="store_true")
    asked = parser.parse_args()
    hear_interrupts()
    began = time.monotonic()
    with ProcessPoolExecutor(asked.lanes, mp_context=get_context("spawn")) as pool:
        if asked.planted:
            missed = 0
            results = pool.map(play, [WITHIN] * len(PLANTED), [asked.seed] * len(PLANTED), PLANTED)
            for name, (played, broken, _) in zip(PLANTED, results, strict=True):
                print(
                    f"{name}: " + (f"found in schedule {played}" if broken else f"not found in {played} schedules"), flush=True
                )
                missed += not broken
            return int(missed > 0)
        lanes = [(asked.schedules // asked.lanes, asked.seed + lane, "") for lane in range(asked.lanes)]
        results = list(pool.map(play, *zip(*lanes, strict=True)))
    broken = [what for _, some, _ in results for what in some]
    ended = sum((ends for _, _, ends in results), Counter[str]())
    print(f"{sum(played for played, _, _ in results)} schedules in {time.monotonic() - began:.0f} s: {len(broken)} violations")
    print("commands by exit status: " + ", ".join(f"{name} ({count})" for name, count in ended.most_common()))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
