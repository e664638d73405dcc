"""Modules named as packages that a GPU machine may lack, without effect; found only where the package is missing."""
