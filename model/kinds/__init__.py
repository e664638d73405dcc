"""Kinds of methods: corrected by a base learner, without training, on foundation models."""
