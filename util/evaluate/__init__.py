"""Evaluation: the loop, metrics, the jobs of a test, calibration, results and their verification."""
