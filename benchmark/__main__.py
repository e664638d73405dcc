"""Measure time and memory of the models and of plain references, side by side."""

from __future__ import annotations

from benchmark import encoders, loader, memory, profile, scaling, speed, switches
from util import cli

COMMANDS = {
    "speed": speed,
    "memory": memory,
    "loader": loader,
    "scaling": scaling,
    "profile": profile,
    "switches": switches,
    "encoders": encoders,
}


def command() -> int:
    """Run the command that the command line names, and return the exit code."""
    return cli.run_one_of(COMMANDS, __doc__, "python -m benchmark")


if __name__ == "__main__":
    cli.main(command)
