"""Segment in photos the objects marked on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import sys

from util import cli
from util.export.export import export
from util.labelstudio.server import serve as serve_label_studio
from util.page.server import serve
from util.predict.command import parser, predict, publish

COMMANDS = {"export": export, "publish": publish}  # by the first word; else predictions, or a server


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code."""
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    options = parser().parse_args(arguments)
    if options.label_studio:
        return serve_label_studio(options)
    return serve(options) if options.serve else predict(options)


if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]))
