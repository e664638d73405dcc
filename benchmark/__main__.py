"""Time and memory beside plain references: ``python -m benchmark speed|memory|loader|scaling|profile``."""

from __future__ import annotations

from benchmark import loader, memory, profile, scaling, speed
from util import cli

COMMANDS = {"speed": speed, "memory": memory, "loader": loader, "scaling": scaling, "profile": profile}


def command() -> int:
    """Parse, call."""
    return cli.run_one_of(COMMANDS, __doc__, "python -m benchmark")


if __name__ == "__main__":
    cli.main(command)
