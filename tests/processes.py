"""Real processes for tests: an emulator started by hand, and commands that talk to it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
VASTBENCH = str(BIN / "vastbench")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything of vastbench's or Vast's, at home in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "XDG_"))}
    kept["PATH"] = f"{BIN}{os.pathsep}{kept['PATH']}"
    return kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")} | more


@contextmanager
def emulator_process(home: Path, *options: str) -> Iterator[dict[str, str]]:
    """``vastbench emulator`` as a newcomer starts it; gives the environment that its export lines make."""
    environment = clean_environment(home)
    command = [VASTBENCH, "emulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            exports = {}
            while not {"VAST_URL", "VAST_API_KEY"} <= exports.keys() or (
                "--speed" in options and "VASTBENCH_SPEED" not in exports
            ):
                line = process.stdout.readline()
                assert line, f"the emulator ended with {process.wait(10)}"
                if found := re.fullmatch(r"export (\w+)=['\"]?([^'\"\n]*)['\"]?\n", line):
                    exports[found[1]] = found[2]
            yield environment | exports
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
