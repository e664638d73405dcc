"""Pocket: a network for a laptop, whose encoder learns with it."""
