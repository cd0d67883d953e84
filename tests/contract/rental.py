"""Renting with the official client, and waiting for the machine by the emulator's own log of the truth."""

from typing import Any

from tests.contract.emulation import Emulation, until
from tests.contract.official import Client


def cheapest(vastai: Client, count: int = 1) -> list[int]:
    """The ids of the cheapest single RTX 4090 offers with direct ports."""
    query = "gpu_name=RTX_4090 num_gpus=1 direct_port_count>0"
    return [offer["id"] for offer in vastai.raw("search", "offers", query, "-o", "dph", "--limit", count)]


def create(vastai: Client, offer: int, *words: str) -> int:
    """Rent the offer with ``create instance``; the new instance's id."""
    made = vastai.raw("create", "instance", offer, "--image", "ubuntu:22.04", "--disk", 16, *words)
    assert made["success"], made
    return int(made["new_contract"])


def show(vastai: Client, instance: int) -> dict[str, Any]:
    """The instance as ``show instance --raw`` prints it."""
    row = vastai.raw("show", "instance", instance)
    assert isinstance(row, dict), row
    return row


def until_ready(emulator: Emulation, instance: int, *, boot: int = 1) -> None:
    """Wait until the instance's SSH has opened for the ``boot``-th time and lets a registered key in."""
    opened = emulator.until_event(instance, "ssh_open", count=boot)

    def ready() -> bool:
        return any(one["event"] == "ssh_ready" and one["ns"] >= opened["ns"] for one in emulator.events(instance))

    until(ready, f"instance {instance}: a key in place")
