"""Running notebooks with checked parameters."""
