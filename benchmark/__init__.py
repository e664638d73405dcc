"""Time and memory of the models against plain references: ``python -m benchmark``."""
