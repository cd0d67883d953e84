"""The files that an emulated machine finds on its own disk, and how its shells start."""

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vastbench.emulator import ollama_program
from vastbench.emulator.gpu import nvidia_smi
from vastbench.emulator.spec import MachineSpec

GUEST_PATH = "/opt/nvidia/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""``PATH`` inside: the rented GPU's tools come before whatever the host has of the same name."""

SHARED_TREES = (
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "etc/alternatives",
    "etc/ssl/certs",
    "etc/pki/ca-trust",
)
"""Host folders that a namespaced machine sees read-only: programs, libraries and public certificates, nothing else."""

_WELCOME = "echo 'Welcome to this image.'\nprintf 'GPU 0: NVIDIA Example (0 MiB)\\n\\n'\n"

_ESSENTIAL = """
awk basename bash cat chmod chown cmp cp cut date dd df diff dirname du echo env expr false find free grep gzip head
hostname id kill ln ls mkdir mktemp mv nproc od printf ps readlink rm rmdir sed seq setsid sh sha256sum sleep sort stat
sync tail tar tee test touch tr true uname uniq wc which xargs
"""
"""The programs of a bare image."""

_HTTP_TOOLS = ("curl", "python3", "wget")

_APT_GET = """\
#!/bin/sh
case " $* " in *" install "*) echo "$*" >>"$0.tries" ;; *) exit 0 ;; esac
[ "$(grep -c . "$0.tries")" -ge 3 ] || { echo "E: Unable to fetch some archives" >&2; exit 100; }
ln -s "{tool}" "${0%/*}/"
"""
# The mirror of a bare image: down twice, then it delivers the first HTTP tool that the host has.

