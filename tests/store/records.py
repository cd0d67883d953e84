"""What the tests put into a store."""

from dataclasses import replace

from vastbench.bundled import shared
from vastbench.record.lease import LeaseRow

SEED = shared("data/runs") / "2026-01-02-rtx4090.json"


def lease(label="vb-1", **changes):
    plain = LeaseRow(label, "run-1", 1, "http://127.0.0.1", 7001, 0.2, "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00")
    return replace(plain, **changes)
