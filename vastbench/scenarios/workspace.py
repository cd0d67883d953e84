"""A workspace for drills: made and changed on the machine by one shell script, of all that a file system holds.

The script needs what every image has (a shell, awk, split, base64); where there is openssl, a seed makes the same content
again. What it made is not assumed by anybody: the manifest says it.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass

from vastbench.record.conditions import Conditions
from vastbench.ssh.session import CommandResult, Session

SMALL_IN_A_FOLDER = 400
"""Small files in one folder, about."""
MOST_TEXTS = 100
"""Files of text, at most; making one takes 10 ms."""

_RANDOM = r"""
set -eu
export LC_ALL=C
umask 022
cd -- "$folder"
random() {
  if command -v openssl >/dev/null; then
    openssl enc -aes-128-ctr -nosalt -md sha256 -pass "pass:$seed $1" -in /dev/zero 2>/dev/null | head -c "$2"
  else
    head -c "$2" /dev/urandom
  fi
}
lines() {
  awk -v seed="$1" -v most="$2" 'BEGIN {
    srand(seed)
    while (said < most) {
      line = sprintf("step %d loss %.4f rate %.5f\n", ++step, 4 * rand(), rand() / 1000)
      said += length(line)
      printf "%s", line
    }
  }' | head -c "$2"
}
"""

_MAKE = r"""
mkdir -p weights text small odd/inside empty sealed
for part in 1 2 3; do random "weights $part" $((part * bytes * 55 / 600)) >weights/$part.bin; done

each=$((bytes * 25 / 100 / texts)) one=0
while [ $one -lt $texts ]; do
  one=$((one + 1))
  random "text $one" $((each * 3 / 4 + 1)) | base64 -w 76 | head -c $each >text/$one.txt
done

folder_of=0 in_each=$((smalls / folders)) each=$((bytes * 15 / 100 / smalls + 1))
while [ $folder_of -lt $folders ]; do
  mkdir small/$folder_of
  size=$((each * (folder_of % 3 + 1) / 2 + 1))
  lines $((seed + folder_of)) $((size * in_each)) | split -a 4 -b $size - small/$folder_of/log.
  folder_of=$((folder_of + 1))
done

dd if=/dev/zero of=sparse bs=1 count=0 seek=$((bytes * 5 / 100 + 1)) 2>/dev/null
for name in 'new\nline' '-rf' '--files-from=x' ' spaces ' 'quo"te'"'"'s' '$(echo hi)' '*' \
  'no \0377\0376 text' 'caf\0303\0251'; do
  printf '%s' "$name" >"odd/$(printf %b "$name")"
done
: >nothing
ln -s weights/1.bin current
ln -s "$folder/text" absolute
ln -s /nowhere/at/all dangling
ln weights/2.bin linked
ln small/0/log.aaaa odd/inside/linked
mkfifo pipe
chmod 600 text/1.txt
chmod 4755 weights/1.bin
chmod 1777 empty
chown 1000:1000 nothing 2>/dev/null || :
printf 'sealed\n' >sealed/file
if [ "$(id -u)" = 0 ]; then chmod 000 sealed/file; chmod 500 sealed; fi
"""

_CHANGE = r"""
random "weights again" $((bytes * 55 / 600)) >weights/1.bin
printf 'one more line\n' >>text/1.txt
rm -r small/1
mkdir -p small/new/deep
lines "$seed" 2000 | split -a 4 -b 100 - small/new/deep/log.
ln -sfn text current
rm dangling
printf 'a file now\n' >dangling
rmdir empty
printf 'a file now\n' >empty
rm sparse
mkdir sparse
printf 'in a folder now\n' >sparse/file
cp -p odd/inside/linked odd/inside/apart
mv odd/inside/apart odd/inside/linked
ln text/1.txt 'linked too'
chmod 640 text/1.txt
chmod 700 odd
mv odd/-rf odd/--rf
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace of about so many ``files`` and ``size_bytes``, below ``folder``; equal seeds make equal ones.

    Half of the bytes compress as badly as weights do, a quarter as text in base64, the rest as logs.
    """

    folder: str
    seed: int
    files: int
    size_bytes: int

    @classmethod
    def of_run(cls, run_id: str, conditions: Conditions, folder: str) -> Workspace:
        """The workspace that a run's ``conditions`` ask for, with a seed of its own."""
        seed = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:3], "big")
        return cls(folder, seed, conditions.files or 0, int(1e6 * (conditions.size_mb or 0.0)))

    def make(self, session: Session, timeout_s: float) -> CommandResult:
        """Make it; what :meth:`vastbench.ssh.session.Session.run` raises."""
        session.run(f"mkdir -p -- {shlex.quote(self.folder)}")
        return self._run(session, _MAKE, timeout_s)

    def change(self, session: Session, timeout_s: float) -> CommandResult:
        """Change a tenth of its bytes: files rewritten, added, removed, renamed, replaced by other kinds, links and modes."""
        return self._run(session, _CHANGE, timeout_s)

    def _run(self, session: Session, script: str, timeout_s: float) -> CommandResult:
        texts = min(max(1, self.files // 10), MOST_TEXTS)
        smalls = max(6, self.files - texts - 18)  # 18: weights, odd names, links, a file for each kind of mode
        folders = max(3, smalls // SMALL_IN_A_FOLDER)
        numbers = {"seed": self.seed, "bytes": self.size_bytes, "texts": texts, "smalls": smalls, "folders": folders}
        known = "".join(f"{name}={value}\n" for name, value in numbers.items())
        whole = f"folder={shlex.quote(self.folder)}\n{known}{_RANDOM}{script}"
        return session.run(f"sh -c {shlex.quote(whole)}", timeout_s=timeout_s)