_OWN_FOLDERS = (
    "dev",
    "home",
    "mnt",
    "opt/nvidia/bin",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "workspace",
    "etc/ssh",
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg",
    "var/log",
    "var/tmp",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a machine is built into.

    ``prefix``: what stands before its paths where it has no root of its own. ``ssh_port``: where its SSH server will listen.
    ``model_port``: the port that is kept for its Ollama where its network is the host's. ``speed``: emulated seconds per real
    one.
    """

    prefix: str = ""
    ssh_port: int = 22
    model_port: int | None = None
    speed: float = 1.0


def build(root: Path, spec: MachineSpec, owner: int | None, around: Surroundings) -> None:
    """Write the machine's first disk below ``root`` and hand it to the host user ``owner`` (None: leave it ours)."""
    for folder in _OWN_FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    (root / "root").chmod(0o700)
    for tree in SHARED_TREES:
        _mount_point(root, tree)
    _write_etc(root / "etc", spec)
    (root / "etc/ssh/sshd_config").write_text(f"Port {around.ssh_port}\n", encoding="utf-8")
    (root / "var/lib/dpkg/status").touch()
    _script(root / "opt/nvidia/bin/nvidia-smi", nvidia_smi(spec))
    if spec.onstart is not None:
        _script(root / "root/onstart.sh", spec.onstart)
    if spec.chatty:
        (root / "root/.bashrc").write_text(_WELCOME, encoding="utf-8")
    environment = [] if around.model_port is None else [f"OLLAMA_HOST=127.0.0.1:{around.model_port}\n"]
    if spec.bare:
        environment.append(f"PATH={bare_path(around.prefix)}\n")
        _bare_image(root / "opt/image/bin")
    (root / "etc/environment").write_text("".join(environment), encoding="utf-8")
    wait_s = ollama_program.INSTALL_BYTES * 8 / (spec.inet_down * 1e6) / around.speed
    ollama_program.provide(root, around.prefix, spec, wait_s)
    if owner is not None:
        for folder, folders, files in os.walk(root):
            for name in [".", *folders, *files]:
                os.chown(Path(folder) / name, owner, owner, follow_symlinks=False)


def bare_path(prefix: str) -> str:
    """``PATH`` inside a machine whose image is bare."""
    return f"{prefix}/opt/nvidia/bin:{prefix}/opt/image/bin"


def _bare_image(folder: Path) -> None:
    """Link the host's essential programs there, beside an apt-get whose mirror is down at first."""
    folder.mkdir(parents=True)
    searched = GUEST_PATH.partition(":")[2]
    for name in _ESSENTIAL.split():
        if found := shutil.which(name, path=searched):
            (folder / name).symlink_to(found)
    tool = next((found for name in _HTTP_TOOLS if (found := shutil.which(name, path=searched))), "")
    _script(folder / "apt-get", _APT_GET.replace("{tool}", tool))


def _mount_point(root: Path, tree: str) -> None:
    host = Path("/") / tree
    if host.is_symlink() and "/" not in tree:
        (root / tree).symlink_to(str(host.readlink()).lstrip("/"))
    elif host.is_dir():
        (root / tree).mkdir(parents=True, exist_ok=True)


def _write_etc(etc: Path, spec: MachineSpec) -> None:
    own = {
        "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
        "hostname": f"{spec.hostname}\n",
        "hosts": f"127.0.0.1 localhost {spec.hostname}\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    for name, text in own.items():
        (etc / name).write_text(text, encoding="utf-8")
    for name in ("ld.so.cache", "ld.so.conf", "resolv.conf", "localtime"):
        host = Path("/etc") / name
        if host.is_file() and os.access(host, os.R_OK):
            shutil.copyfile(host, etc / name)


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


_LOGIN = r"""
ROOT=$1 COMMAND=$2
shift 2
export HOME="$ROOT/root" USER=root LOGNAME=root SHELL=/bin/sh PATH="$GUEST_PATH"
[ -x /bin/bash ] && SHELL=/bin/bash
unset GUEST_PATH OLDPWD
[ -z "$ROOT" ] || export WORKSPACE="$ROOT/workspace"
if [ -r "$ROOT/etc/environment" ]; then
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line#export }
    name=${line%%=*} value=${line#*=}
    case $line in *=*) ;; *) continue ;; esac
    case $name in '' | [0-9]* | *[!A-Za-z0-9_]*) continue ;; esac
    case $value in
      \"*\") value=${value#\"} value=${value%\"} ;;
      \'*\') value=${value#\'} value=${value%\'} ;;
    esac
    export "$name=$value"
  done <"$ROOT/etc/environment"
fi
for pair in "$@"; do export "$pair"; done
cd "$HOME" || cd /
[ -z "$COMMAND" ] || [ ! -r .bashrc ] || . ./.bashrc
[ -z "$COMMAND" ] || exec "$SHELL" -c "$COMMAND"
case $SHELL in */bash) exec "$SHELL" -l -i ;; esac
exec "$SHELL" -i
"""

_ONSTART = r"""
ROOT=$1
eval "$(cat)"
unset OLDPWD GUEST_PATH
exec </dev/null
cd "$HOME" || cd /
[ -x /bin/bash ] && exec /bin/bash "$ROOT/root/onstart.sh"
exec /bin/sh "$ROOT/root/onstart.sh"
"""


def session_argv(root: str, command: str | None, variables: Mapping[str, str]) -> list[str]:
    """How an SSH session starts inside: ``command``, or an interactive login shell when it is None.

    ``root`` is what stands before the machine's paths ("" where the machine has its own root). The environment is a login's:
    what ``/etc/environment`` holds, then ``variables``. The guest reads that file itself: nothing of it ever reaches a process
    on the host, where a variable such as ``LD_PRELOAD`` would run the guest's code.
    """
    path = GUEST_PATH.replace("/opt/", f"{root}/opt/", 1)
    script = f"GUEST_PATH={shlex.quote(path)}\n{_LOGIN}"
    return ["/bin/sh", "-c", script, "login", root, command or "", *(f"{key}={value}" for key, value in variables.items())]


def onstart_argv(root: str) -> list[str]:
    """How the onstart script starts inside; its environment comes on standard input, as written by :func:`exports`."""
    return ["/bin/sh", "-c", _ONSTART, "onstart", root]


def exports(root: str, variables: Mapping[str, str]) -> bytes:
    """The container's environment as shell text: a pipe keeps its secrets out of every process list.

    Names that no shell accepts are left out.
    """
    path = GUEST_PATH.replace("/opt/", f"{root}/opt/", 1)
    login = {"HOME": f"{root}/root", "USER": "root", "PATH": path, "SHELL": "/bin/bash"}
    if root:
        login["WORKSPACE"] = f"{root}/workspace"
    everything = login | dict(variables)
    lines = (f"export {k}={shlex.quote(v)}\n" for k, v in everything.items() if re.fullmatch(r"[A-Za-z_]\w*", k, re.ASCII))
    return "".join(lines).encode()
