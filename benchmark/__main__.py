"""Time and memory beside plain references: ``python -m benchmark speed|memory|loader|scaling|profile|switches``."""

from __future__ import annotations

from benchmark import loader, memory, profile, scaling, speed, switches
from util import cli

COMMANDS = {
    "speed": speed,
    "memory": memory,
    "loader": loader,
    "scaling": scaling,
    "profile": profile,
    "switches": switches,
}


def command() -> int:
    """Parse, call."""
    return cli.run_one_of(COMMANDS, __doc__, "python -m benchmark")


if __name__ == "__main__":
    cli.main(command)
