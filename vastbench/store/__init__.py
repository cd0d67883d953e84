"""Where studies, runs, phases and leases are kept."""

from vastbench.store.store import Announcement, LeaseRow, Store

__all__ = ["Announcement", "LeaseRow", "Store"]
