"""Profiles for tests that ask what is done, not how often or when."""

from pathlib import Path

CERTAIN = """
extends = "cached"
about = "The cached profile without its failures and long waits: for tests that ask what is done, not how often or when"
[boot]
running = { kind = "fixed", value = 15, basis = "assumption" }
restart = { kind = "fixed", value = 10, basis = "assumption" }
never = { p = 0, basis = "assumption" }
oci_error = { p = 0, basis = "assumption" }
exits = { p = 0, basis = "assumption" }
gpu_taken = { p = 0, basis = "assumption" }
[ssh]
accepts = { kind = "fixed", value = 2, basis = "assumption" }
account_key_lag = { kind = "fixed", value = 1, basis = "assumption" }
attached_key_lag = { kind = "fixed", value = 10, basis = "assumption" }
auth_never = { p = 0, basis = "assumption" }
[market]
machines = { value = 200, basis = "assumption" }
offer_gone = { p = 0, basis = "assumption" }
offer_gone_stale = { p = 0, basis = "assumption" }
[lag]
logs = { kind = "fixed", value = 5, basis = "assumption" }
charges = { kind = "fixed", value = 140, basis = "assumption" }
"""


def certain(folder: Path) -> Path:
    """A profile file in which nothing fails by chance and little is waited for."""
    path = folder / "certain.toml"
    path.write_text(CERTAIN)
    return path
