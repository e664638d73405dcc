"""Downloads and own annotations become folders, lists and configs: a module per sub-command of ``prepare.py``.

Each has ``add_options(parser)`` and ``run(options) -> exit code``; its docstring's first sentence is its help.
"""
