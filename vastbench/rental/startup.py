"""What runs inside the instance by itself: the start script with its dead-man's switch, and the timeline that it keeps.

The timeline is a second instrument beside our polls: what the instance's own clock (``/proc/uptime``) showed when its container
started, its start script began, its SSH server listened and our key was installed. :mod:`vastbench.rental.guest_clock` reads
it.
"""

from __future__ import annotations

import math
import shlex
from datetime import datetime

FOLDER = ".vastbench"
"""The folder in root's home that holds ``timeline`` and ``login``."""

LOOK_S = 0.2
"""Real seconds between two looks at whether SSH is up and the key there."""

FIRST_COMMAND = "sh -c " + shlex.quote(f"{{ read -r up _ </proc/uptime && echo $up >>~/{FOLDER}/login; }} 2>/dev/null; exit 0")
"""The command that proves SSH usable. It notes the instance's clock as well, which costs no process of its own."""

SHORTEST_S = 60.0
"""Real seconds below which no switch waits, however fast the clock: a machine's own work does not get faster with it."""

SWITCH_LOOK_S = 5
"""Real seconds between two looks of the dead-man's switch at its deadline."""

TOOL = "(command -v curl || command -v python3 || (wget --help 2>&1 | grep -qe --method && command -v wget))"
"""The command that prints the path of what the switch can send its request with; it fails where the machine has nothing."""

_SWITCH = """\
export HOME="${HOME:-/root}"
touch ~/.no_auto_tmux
mkdir -p ~/{folder}
log=/tmp/vastbench-switch.log
true >$log || log=/dev/null
(
  set +eu
  cd ~/{folder} || cd /tmp
  now() {
    read -r up _ </proc/uptime && echo "${up%.*}" || date +%s
  }
  read -r boot </proc/sys/kernel/random/boot_id
  left=$(({epoch} - $(date +%s)))
  [ "$left" -gt {least} ] || left={least}
  [ "$left" -lt {seconds} ] || left={seconds}
  last=$(($(now) + left))
  read -r before <boot
  [ "$before" = "$boot" ] && [ -s until ] || { echo $last >until; echo "$boot" >boot; }
  fetch() {
    {tool} || {
      apt-get -qq -o Acquire::http::Timeout=20 update && apt-get -qq -y install curl ca-certificates
    }
  }
  while
    read -r until _ <until
    left=$((${until:-$last} - $(now)))
    [ $left -gt 0 ]
  do
    [ $left -lt $((({seconds} + 1) / 2)) ] && [ $((left % 60)) -lt 6 ] && { fetch & }
    sleep {look_s}
  done
  at="{url}/api/v0/instances/$CONTAINER_ID/"
  auth="Authorization: Bearer $CONTAINER_API_KEY" json='Content-Type: application/json'
  while :; do
    fetch
    curl -fsS -m 60 -X DELETE -H "$auth" -H "$json" -d '{}' "$at" ||
      wget -qO- -T 60 --method=DELETE --header="$auth" --header="$json" --body-data='{}' "$at" ||
      AT=$at python3 -c 'import os, urllib.request as u
u.urlopen(u.Request(os.environ["AT"], b"{}", {"Authorization": "Bearer " + os.environ["CONTAINER_API_KEY"],
"Content-Type": "application/json"}, method="DELETE"), timeout=60)'
    sleep 30
  done
) >$log 2>&1 &
echo $! "${CONTAINER_API_KEY:+key}" >~/{folder}/switch
"""
# It waits by the kernel's uptime, which no setting of the clock moves. The clock is asked once, so that a container that starts
# late does not live long beyond its deadline; one that goes wrong can shorten the wait, but not so far that a run that lives
# would feel it, and never lengthen it. A restart of the container finds `until` again, a restart of the machine (another boot
# id) begins anew. Where `until` cannot be read, as on a full disk, the switch knows its first deadline.

_EXTENSION = """\
cd ~/{folder} && read -r pid _ <switch && kill -0 "$pid" || exit
read -r up _ </proc/uptime && up=${up%.*} || up=$(date +%s)
echo $((up + {seconds})) >until.new && mv -f until.new until
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


def onstart(
    url: str, deadline: datetime, lifetime_real_s: float, least_real_s: float, *, public_line: str, watch_real_s: float
) -> str:
    """The instance's start script: no tmux at login, the dead-man's switch, and the timeline.

    At ``deadline`` by the machine's clock, but not before ``least_real_s`` and not after ``lifetime_real_s`` real seconds from
    its start (both at least :data:`SHORTEST_S`), the switch destroys the instance with the instance's own restricted key,
    without our process, our machine or our key. A restart of the container does not begin the wait anew. It needs curl, python3
    or GNU wget. Where the image has none, it tries to fetch curl with apt-get until it has one, and the request is sent until
    the instance is gone. :func:`extension` gives it a new deadline. For the timeline see :func:`timeline`.
    """
    seconds, least = (math.ceil(max(real_s, SHORTEST_S)) for real_s in (lifetime_real_s, least_real_s))
    switch = _filled(_SWITCH, epoch=int(deadline.timestamp()), seconds=seconds, least=least, url=url, look_s=SWITCH_LOOK_S)
    return switch + timeline(public_line, watch_real_s)


def extension(real_s: float) -> str:
    """The command that makes the switch wait ``real_s`` real seconds from now on. It fails where the switch does not run."""
    return _filled(_EXTENSION, seconds=math.ceil(real_s))


def timeline(public_line: str, watch_real_s: float) -> str:
    """The part that keeps the timeline, in the background.

    It waits for the key of ``public_line`` (one line of an ``authorized_keys`` file), at most ``watch_real_s`` real seconds.
    """
    return _filled(_TIMELINE, looks=math.ceil(watch_real_s / LOOK_S), key=public_line.split()[1], look_s=LOOK_S)


def _filled(script: str, **values: object) -> str:
    for name, value in {"folder": FOLDER, "tool": TOOL, **values}.items():
        script = script.replace(f"{{{name}}}", str(value))
    return script
