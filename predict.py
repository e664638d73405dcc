"""Segment in photos the objects annotated on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import sys

from photos.command import calibrate, parsed_from, predict, share
from util import cli


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code; what the page needs is imported for it alone."""
    if arguments[:1] == ["share"]:
        return share(arguments[1:])
    parsed = parsed_from(arguments)
    if parsed.calibrate:
        return calibrate(parsed)
    if parsed.serve:
        from photos.page.server import serve

        return serve(parsed)
    return predict(parsed)


if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]))
