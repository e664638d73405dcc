"""The error of weights and sizes that do not fit a method."""


class ModelMismatch(ValueError):
    """Weights or sizes that do not fit the method; the message names them and the expected ones."""
