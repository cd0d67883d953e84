"""Pure analysis: no network, no disk, no clock."""
