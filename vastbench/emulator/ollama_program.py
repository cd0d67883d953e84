"""What a machine has of Ollama before its server runs: the program, and the page of the internet that installs it."""

import shutil
from pathlib import Path

from vastbench.emulator.spec import MachineSpec

VERSION = "0.12.6"
"""The version whose API the emulated server follows."""

PORT = 11434
"""Where it listens unless OLLAMA_HOST says otherwise."""

INSTALL_URL = "https://ollama.com/install.sh"

INSTALL_BYTES = 1_800_000_000
"""What that script loads, CUDA libraries included (an assumption). It is waited for and not moved."""

_PROGRAM = """\
#!/bin/sh
pipes={prefix}/run/ollama
case "${{1-}}" in
  serve | start) ;;
  -v | --version) echo "ollama version is {version}"; exit ;;
  *) echo "Error: of ollama only the command serve is emulated, and its HTTP API" >&2; exit 1 ;;
esac
if grep -q ollama "/proc/$(cat "$pipes/pid" 2>/dev/null)/cmdline" 2>/dev/null; then
  echo "Error: listen tcp ${{OLLAMA_HOST:-127.0.0.1:{port}}}: bind: address already in use" >&2
  exit 1
fi
echo $$ >"$pipes/pid"
exec 3>"$pipes/serve" # open for as long as this process lives: that is how its end is known
echo "${{OLLAMA_HOST:-127.0.0.1:{port}}} ${{OLLAMA_NUM_PARALLEL:-1}} ${{OLLAMA_MODELS:-$HOME/.ollama/models}}" >&3
read -r error <"$pipes/error"
echo "Error: $error" >&2
exit 1
"""

_INSTALLER = """\
#!/bin/sh
echo '>>> Downloading ollama-linux-amd64' >&2
sleep {wait_s:.3f}
cp {home}/ollama {bin}/ollama
echo '>>> Install complete.' >&2
"""

_FETCHER = """\
#!/bin/sh
for word; do
  [ "$word" != {url} ] || exec cat {home}/install.sh
done
exec {tool} "$@"
"""


def provide(root: Path, prefix: str, spec: MachineSpec, wait_s: float) -> None:
    """Put Ollama into the machine below ``root``: where its image has it, else where an installation gets it from.

    That is what the host's curl or wget, whichever it has, gets from :data:`INSTALL_URL` unless the image is bare; the
    installation then takes ``wait_s`` real seconds.
    """
    home, folder = f"{prefix}/opt/internet", f"{prefix}/opt/nvidia/bin"  # of PATH, the machine may write to this one
    program = _PROGRAM.format(prefix=prefix, version=VERSION, port=PORT)
    if spec.image.partition(":")[0].endswith("ollama/ollama"):
        _script(root / "opt/nvidia/bin/ollama", program)
        return
    found = next(((name, tool) for name in ("curl", "wget") if (tool := shutil.which(name, path="/usr/bin:/bin"))), None)
    if found is not None and not spec.bare:
        name, tool = found
        (root / "opt/internet").mkdir(parents=True)
        _script(root / "opt/internet/ollama", program)
        _script(root / "opt/internet/install.sh", _INSTALLER.format(home=home, bin=folder, wait_s=wait_s))
        _script(root / "opt/nvidia/bin" / name, _FETCHER.format(url=INSTALL_URL, home=home, tool=tool))


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
