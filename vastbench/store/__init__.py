"""Where studies, runs, phases and leases are kept."""

from vastbench.record.lease import Announcement, LeaseRow
from vastbench.store.store import Store

__all__ = ["Announcement", "LeaseRow", "Store"]
