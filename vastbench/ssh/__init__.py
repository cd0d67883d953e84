"""The machine over SSH."""
