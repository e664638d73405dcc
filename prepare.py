"""From raw downloads to ready: ``python prepare.py pascal|coco|lists|embeddings|weights|mini|custom|check``."""

from __future__ import annotations

import textwrap
from argparse import RawDescriptionHelpFormatter

from util import cli
from util.prepare import coco, custom, doctor, embeddings, lists, mini, pascal, weights

COMMANDS = {
    "pascal": pascal,
    "coco": coco,
    "lists": lists,
    "embeddings": embeddings,
    "weights": weights,
    "mini": mini,
    "custom": custom,
    "check": doctor,
}


def command() -> int:
    """Parse, call."""
    parser = cli.Parser(description=__doc__)
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
