"""vastbench: how long until a rented GPU is useful, what it costs, where the time goes, and how sure we are."""
