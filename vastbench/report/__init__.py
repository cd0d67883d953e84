"""Runs as text, HTML and JSON."""
