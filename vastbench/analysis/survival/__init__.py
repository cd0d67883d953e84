"""Distributions of durations known within bounds."""
