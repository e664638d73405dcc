"""Shared by methods with a base learner: base stage, ensemble, shot weights (after BAM)."""
