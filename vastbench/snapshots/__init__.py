"""Snapshots of a folder on a machine: taken over its SSH connection, kept in a place, restored on another machine.

>>> place = open_place("snapshots")                                       # doctest: +SKIP
>>> full = take(machine.session, "/workspace/job", place)                 # doctest: +SKIP
>>> later = take(machine.session, "/workspace/job", place, parent=full)   # doctest: +SKIP
>>> restore(other.session, later, place, "/workspace/job")                # doctest: +SKIP
>>> check(read_manifest(other.session, "/workspace/job"), manifest_of(later, place))  # doctest: +SKIP
"""

from vastbench.snapshots.keeping import Restored, limit_s, restore, take, verify
from vastbench.snapshots.manifest import Difference, Entry, Manifest, check, compare, read_manifest
from vastbench.snapshots.place import LocalPlace, Place, kept_in, open_place
from vastbench.snapshots.restic import Repository
from vastbench.snapshots.snapshot import Snapshot, find_snapshot, manifest_of, snapshots_in

__all__ = [
    "Difference",
    "Entry",
    "LocalPlace",
    "Manifest",
    "Place",
    "Repository",
    "Restored",
    "Snapshot",
    "check",
    "compare",
    "find_snapshot",
    "kept_in",
    "limit_s",
    "manifest_of",
    "open_place",
    "read_manifest",
    "restore",
    "snapshots_in",
    "take",
    "verify",
]
