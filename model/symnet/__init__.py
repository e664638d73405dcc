"""Sym-Net."""
