"""Measure time and memory of the models and of plain references, side by side."""

from __future__ import annotations

import sys
from importlib import import_module

from util import cli

COMMANDS = ("speed", "memory", "loader", "scaling", "images", "profile", "switches", "encoders", "whole", "gpu")


def command() -> int:
    """Run the command that the command line names, and return the exit code."""
    named = [word for word in sys.argv[1:2] if word in COMMANDS] or COMMANDS  # the others need more packages than gpu
    modules = {name: import_module(f"benchmark.{name}") for name in named}
    return cli.run_one_of(modules, __doc__, "python -m benchmark")


if __name__ == "__main__":
    cli.main(command)
