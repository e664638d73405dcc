"""Evaluation: the tests of a command, and their results with a schema."""
