"""Draws the README's picture: one emulated run on the time axis. Usage: python docs/picture.py FILE.png"""

import sys
import tempfile
from pathlib import Path

import vastbench

with tempfile.TemporaryDirectory() as folder, vastbench.Bench(seed=1, speed=5, store=Path(folder) / "runs.sqlite") as bench:
    run = bench.run()
vastbench.phase_waterfall(vastbench.phases_table([run])).figure.savefig(sys.argv[1], dpi=110)
