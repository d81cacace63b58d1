"""A run, from a configuration to a folder; and a grid of runs."""
