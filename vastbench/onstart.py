"""What runs inside the instance by itself: the start script with its dead-man's switch, and the timeline that it keeps.

The timeline is a second instrument beside our polls: what the instance's own clock (``/proc/uptime``) showed when its container
started, its start script began, its SSH server listened and our key was installed. :mod:`vastbench.guest` reads it.
"""

from __future__ import annotations

import math
import shlex

FOLDER = ".vastbench"
"""The folder in root's home that holds ``timeline`` and ``login``."""

LOOK_S = 0.2
"""Real seconds between two looks at whether SSH is up and the key there."""

FIRST_COMMAND = "sh -c " + shlex.quote(f"{{ read -r up _ </proc/uptime && echo $up >>~/{FOLDER}/login; }} 2>/dev/null; exit 0")
"""The command that proves SSH usable. It notes the instance's clock as well, which costs no process of its own."""

_DEAD_MAN = """\
touch ~/.no_auto_tmux
(
  sleep {seconds}
  at="{url}/api/v0/instances/$CONTAINER_ID/"
  while :; do
    curl -fsS -X DELETE -H "Authorization: Bearer $CONTAINER_API_KEY" -H 'Content-Type: application/json' -d '{{}}' "$at" ||
    wget -qO- --method=DELETE --header="Authorization: Bearer $CONTAINER_API_KEY" \\
      --header='Content-Type: application/json' --body-data='{{}}' "$at"
    sleep 30
  done
) >/tmp/vastbench-deadman.log 2>&1 &
"""

_TIMELINE = """\
(
  home=${HOME:-/root} port=22 sshd= key= n={looks}
  mkdir -p "$home/{folder}" && cd "$home/{folder}" && rm -f login || exit
  stamp() {
    up=
    read -r up _ </proc/uptime
    echo "$1 $up"
  }
  listens() { grep -qs "$socket" /proc/net/tcp /proc/net/tcp6; }
  has_key() {
    [ -r "$home/.ssh/authorized_keys" ] || return
    while read -r line; do
      case $line in *"{key}"*) return 0 ;; esac
    done <"$home/.ssh/authorized_keys"
    return 1
  }
  {
    stamp onstart_started
    read -r stat </proc/1/stat
    set -- ${stat##*) }
    echo "container_started ${20}"
    while read -r word value _; do
      case $word in [Pp]ort) port=$value && break ;; esac
    done </etc/ssh/sshd_config
    socket=$(printf ':%04X 0*:0000 0A' "$port")
    while [ $n -gt 0 ]; do
      n=$((n - 1))
      stamp look
      [ "$up" ] || exit
      [ $sshd ] || { listens && sshd=1 && stamp sshd_up; }
      [ $key ] || { has_key && key=1 && stamp key_installed; }
      [ "$sshd$key" = 11 ] && [ -e login ] && exit
      sleep {look_s} || sleep 1
    done
  } >timeline
) >/dev/null 2>&1 &
"""
# Only words that every shell knows, and one process a look (two while SSH is not up): the machine has other work. It looks
# until the first command has run, so that no jump of the clock goes unseen.


def onstart(url: str, lifetime_real_s: float, *, public_line: str, watch_real_s: float) -> str:
    """The instance's start script: no tmux at login, the dead-man's switch, and the timeline.

    The switch waits ``lifetime_real_s`` real seconds and then destroys the instance with the instance's own restricted key,
    without our process or our key. It needs curl or wget in the image and is a second line of defence behind the lease.
    For the timeline see :func:`timeline`.
    """
    dead_man = _DEAD_MAN.format(url=url, seconds=max(60, math.ceil(lifetime_real_s)))
    return dead_man + timeline(public_line, watch_real_s)


def timeline(public_line: str, watch_real_s: float) -> str:
    """The part that keeps the timeline, in the background.

    It waits for the key of ``public_line`` (one line of an ``authorized_keys`` file), at most ``watch_real_s`` real seconds.
    """
    values = {"looks": math.ceil(watch_real_s / LOOK_S), "folder": FOLDER, "key": public_line.split()[1], "look_s": LOOK_S}
    script = _TIMELINE
    for name, value in values.items():
        script = script.replace(f"{{{name}}}", str(value))
    return script
