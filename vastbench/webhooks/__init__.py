"""Signed notifications of what happens; nothing ever waits for one."""

from vastbench.webhooks.events import Event
from vastbench.webhooks.notifier import Notifier

__all__ = ["Event", "Notifier"]
