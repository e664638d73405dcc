"""Kinds of methods: without training, on foundation models, of base and novel classes at once."""
