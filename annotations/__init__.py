"""Annotations of other programs: a module for each format reads it into one form and writes predictions."""
