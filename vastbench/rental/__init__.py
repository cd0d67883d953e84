"""From an offer to a machine that runs commands, and back."""
