"""PFENet: prior guided feature enrichment."""
