"""Time and memory beside plain references: ``python -m benchmark speed|memory|loader|scaling|profile``."""

from __future__ import annotations

import textwrap
from argparse import RawDescriptionHelpFormatter

from benchmark import loader, memory, profile, scaling, speed
from util import cli

COMMANDS = {"speed": speed, "memory": memory, "loader": loader, "scaling": scaling, "profile": profile}


def command() -> int:
    """Parse, call."""
    parser = cli.Parser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="what")
    for name, module in COMMANDS.items():
        description = textwrap.dedent(module.__doc__)
        sub = commands.add_parser(
            name,
            help=description.splitlines()[0],
            description=description,
            formatter_class=RawDescriptionHelpFormatter,
        )
        module.add_options(sub)
        sub.set_defaults(run=module.run)
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    cli.main(command)
