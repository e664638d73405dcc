"""Sym-Net: the published method, and extensions beyond the paper."""
