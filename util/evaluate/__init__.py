"""Evaluation: the loop, metrics, the tests of a command, and results with their schema."""
