"""One run alone on its account, and beside 300 instances of others: what it knows when, and what it asks.

    .venv/bin/python benchmarks/account.py            # four runs each, about a minute
    .venv/bin/python benchmarks/account.py --quick    # one each

The exit status is 1 when a limit is missed.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
from pathlib import Path

import httpx
from figures import Row, show

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.profiles import certain  # noqa: E402
from vastbench.bench.bench import Bench  # noqa: E402
from vastbench.emulator import Emulator  # noqa: E402
from vastbench.record.conditions import Conditions  # noqa: E402
from vastbench.record.phases import PhaseName  # noqa: E402

OTHERS, SPEED = 300, 10.0
MOST = 1.5
"""How many times as long, and as many requests, it may take beside others; with every page read, it is eight times as long."""


def crowd(vast: Emulator) -> None:
    """Put the instances of others on the account: copies of one whose bid lost, as the market has too few offers for all."""
    headers = {"Authorization": f"Bearer {vast.api_key}"}
    with httpx.Client(base_url=vast.url, headers=headers, timeout=30) as http:
        offers = http.put("/api/v0/search/asks/", json={"q": {"type": "bid"}}).json()["offers"]
        order = {"image": "ubuntu:22.04", "disk": 10.0, "price": 0.001, "label": "theirs"}
        contract = http.put(f"/api/v0/asks/{offers[0]['id']}/", json=order).json()["new_contract"]
    market = vast._engine._market  # type: ignore[union-attr]
    for number in range(1, OTHERS):
        other = copy.copy(market.contracts[contract])
        other.id = number
        market.contracts[number] = other
        market._fates[number] = market._fates[contract]


def measure(runs: int, *, others: bool) -> list[tuple[float, float, float]]:
    """Of each run: how late it knew that its instance ran, how long it took to confirm the end, and its requests."""
    figures = []
    with tempfile.TemporaryDirectory() as folder, Emulator(certain(Path(folder)), seed=1, speed=SPEED) as vast:
        if others:
            crowd(vast)
        os.environ |= {"VAST_URL": vast.url, "VAST_API_KEY": vast.api_key, "VASTBENCH_SPEED": str(SPEED)}
        for _ in range(runs):
            with Bench(live=True, budget_usd=50, store=Path(folder) / "runs.sqlite") as bench:
                run = bench.run(Conditions())
                requests = bench.api.usage.requests
            mine = [event for event in vast.events if event["instance"] == run.resources["instance_id"]]
            (ran,) = [event["s"] for event in mine if event.get("status") == "running"]
            known, gone = run.phase(PhaseName.WAIT_RUNNING), run.phase(PhaseName.CONFIRM)
            assert known is not None
            assert gone is not None
            figures.append((run.origin + known.end.upper - ran, gone.seconds or 0.0, float(requests)))
    return figures


def main() -> None:
    """Print what both took, and exit with 1 when others made it longer than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    runs = 1 if parser.parse_args().quick else 4
    alone, beside = ([list(one) for one in zip(*measure(runs, others=others), strict=True)] for others in (False, True))
    rows = []
    for what, unit, a, b in zip(
        ("running known late", "confirm destroyed", "requests"), ("s", "s", ""), alone, beside, strict=True
    ):
        rows += [Row(f"{what}, alone", unit, a), Row(f"{what}, beside {OTHERS} others", unit, b)]
    ratios = [statistics.median(b) / statistics.median(a) for a, b in zip(alone[1:], beside[1:], strict=True)]
    rows += [
        Row("confirm destroyed: beside ÷ alone", "×", ratios[:1], MOST),
        Row("requests: beside ÷ alone", "×", ratios[1:], MOST),
    ]
    missed = show("An account with instances of others", rows, os.cpu_count() or 1)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
