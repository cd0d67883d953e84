"""Where runs, phases and leases are kept."""

from vastbench.store.store import LeaseRow, Store

__all__ = ["LeaseRow", "Store"]
