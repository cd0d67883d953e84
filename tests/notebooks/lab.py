"""A real JupyterLab in a headless Chromium, driven by the DevTools protocol: it waits for states, never for times."""

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "tests"
LONGEST_S = 600.0
"""Nothing that is waited for takes so long, however busy the machine is."""

SETTINGS = {
    # Only cells in the window would have their outputs in the page.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}


class Browser:
    """One page of a Chromium of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "chromium").mkdir()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1600", "--remote-debugging-port=0"]
        words = [str(CHROMIUM), *flags, f"--user-data-dir={folder / 'chromium'}", "about:blank"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ports = folder / "chromium/DevToolsActivePort"
        port = until(lambda: ports.is_file() and ports.read_text().split() and ports.read_text().split()[0], "Chromium listens")
        pages = until(lambda: json.load(urlopen(f"http://127.0.0.1:{port}/json/list")), "Chromium has a page")
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self._socket = websocket.create_connection(address, timeout=LONGEST_S, suppress_origin=True)
        self._numbers = itertools.count(1)
        # Or JupyterLab takes no notebook for the one that is looked at.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of one command of the DevTools protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv())).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, a promise awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def close(self) -> None:
        """End the Chromium."""
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._socket.close()
        ended(self._process)


@contextlib.contextmanager
def lab(root: Path, folder: Path) -> Iterator[str]:
    """The address of a JupyterLab over the notebooks in ``root``; what it keeps lies in ``folder``."""
    for name, settings in SETTINGS.items():
        path = folder / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    environment = os.environ | {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment |= {f"JUPYTERLAB_{kind.upper()}_DIR": str(folder / kind) for kind in ("settings", "workspaces")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "VASTBENCH_STORE": str(folder / "runs.sqlite")}
    words = ["lab", "--no-browser", "--allow-root", "--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}"]
    words += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={root}"]
    said = folder / "lab.log"
    with said.open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyter", *words], env=environment, stdout=log, stderr=log, cwd=root)
        try:
            yield until(lambda: re.search(r"http://127\.0\.0\.1:\d+/lab", said.read_text()), "JupyterLab listens")[0]
        finally:
            ended(process)


def until(look: Callable[[], Any], what: str) -> Any:
    """What ``look`` finds, as soon as it finds anything; a connection that is refused meanwhile counts as nothing."""
    last = time.monotonic() + LONGEST_S
    while time.monotonic() < last:
        with contextlib.suppress(OSError):
            if found := look():
                return found
        time.sleep(0.1)
    raise AssertionError(f"Waited in vain: {what}.")


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, and wait for it."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
