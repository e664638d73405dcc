"""Sym-Net's ideas, each beside plain loops over positions from the paper's formulas in float64: self-activation prior,
pooled and 4D correlation, hard triplets, alignment with text, hybrid prototype.
"""
