"""Machines whose clock cannot be trusted: what their programs read from ``/proc/uptime`` is not what the kernel says.

Another file lies over it, and a process of the machine writes that one anew a hundred times a second. Only a namespaced machine
can have one.
"""

_WRITTEN = r"""
exec 9</proc/uptime
read -r now _ </proc/self/fd/9
first=${now%.*}${now#*.}
tell() {
  read -r now _ </proc/self/fd/9
  now=${now%.*}${now#*.}
  shown=$((first + {since}))
  rest=$((shown % 100))
  [ "$rest" -ge 10 ] || rest=0$rest
  # Written over the old text, which has the same length, so that no reader ever finds a part of it.
  echo "$((shown / 100)).$rest 0.00" 1<>/run/uptime
}
tell
mount --bind /run/uptime /proc/uptime
while tell; do
  sleep 0.01
done </dev/null >/dev/null 2>&1 &
exec 9<&-
"""


def _written(since: str) -> str:
    """A clock that shows ``since`` hundredths more than at first, an expression of the true ``now`` and ``first``."""
    return _WRITTEN.replace("{since}", since)


FAULTS = {
    "steady": "",
    "skewed": _written("(now - first) * 2"),
    "jumping": _written("now - first + (now - first) / 30 % 2 * 300"),
    "missing": ": >/run/uptime; mount --bind /run/uptime /proc/uptime",
}
"""Shell text that spoils a machine's clock while it is built, by fault: twice too fast, three seconds on and back again every
0.3 s, an empty file."""
