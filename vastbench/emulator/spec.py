"""What an emulated machine is told about itself."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """The rented hardware and the start-up script of one instance.

    ``gpu_name`` is the marketplace's name ("RTX 4090"), ``gpu_ram_mb`` MiB per GPU, ``disk_gb`` the rented disk in GB,
    ``onstart`` the script that runs at every boot (None: none), ``image`` what it was made from, ``inet_down`` Mbit/s into it,
    ``clock`` what is wrong with the clock that its programs see (a key of :data:`vastbench.emulator.faultyclock.FAULTS`),
    ``full_disk`` whether nothing can be written to its disk, ``bare`` whether its image has nothing to send HTTP requests with,
    ``chatty`` whether its start-up files print something at every login.
    """

    id: int
    hostname: str
    gpu_name: str
    gpu_count: int
    gpu_ram_mb: int
    driver_version: str
    cuda_version: str
    disk_gb: float
    onstart: str | None
    image: str = ""
    inet_down: float = 1000.0
    clock: str = "steady"
    full_disk: bool = False
    bare: bool = False
    chatty: bool = False


@dataclass(frozen=True, slots=True)
class SshDelays:
    """How slow an SSH endpoint is: emulated seconds, drawn per connection (``login_s``) and per command (``command_s``)."""

    login_s: Callable[[], float]
    command_s: Callable[[], float]
