"""The shell commands in Python: one run, and all runs of a table."""
