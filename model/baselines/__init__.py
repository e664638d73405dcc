"""Baselines: prototypes, several prototypes, a linear probe."""
