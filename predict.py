"""Segment in photos the objects annotated on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import sys

from photos.command import command
from util import cli

if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]), writes_files=True)
