"""Sym-Net: the published method (``symnet.py``) and its extension beyond the paper (``symnet_plus.py``)."""
