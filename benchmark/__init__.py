"""Measure time and memory of the models and of plain references: ``python -m benchmark``."""
