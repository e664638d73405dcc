"""Shared by several methods: tensor operations, losses, prototypes, decoder heads, one encoder for an episode."""
