"""The training-free prototype baseline."""
