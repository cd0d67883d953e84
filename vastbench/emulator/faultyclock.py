"""Machines whose clock cannot be trusted: what their programs read from ``/proc/uptime`` is not what the kernel says.

A named pipe lies over the file; a process of the machine answers every reader with a figure of its own, computed from the
kernel's at that moment. Only a namespaced machine can have one.
"""

_PIPE = r"""
mkfifo -m 644 /run/uptime
exec 9</proc/uptime
mount --bind /run/uptime /proc/uptime
read -r now _ </proc/self/fd/9
first=${now%.*}${now#*.}
# A reader may be gone before its answer: that must not end the clock.
trap '' PIPE
while :; do
  exec 3>/run/uptime
  read -r now _ </proc/self/fd/9
  now=${now%.*}${now#*.} since=$(({since}))
  rest=$(((first + since) % 100))
  [ "$rest" -ge 10 ] || rest=0$rest
  echo "$(((first + since) / 100)).$rest 0.00" >&3 || :
  exec 3>&-
done </dev/null >/dev/null 2>&1 &
exec 9<&-
trap - PIPE
"""


def _served(since: str) -> str:
    """A clock that says ``since`` hundredths of a second since the boot, an expression of the true ``now`` and ``first``."""
    return _PIPE.replace("{since}", since)


FAULTS = {
    "steady": "",
    "skewed": _served("(now - first) * 2"),
    "jumping": _served("now - first + (now - first) / 70 % 2 * 300"),
    "missing": ": >/run/uptime; mount --bind /run/uptime /proc/uptime",
}
"""Shell text that spoils a machine's clock while it is built, by fault: twice too fast, three seconds on and back again every
0.7 s, an empty file."""
