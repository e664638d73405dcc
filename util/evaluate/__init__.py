"""Evaluation: the loop, metrics, the jobs of a test, calibration, and results with their schema."""
