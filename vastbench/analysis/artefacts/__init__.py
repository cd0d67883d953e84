"""What timings show of how they were measured."""
