"""The error of weights and sizes that do not fit a model."""

from __future__ import annotations


class Mismatch(ValueError):
    """Weights or sizes that do not fit the model; the message names them and the expected ones."""
