"""The error of weights and sizes that do not fit a model."""


class ModelMismatch(ValueError):
    """Weights or sizes that do not fit the model; the message names them and the expected ones."""
