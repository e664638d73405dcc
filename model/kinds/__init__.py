"""Base classes of kinds of methods: with a base learner, without training, on foundation models."""
