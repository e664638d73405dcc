"""Segment in photos the objects marked on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

import sys

from util.packages import loaded

with loaded():
    from util import cli
    from util.predict.command import command

if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]))
