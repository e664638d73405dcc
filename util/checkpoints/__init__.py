"""Checkpoints: one format, what a run starts from, and the checks before it continues."""
