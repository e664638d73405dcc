"""Conversion of official downloads to the files that the configs expect: one module per sub-command of ``prepare.py``.

Each has ``add_options(parser)`` and ``run(options) -> exit code``; the first sentence of its docstring is its help.
"""
