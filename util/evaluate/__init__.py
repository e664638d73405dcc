"""Evaluation: the loop, metrics, the tests of a command, calibration, and results with their schema."""
